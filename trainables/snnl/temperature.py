"""Temperature that minimises the soft nearest neighbour loss (equation 2 of the paper), exactly.

The loss is not convex in 1/T, so a logarithmic grid over the scale of the data brackets the global minimum,
and finer grids narrow the bracket; each grid costs one pass over the pairs.

The grid begins with medians of the data, which say little of heavy tails. Two bounds then show whether the minimum
can lie outside of it, and how far the grid must go on. With v the lowest loss so far, D_i the distance from anchor i
to the farthest point, g_i that to its own class minus that to other classes, where positive, and n_i the other
points of its class,

    loss >= chance - beta mean_i D_i            so no lower loss lies under  beta = (chance - v) / mean_i D_i,
    loss >= mean_i (beta g_i - log n_i)         nor above  beta = sum_i (v + log n_i) / sum_i g_i.

Without any g_i > 0 the loss converges as T falls to 0, and the grid ends where it no longer changes.
Distances within rounding of 0 count as 0. Shapes: N points, D features, K betas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainables.snnl.closed_form import out_of_reach
from trainables.snnl.composition import chance_level
from trainables.snnl.distances import Distance, require_finite, require_labels, require_pair
from trainables.snnl.sample import measured_rows
from trainables.snnl.streaming import (
    BLOCK,
    PointBank,
    bank_of,
    mean_losses,
    nearest_of_each_kind,
    smallest_excess,
)

__all__ = ["TemperatureMinimum", "minimise_temperature"]

Edge = Literal["interior", "T->0", "T->inf"]

# Grid sizes, coarse to fine: near its minimum the loss is flat, so its error is of second order in the
# error of log T.
_FLOAT32_GRIDS = (27, *[9] * 4)
_FLOAT64_GRIDS = (27, *[9] * 12)
_MEDIAN_ANCHORS = 512
# A kernel of exp(-40) is below rounding in float64.
_VANISHED = 40.0


@dataclass(frozen=True, slots=True)
class TemperatureMinimum:
    """Minimum of the loss over its temperature.

    At the edge 'T->inf' the value is the chance level and `temperature` is inf, also where no anchor has both
    a point of its own class and one of another class, and where all points coincide. At 'T->0' no greater T has a
    lower loss than the limit: 0 with a `temperature` of 0.0 if every anchor's nearest neighbour is of its own class;
    otherwise, where neighbours of both kinds are equally near, `temperature` is one at which the limit is reached.
    Compare values only at equal `num_anchors` and class balance: the loss grows as batches shrink.
    """

    value: float
    temperature: float
    edge: Edge
    chance: float
    num_anchors: int


class _Curve(NamedTuple):
    """Mean loss at several log beta, (K,) each, in float64 on the host."""

    log_betas_K: Tensor
    losses_K: Tensor

    def lowest(self) -> tuple[float, float]:
        """Return the lowest loss and its log beta."""
        best = int(self.losses_K.argmin())
        return float(self.losses_K[best]), float(self.log_betas_K[best])

    def joined(self, other: "_Curve") -> "_Curve":
        """Return both curves as one."""
        return _Curve(*(torch.cat(parts) for parts in zip(self, other, strict=True)))


class _Search(NamedTuple):
    """Data set to search, with the nearest distance of each kind, and each anchor's own minus other, 0 by rounding."""

    bank: PointBank
    nearest_2N: Tensor
    gap_N: Tensor

    def curve(self, log_betas_K: Tensor) -> _Curve:
        """Evaluate the loss, by one pass over the pairs."""
        return _Curve(log_betas_K, self._losses(log_betas_K.exp().to(self.gap_N.device)).cpu())

    def _losses(self, betas_K: Tensor) -> Tensor:
        if not len(betas_K):
            return betas_K
        return mean_losses(self.bank, self.nearest_2N, betas_K)


@torch.no_grad()
def minimise_temperature(
    features_ND: Tensor, labels_N: Tensor, distance: Distance = "sqeuclidean", *, block: int = BLOCK
) -> TemperatureMinimum:
    """Compute the exact minimum over T, by passes over blocks of `block` by `block` pairs, without a full matrix.

    Raises:
        ValueError: labels that are not one integer per point, fewer than two points, or features that are not
            finite.

    >>> x = torch.tensor([0.0, 0.2, 0.3, 1.0, 1.1, 1.3, 1.4, 0.1], dtype=torch.float64)[:, None]
    >>> minimum = minimise_temperature(x, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> minimum.edge, f"{minimum.value:.4f} at {minimum.temperature:.4f}, chance {minimum.chance:.4f}"
    ('interior', '0.7957 at 1.2404, chance 0.8473')
    """
    require_labels(features_ND, labels_N)
    require_pair(features_ND)
    require_finite(features_ND)
    largest = float(features_ND.abs().max())
    if distance == "sqeuclidean" and largest > _largest_squared(features_ND.dtype):
        minimum = minimise_temperature(features_ND / largest, labels_N, distance, block=block)
        return replace(minimum, temperature=minimum.temperature * largest**2)
    bank = bank_of(features_ND, labels_N, distance=distance, block=block)
    nearest_2N = nearest_of_each_kind(bank)
    chance, num_anchors = chance_level(labels_N), int(bank.company.valid_B.sum())
    if not bool(bank.company.counted_B.any()):
        return TemperatureMinimum(chance, math.inf, "T->inf", chance=chance, num_anchors=num_anchors)
    apart_2N = nearest_2N.where(nearest_2N > bank.rounding_N, 0)
    if bool((apart_2N[0] < apart_2N[1])[bank.company.counted_B].all()):
        return TemperatureMinimum(0.0, 0.0, "T->0", chance=chance, num_anchors=num_anchors)
    no_information = TemperatureMinimum(chance, math.inf, "T->inf", chance=chance, num_anchors=num_anchors)
    scale = _scale(bank, apart_2N)
    if scale is None:
        return no_information
    value, log_beta, edge = _search(_Search(bank, nearest_2N, _gaps(bank, apart_2N)), scale, chance=chance)
    if value >= chance * (1 - 8 * torch.finfo(bank.offset_N.dtype).eps):
        return no_information
    return TemperatureMinimum(value, math.exp(-log_beta), edge, chance=chance, num_anchors=num_anchors)


