"""Sample of a batch's anchors, with their distances to all points, for the choice of a temperature.

Pairs of points that coincide, as dead rows of a ReLU layer do, carry no scale: medians and ranges leave them
out. Two points coincide if their distance is within rounding of 0. Rounding is relative to the squared distance
from the batch's mean, which the mean distance to all points bounds; and the mean itself is rounded.

Shapes: B points, A anchors among them.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from trainables.snnl.distances import Points, block_distances, offsets

__all__ = ["ROUNDINGS", "Sample", "all_rows", "measured_rows", "rounding_of"]

_MEASURED_ANCHORS = 512
# Roundings of a squared norm between two sums of the same numbers, taken in another order.
ROUNDINGS = 16


class Sample(NamedTuple):
    """Anchors by index (A,), and their distances to all points (A, B), without gradient.

    `rounding`, 0-d, is the largest distance that points with equal numbers can have by rounding of the batch's mean.
    """

    anchors_A: Tensor
    distances_AB: Tensor
    rounding: Tensor

    def thinned(self, pairs: int, *, at_least: int) -> Self:
        """Return anchors at equal strides, so many that they make `pairs` pairs."""
        count = max(pairs // self.distances_AB.shape[1], at_least)
        stride = max(1, -(-len(self.anchors_A) // count))
        return self._replace(anchors_A=self.anchors_A[::stride], distances_AB=self.distances_AB[::stride])

    def median(self) -> Tensor:
        """Return the median distance of pairs that do not coincide, 0-d; infinity where all points coincide."""
        return self._apart(torch.nan).nanmedian().nan_to_num(nan=torch.inf)

    def has_scale(self) -> Tensor:
        """Return whether any pair does not coincide, 0-d."""
        return self._apart(0.0).any()

    def log_beta_range(self) -> tuple[Tensor, Tensor]:
        """Return limits of log beta: from 1e-3 / median distance to 1e3 / median nearest distance.

        Pairs that coincide are left out. Where all do, the limits are finite, and mean nothing.
        """
        median = self._apart(torch.nan).nanmedian().nan_to_num(nan=1.0)
        nearest_A = self._apart(torch.inf).amin(1)
        nearest = nearest_A.where(nearest_A.isfinite(), torch.nan).nanmedian().nan_to_num(nan=1.0)
        nearest = torch.maximum(nearest, 1e-3 * median)
        return (1e-3 / median).log(), (1e3 / nearest).log()

    def _apart(self, otherwise: float) -> Tensor:
        """Return the distances of pairs that do not coincide, and `otherwise` elsewhere."""
        numbers = torch.finfo(self.distances_AB.dtype)
        # Divide first: the sum of large distances overflows.
        bound_A = self.distances_AB.div(self.distances_AB.shape[1]).sum(1, keepdim=True)
        apart_AB = self.distances_AB > torch.maximum((ROUNDINGS * numbers.eps) * bound_A, self.rounding)
        return self.distances_AB.where(apart_AB, otherwise).scatter(1, self.anchors_A[:, None], otherwise)


def all_rows(distances_BB: Tensor, points: Points) -> Sample:
    """Return a sample with every point as an anchor.

    >>> points = Points(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([4 / 3]), "sqeuclidean")
    >>> float(all_rows(torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]]), points).median())
    4.0
    """
    anchors_B = torch.arange(len(distances_BB), device=distances_BB.device)
    return Sample(anchors_B, distances_BB, rounding_of(points))


def measured_rows(points: Points, limit: int = _MEASURED_ANCHORS) -> Sample:
    """Return at most `limit` anchors at equal strides, with their distances to all points."""
    size = len(points.x_BD)
    anchors_A = torch.arange(0, size, max(1, -(-size // limit)), device=points.x_BD.device)
    distances_AB = block_distances(points, offsets(points), rows=anchors_A, columns=slice(0, size))
    return Sample(anchors_A, distances_AB, rounding_of(points))


def rounding_of(points: Points) -> Tensor:
    """Return the rounding of a distance whose two rows are the rounding of their mean."""
    eps = torch.finfo(points.centre_D.dtype).eps
    return ROUNDINGS * eps * (ROUNDINGS * eps * points.centre_D).square().sum()
