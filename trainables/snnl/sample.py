"""Sample of a batch's anchors, with their distances to all points, for the choice of a temperature.

Shapes: B points, A anchors among them.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from trainables.snnl.distances import Points, block_distances, offsets

__all__ = ["Sample", "all_rows", "measured_rows"]

_MEASURED_ANCHORS = 512


class Sample(NamedTuple):
    """Anchors by index (A,), and their distances to all points (A, B), without gradient."""

    anchors_A: Tensor
    distances_AB: Tensor

    def thinned(self, pairs: int, *, at_least: int) -> Self:
        """Return anchors at equal strides, so many that they make `pairs` pairs."""
        count = max(pairs // self.distances_AB.shape[1], at_least)
        stride = max(1, -(-len(self.anchors_A) // count))
        return self._replace(anchors_A=self.anchors_A[::stride], distances_AB=self.distances_AB[::stride])

    def median(self) -> Tensor:
        """Return the median distance to other points, kept above 0: between dead features all distances are 0."""
        return self._others(torch.nan).nanmedian().clamp_min(torch.finfo(self.distances_AB.dtype).tiny ** 0.5)

    def log_beta_range(self) -> tuple[Tensor, Tensor]:
        """Return limits of log beta: from 1e-3 / median distance to 1e3 / median nearest distance."""
        median = self.median()
        nearest = torch.maximum(self._others(torch.inf).amin(1).median(), 1e-3 * median)
        return (1e-3 / median).log(), (1e3 / nearest).log()

    def _others(self, itself: float) -> Tensor:
        return self.distances_AB.scatter(1, self.anchors_A[:, None], itself)


def all_rows(distances_BB: Tensor) -> Sample:
    """Return a sample with every point as an anchor.

    >>> float(all_rows(torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]])).median())
    4.0
    """
    return Sample(torch.arange(len(distances_BB), device=distances_BB.device), distances_BB)


def measured_rows(points: Points, limit: int = _MEASURED_ANCHORS) -> Sample:
    """Return at most `limit` anchors at equal strides, with their distances to all points."""
    size = len(points.x_BD)
    anchors_A = torch.arange(0, size, max(1, -(-size // limit)), device=points.x_BD.device)
    distances_AB = block_distances(points, offsets(points), rows=anchors_A, columns=slice(0, size))
    return Sample(anchors_A, distances_AB)
