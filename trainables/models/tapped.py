"""Interface of all classifiers: activations that can be read by name, and hidden states that can be mixed by name.

A *tap* is a named activation that can be read. A *boundary* is a named place where hidden states can be mixed. At a
boundary that is also a tap, the tap is read before the mixture.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables import mixup
from trainables.errors import short_repr
from trainables.mixup import Mix, Shift

__all__ = ["ALL", "HIDDEN", "INPUT", "LOGITS", "PENULTIMATE", "Activations", "Part", "TappedClassifier"]

INPUT, PENULTIMATE, LOGITS = "input", "penultimate", "logits"
HIDDEN, ALL = "hidden", "all"


@dataclass(frozen=True, slots=True)
class Activations:
    """Logits (B, K) and the requested taps (B, ...), by name."""

    logits: Tensor
    taps: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Part:
    """Module whose output a tap is: its class, and the number of parameters in it."""

    kind: str
    parameters: int


class TappedClassifier(nn.Module, ABC):
    """Classifier of images in [0, 1], with named taps and boundaries.

    The mean and standard deviation of the training images are buffers, so that attacks and mixtures act on pixels.

    taps: those of the group 'all', in order; boundaries: the same, beginning with 'input'.
    readable, mixable: every tap and boundary that can be named, in order, with those of the groups.
    unnamed: modules that cannot be named, each with the reason.
    """

    mean: Tensor
    std: Tensor
    taps: tuple[str, ...]
    boundaries: tuple[str, ...]

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    @property
    def readable(self) -> tuple[str, ...]:
        """Every tap that can be named, in order."""
        return self.taps

    @property
    def mixable(self) -> tuple[str, ...]:
        """Every boundary that can be named, in order."""
        return self.boundaries

    @property
    def unnamed(self) -> Mapping[str, str]:
        """Modules that cannot be named, each with the reason."""
        return {}

    def standardise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the mean and deviation of the training images: one number, or one per channel."""
        self.mean.copy_(torch.tensor(mean).reshape(1, -1, 1, 1))
        self.std.copy_(torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K) of images in [0, 1]."""
        return self.features(x_BCHW).logits

    @abstractmethod
    def features(self, x_BCHW: Tensor, *, mix: Mix | Shift | None = None, taps: Collection[str] = ()) -> Activations:
        """Return logits and the taps in `taps`, with the hidden state mixed at the boundary of `mix`.

        Raises:
            ValueError: a tap or boundary that this model does not have.
        """

    @abstractmethod
    def follows(self, tap: str, boundary: str) -> bool:
        """Return True if a tap comes after the mixture at a boundary; a tap at the boundary itself is read before."""

    @abstractmethod
    def part(self, tap: str) -> Part | None:
        """Return the module whose output a tap is; None if it is that of no module."""

    @abstractmethod
    def chain(self) -> Mapping[str, nn.Module]:
        """Return modules by name whose composition maps normalised images to logits.

        Raises:
            TypeError: the network is no such chain; says why.
        """

    def _check(self, mix: Mix | Shift | None, taps: Collection[str]) -> None:
        unknown = [tap for tap in taps if tap not in self.readable]
        if unknown:
            raise ValueError(f"taps: must be among {self.readable}, got {unknown}")
        if mix is not None and mix.boundary not in self.mixable:
            raise ValueError(f"mix.boundary: must be one of {self.mixable}, got {short_repr(mix.boundary)}")

    def _normalised(self, x_BCHW: Tensor, mix: Mix | Shift | None) -> Tensor:
        mixed_BCHW = x_BCHW if mix is None or mix.boundary != INPUT else mixup.apply(x_BCHW, mix)
        return (mixed_BCHW - self.mean) / self.std
