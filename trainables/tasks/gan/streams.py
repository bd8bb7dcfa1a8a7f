"""Random streams of a generative adversarial network; their state is part of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from trainables.seeding import generator

__all__ = ["GanStreams"]


@dataclass(frozen=True, slots=True)
class GanStreams:
    """Streams on the host, so that a trial has the same batches, variations and noise on any device.

    >>> streams = GanStreams.from_seed(0)
    >>> before = streams.state()
    >>> first = torch.rand(3, generator=streams.noise)
    >>> streams.restore(before)
    >>> torch.equal(torch.rand(3, generator=streams.noise), first)
    True
    """

    order: torch.Generator
    augmentation: torch.Generator
    noise: torch.Generator

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """Return new streams for a seed."""
        return cls(generator(seed, "order"), generator(seed, "augmentation"), generator(seed, "gan noise"))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of each stream."""
        return {name: getattr(self, name).get_state() for name in self.__slots__}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a state that `state` returned."""
        for name in self.__slots__:
            getattr(self, name).set_state(state[name])
