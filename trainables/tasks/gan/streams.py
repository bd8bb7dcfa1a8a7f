"""The random streams that a generative adversarial network consumes; their state is part of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from trainables.seeding import generator

__all__ = ["GanStreams"]


@dataclass(frozen=True, slots=True)
class GanStreams:
    """All on the host, so that a trial sees the same batches, variations and noise on any device.

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
        """Fresh streams at their beginning."""
        return cls(generator(seed, "order"), generator(seed, "augmentation"), generator(seed, "gan noise"))

    def state(self) -> dict[str, torch.Tensor]:
        """Where each stream stands."""
        return {name: getattr(self, name).get_state() for name in self.__slots__}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue where `state` was taken."""
        for name in self.__slots__:
            getattr(self, name).set_state(state[name])
