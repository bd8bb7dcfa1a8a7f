"""Structure of all classifiers: normalisation, a chain of named stages, a linear head.

A *tap* is a named activation that can be read: each stage's output, the last of them called
'penultimate', and 'logits'. A stage ends after its nonlinearity, but in a pre-activation network before
it (see `residual`). A *boundary* is a place where hidden states can be mixed: 'input', and after each
stage but the penultimate. At a boundary that is also a tap, the tap is read before the mixture.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from trainables import mixup
from trainables.errors import short_repr
from trainables.mixup import Mix

__all__ = ["INPUT", "LOGITS", "PENULTIMATE", "Activations", "StagedClassifier"]

INPUT, PENULTIMATE, LOGITS = "input", "penultimate", "logits"


@dataclass(frozen=True, slots=True)
class Activations:
    """Logits (B, K) and the requested taps (B, ...), by name."""

    logits: Tensor
    taps: Mapping[str, Tensor]


@final
class StagedClassifier(nn.Module):
    """Classifier of images in [0, 1] with named stages; the last stage must be 'penultimate'.

    The mean and standard deviation of the training images are buffers, so that attacks and mixtures
    act on pixels.

    >>> stages = {"fc1": nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()), "penultimate": nn.ReLU()}
    >>> model = StagedClassifier(stages, nn.Linear(3, 2), channels=1)
    >>> model.taps, model.boundaries
    (('fc1', 'penultimate', 'logits'), ('input', 'fc1'))
    >>> model(torch.zeros(5, 1, 2, 2)).shape, model.features(torch.zeros(5, 1, 2, 2), taps=["fc1"]).taps["fc1"].shape
    (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, stages: Mapping[str, nn.Module], head: nn.Module, *, channels: int) -> None:
        super().__init__()
        if not stages or list(stages)[-1] != PENULTIMATE:
            raise ValueError(f"stages: the last must be {PENULTIMATE!r}, got {list(stages)}")
        self.stages = nn.ModuleDict(stages)
        self.head = head
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))
        self.taps: tuple[str, ...] = (*stages, LOGITS)
        self.boundaries: tuple[str, ...] = (INPUT, *list(stages)[:-1])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K) of images in [0, 1]."""
        return self.features(x_BCHW).logits

    def features(self, x_BCHW: Tensor, *, mix: Mix | None = None, taps: Collection[str] = ()) -> Activations:
        """Return logits and the taps in `taps`, with the hidden state mixed at the boundary of `mix`.

        Raises:
            ValueError: a tap or boundary that this model does not have.
        """
        self._check(mix, taps)
        read: dict[str, Tensor] = {}
        h = (_mixed(x_BCHW, INPUT, mix=mix) - self.mean) / self.std
        h = h.contiguous(memory_format=torch.channels_last)
        for name, stage in self.stages.items():
            h = stage(h)
            if name in taps:
                read[name] = h
            h = _mixed(h, name, mix=mix)
        logits = self.head(h)
        if LOGITS in taps:
            read[LOGITS] = logits
        return Activations(logits, read)

    def follows(self, tap: str, boundary: str) -> bool:
        """Return True if a tap comes after the mixture at a boundary; a tap at the boundary itself is read before.

        >>> stages = {"fc1": nn.Linear(4, 3), "fc2": nn.Linear(3, 3), "penultimate": nn.ReLU()}
        >>> model = StagedClassifier(stages, nn.Linear(3, 2), channels=1)
        >>> [model.follows(tap, "fc1") for tap in ("fc1", "fc2", "logits")]
        [False, True, True]
        """
        return tap not in self.boundaries or self.boundaries.index(tap) > self.boundaries.index(boundary)

    def _check(self, mix: Mix | None, taps: Collection[str]) -> None:
        unknown = [tap for tap in taps if tap not in self.taps]
        if unknown:
            raise ValueError(f"taps: must be among {self.taps}, got {unknown}")
        if mix is not None and mix.boundary not in self.boundaries:
            raise ValueError(f"mix.boundary: must be one of {self.boundaries}, got {short_repr(mix.boundary)}")


def _mixed(h: Tensor, boundary: str, *, mix: Mix | None) -> Tensor:
    return h if mix is None or mix.boundary != boundary else mixup.apply(h, mix)
