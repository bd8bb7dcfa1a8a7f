"""Averaged weights of those members that average. Shapes: R members that average, P parameters of one of them."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from trainables.batched.weights import Layout
from trainables.engine.optimization.optimization import WeightAverage

__all__ = ["StackedAverage"]


@final
class StackedAverage:
    """Exponential moving averages as rows, each with its own decay and count: `WeightAverage`, stacked."""

    def __init__(self, averages: Sequence[WeightAverage | None], decays: Sequence[float], layout: Layout) -> None:
        self._layout = layout
        own = {member: average for member, average in enumerate(averages) if average is not None}
        self.members = tuple(own)
        self._decays = [decays[member] for member in own]
        self._updates = [average.updates for average in own.values()]
        rows = [layout.row(average.model.parameters()) for average in own.values()]
        self.rows_RP = torch.stack(rows) if rows else torch.empty(0)

    @torch.no_grad()
    def update(self, rows_MP: Tensor) -> None:
        """Move towards the weights of the members; the first update of a member copies them."""
        if not self.members:
            return
        decays = [
            min(decay, (1 + updates) / (10 + updates)) if updates else 0.0
            for decay, updates in zip(self._decays, self._updates, strict=True)
        ]
        share_R1 = torch.tensor([1 - decay for decay in decays], device=rows_MP.device)[:, None]
        self.rows_RP.lerp_(rows_MP[list(self.members)], share_R1)
        self._updates = [updates + 1 for updates in self._updates]

    def evaluated(self, rows_MP: Tensor) -> Tensor:
        """Return the rows to evaluate: the averaged ones of members that average."""
        if not self.members:
            return rows_MP
        rows_MP = rows_MP.clone()
        rows_MP[list(self.members)] = self.rows_RP
        return rows_MP

    def unload(self, member: int, average: WeightAverage | None, model: nn.Module) -> None:
        """Write the average of a member into its own, with the buffers of its model; nothing if it does not average."""
        if average is None:
            return
        place = self.members.index(member)
        self._layout.copy(self.rows_RP[place], average.model.parameters())
        for own, buffer in zip(average.model.buffers(), model.buffers(), strict=True):
            own.copy_(buffer)
        average.updates = self._updates[place]