def _largest_squared(dtype: torch.dtype) -> float:
    """Return the largest feature whose squared distances are far from overflow; larger ones are scaled, and T too."""
    return max(1.0, math.sqrt(torch.finfo(dtype).max) * 1e-6)


def _grids(dtype: torch.dtype) -> Sequence[int]:
    return _FLOAT64_GRIDS if dtype == torch.float64 else _FLOAT32_GRIDS


def _search(search: _Search, scale: tuple[float, float], *, chance: float) -> tuple[float, float, Edge]:
    """Return the lowest loss, its log beta, and the edge it lies at."""
    (low, high), dtype = scale, search.gap_N.dtype
    first, *finer = _grids(dtype)
    spacing, grid_K = (high - low) / (first - 1), torch.linspace(low, high, first, dtype=torch.float64)
    grid_K[-1] = high
    curve = search.curve(grid_K)
    value, _ = curve.lowest()
    below_K = _steps(low, _lowest_log_beta(search, chance - value), -spacing)
    above_K = _steps(high, _highest_log_beta(search, value), spacing)
    curve = curve.joined(search.curve(torch.cat([below_K, above_K])))
    limit = None if bool((search.gap_N > 0).any()) else float(curve.losses_K[curve.log_betas_K.argmax()])
    low, high = float(curve.log_betas_K.min()), float(curve.log_betas_K.max())
    value, log_beta = _refined(search, curve.lowest(), finer, low=low, high=high, spacing=spacing)
    if limit is not None and value >= limit * (1 - 8 * torch.finfo(dtype).eps):
        return limit, high, "T->0"
    return value, log_beta, "interior"


def _refined(
    search: _Search, best: tuple[float, float], grids: Sequence[int], *, low: float, high: float, spacing: float
) -> tuple[float, float]:
    """Return the lowest loss and its log beta after finer grids around the best so far, within [low, high]."""
    for points in grids:
        low, high = max(best[1] - spacing, low), min(best[1] + spacing, high)
        spacing, grid_K = (high - low) / (points - 1), torch.linspace(low, high, points, dtype=torch.float64)
        grid_K[-1] = high
        best = search.curve(grid_K).lowest()
    return best


def _steps(start: float, end: float, spacing: float) -> Tensor:
    """Return points from `start`, without it, to `end` or just past it; none if `end` lies the other way."""
    count = math.ceil(max(0.0, (end - start) / spacing))
    return start + spacing * torch.arange(1, count + 1, dtype=torch.float64)


def _lowest_log_beta(search: _Search, gained: float) -> float:
    """Return the log beta under which no loss lies more than `gained` below chance, or by next to nothing."""
    root_N = search.bank.offset_N.double().sqrt()
    farthest_N = (root_N + root_N.max()).square()
    counted = farthest_N[search.bank.company.valid_B].mean()
    return math.log(max(gained / float(counted), 1e-3 / float(farthest_N.max())))


def _highest_log_beta(search: _Search, value: float) -> float:
    """Return the log beta above which no loss is under `value`, or no longer changes; -inf if it never does."""
    wrong_N, company = search.gap_N > 0, search.bank.company
    if bool(wrong_N.any()):
        count_N = company.others_B[wrong_N].double()
        total = value * float(company.valid_B.sum()) + float(count_N.log().sum())
        return math.log(total / float(search.gap_N[wrong_N].double().sum()))
    smallest = smallest_excess(search.bank, search.nearest_2N)
    if bool((search.gap_N < 0).any()):
        smallest = min(smallest, float(-search.gap_N[search.gap_N < 0].max()))
    return math.log(_VANISHED / smallest) if math.isfinite(smallest) else -math.inf


def _scale(bank: PointBank, apart_2N: Tensor) -> tuple[float, float] | None:
    """Return limits of log beta: from 1e-3 / median distance to 1e3 / median nearest distance; None without a scale.

    Distances of points that coincide are left out.
    """
    median = float(measured_rows(bank.points, _MEDIAN_ANCHORS)._replace(rounding=bank.rounding_N.min()).median())
    if math.isinf(median):
        return None
    nearest_N = apart_2N.where(apart_2N > 0, math.inf).amin(0)
    nearest_N = nearest_N[nearest_N < out_of_reach(nearest_N.dtype)]
    nearest = max(float(nearest_N.median()) if len(nearest_N) else median, 1e-3 * median)
    return math.log(1e-3 / median), math.log(1e3 / nearest)


def _gaps(bank: PointBank, apart_2N: Tensor) -> Tensor:
    """Return each anchor's nearest distance to its own class minus that to others, 0 by rounding or without a loss."""
    gap_N = apart_2N[0] - apart_2N[1]
    return gap_N.where((gap_N.abs() > bank.rounding_N) & bank.company.counted_B, 0)
