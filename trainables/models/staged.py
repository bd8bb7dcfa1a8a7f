"""Structure of the networks of this package: normalisation, a chain of named stages, a linear head.

Its taps are each stage's output, the last of them called 'penultimate', and 'logits'. A stage ends after its
nonlinearity, but in a pre-activation network before it (see `residual`). Its boundaries are 'input', and after each
stage but the penultimate. Blocks within a stage can be read, too, if they have names.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables import mixup
from trainables.mixup import Mix, Shift
from trainables.models.tapped import INPUT, LOGITS, PENULTIMATE, Activations, Part, TappedClassifier

__all__ = ["NO_DROPOUT", "Blocks", "StagedClassifier"]

NO_DROPOUT: Final[Mapping[str, float]] = MappingProxyType({})

Blocks = Mapping[str, Mapping[int, str]]
"""Names of the blocks of each stage, by their place in its chain of modules."""
NO_BLOCKS: Final[Blocks] = MappingProxyType({})


@final
class StagedClassifier(TappedClassifier):
    """Classifier of images in [0, 1] with named stages; the last stage must be 'penultimate'.

    `dropout` has the probabilities with which training zeroes the outputs of stages. A tap is read, and a hidden state
    mixed, before it. The outputs of `blocks` can be read by name, and are in no group.

    >>> stages = {"fc1": nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()), "penultimate": nn.ReLU()}
    >>> model = StagedClassifier(stages, nn.Linear(3, 2), channels=1)
    >>> model.taps, model.boundaries
    (('fc1', 'penultimate', 'logits'), ('input', 'fc1'))
    >>> model(torch.zeros(5, 1, 2, 2)).shape, model.features(torch.zeros(5, 1, 2, 2), taps=["fc1"]).taps["fc1"].shape
    (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        head: nn.Module,
        *,
        channels: int,
        dropout: Mapping[str, float] = NO_DROPOUT,
        blocks: Blocks = NO_BLOCKS,
    ) -> None:
        super().__init__(channels=channels)
        if not stages or list(stages)[-1] != PENULTIMATE:
            raise ValueError(f"stages: the last must be {PENULTIMATE!r}, got {list(stages)}")
        self.stages = nn.ModuleDict(stages)
        self.head = head
        self.dropout = dict(dropout)
        self.taps = (*stages, LOGITS)
        self.boundaries = (INPUT, *list(stages)[:-1])
        self.blocks = dict(blocks)

    @property
    def readable(self) -> tuple[str, ...]:
        """Every tap that can be named, in order: the blocks of a stage, then the stage."""
        return (*(tap for stage in self.stages for tap in (*self._blocks_of(stage).values(), stage)), LOGITS)

    def features(self, x_BCHW: Tensor, *, mix: Mix | Shift | None = None, taps: Collection[str] = ()) -> Activations:
        """Return logits and the taps in `taps`, with the hidden state mixed at the boundary of `mix`.

        Raises:
            ValueError: a tap or boundary that this model does not have.
        """
        self._check(mix, taps)
        read: dict[str, Tensor] = {}
        h = self._normalised(x_BCHW, mix).contiguous(memory_format=torch.channels_last)
        for name, stage in self.stages.items():
            h = self._through(name, stage, h, taps=taps, read=read)
            if name in taps:
                read[name] = h
            h = _mixed(h, name, mix=mix)
            if self.training and self.dropout.get(name):
                h = functional.dropout(h, self.dropout[name])
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
        stage = next((name for name in self.stages if tap in self._blocks_of(name).values()), tap)
        return stage not in self.boundaries or self.boundaries.index(stage) > self.boundaries.index(boundary)

    def part(self, tap: str) -> Part | None:
        """Return the block, stage or head whose output a tap is."""
        blocks = {
            name: list(self.stages[stage].children())[index]
            for stage, names in self.blocks.items()
            for index, name in names.items()
        }
        module = {**blocks, **self.chain()}[tap]
        return Part(type(module).__name__, sum(parameter.numel() for parameter in module.parameters()))

    def chain(self) -> Mapping[str, nn.Module]:
        """Return the stages by name, and the head as 'logits'."""
        return {**self.stages, LOGITS: self.head}

    def _through(
        self, name: str, stage: nn.Module, h: Tensor, *, taps: Collection[str], read: dict[str, Tensor]
    ) -> Tensor:
        """Return a stage's output, and read its blocks; the same operations with and without them."""
        blocks = {index: block for index, block in self._blocks_of(name).items() if block in taps}
        if not blocks:
            out: Tensor = stage(h)
            return out
        for index, module in enumerate(stage.children()):
            h = module(h)
            if index in blocks:
                read[blocks[index]] = h
        return h

    def _blocks_of(self, stage: str) -> Mapping[int, str]:
        return self.blocks.get(stage, {})


def _mixed(h: Tensor, boundary: str, *, mix: Mix | Shift | None) -> Tensor:
    return h if mix is None or mix.boundary != boundary else mixup.apply(h, mix)
