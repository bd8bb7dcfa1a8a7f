"""Temperature that minimises the soft nearest neighbour loss (equation 2 of the paper), exactly.

The loss is not convex in 1/T, so a logarithmic grid over the scale of the data brackets the global minimum,
and finer grids narrow the bracket; each grid costs one pass over the pairs. Shapes: N points, D features, K betas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainables.snnl.composition import chance_level
from trainables.snnl.distances import Distance, require_labels, require_pair
from trainables.snnl.sample import measured_rows
from trainables.snnl.streaming import BLOCK, PointBank, bank_of, mean_losses, nearest_of_each_kind

__all__ = ["TemperatureMinimum", "minimise_temperature"]

Edge = Literal["interior", "T->0", "T->inf"]

# Grid sizes, coarse to fine: near its minimum the loss is flat, so its error is of second order in the
# error of log T.
_FLOAT32_GRIDS = (27, *[9] * 4)
_FLOAT64_GRIDS = (27, *[9] * 12)
_MEDIAN_ANCHORS = 512


@dataclass(frozen=True, slots=True)
class TemperatureMinimum:
    """Minimum of the loss over its temperature.

    At the edge 'T->inf' the value is the chance level and `temperature` is inf, also where no anchor has both
    a point of its own class and one of another class. At 'T->0' the loss still falls where the search ends;
    if every anchor's nearest neighbour is of its own class, the infimum is 0 and `temperature` is 0.0.
    Compare values only at equal `num_anchors` and class balance: the loss grows as batches shrink.
    """

    value: float
    temperature: float
    edge: Edge
    chance: float
    num_anchors: int


class _Best(NamedTuple):
    value: float
    log_beta: float


@torch.no_grad()
def minimise_temperature(
    features_ND: Tensor, labels_N: Tensor, distance: Distance = "sqeuclidean", *, block: int = BLOCK
) -> TemperatureMinimum:
    """Compute the exact minimum over T, by passes over blocks of `block` by `block` pairs, without a full matrix.

    Raises:
        ValueError: labels that are not one integer per point, or fewer than two points.

    >>> x = torch.tensor([0.0, 0.2, 0.3, 1.0, 1.1, 1.3, 1.4, 0.1], dtype=torch.float64)[:, None]
    >>> minimum = minimise_temperature(x, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> minimum.edge, f"{minimum.value:.4f} at {minimum.temperature:.4f}, chance {minimum.chance:.4f}"
    ('interior', '0.7957 at 1.2404, chance 0.8473')
    """
    require_labels(features_ND, labels_N)
    require_pair(features_ND)
    largest = float(features_ND.abs().max())
    if distance == "sqeuclidean" and largest > _largest_squared(features_ND.dtype):
        minimum = minimise_temperature(features_ND / largest, labels_N, distance, block=block)
        return replace(minimum, temperature=minimum.temperature * largest**2)
    bank = bank_of(features_ND, labels_N, distance=distance, block=block)
    nearest_2N = nearest_of_each_kind(bank)
    chance, num_anchors = chance_level(labels_N), int(bank.company.valid_B.sum())
    if not bool(bank.company.counted_B.any()):
        return TemperatureMinimum(chance, math.inf, "T->inf", chance=chance, num_anchors=num_anchors)
    if bool((nearest_2N[0] < nearest_2N[1])[bank.company.counted_B].all()):
        return TemperatureMinimum(0.0, 0.0, "T->0", chance=chance, num_anchors=num_anchors)
    low, high = _search_range(bank, nearest_2N)
    dtype = bank.offset_N.dtype
    best = _search(bank, nearest_2N, low, high=high, grids=_grids(dtype))
    if best.value >= chance * (1 - 8 * torch.finfo(dtype).eps):
        return TemperatureMinimum(chance, math.inf, "T->inf", chance=chance, num_anchors=num_anchors)
    edge: Edge = "T->0" if best.log_beta >= high else "interior"
    return TemperatureMinimum(best.value, math.exp(-best.log_beta), edge, chance=chance, num_anchors=num_anchors)


def _largest_squared(dtype: torch.dtype) -> float:
    """Return the largest feature whose squared distances are far from overflow; larger ones are scaled, and T too."""
    return max(1.0, math.sqrt(torch.finfo(dtype).max) * 1e-6)


def _grids(dtype: torch.dtype) -> Sequence[int]:
    return _FLOAT64_GRIDS if dtype == torch.float64 else _FLOAT32_GRIDS


def _search(bank: PointBank, nearest_2N: Tensor, low: float, *, high: float, grids: Sequence[int]) -> _Best:
    for points in grids:
        grid_K = torch.linspace(low, high, points, dtype=torch.float64)
        grid_K[-1] = high
        losses_K = mean_losses(bank, nearest_2N, grid_K.exp().to(nearest_2N.device))
        best = int(losses_K.argmin())
        log_beta, spacing = float(grid_K[best]), (high - low) / (points - 1)
        low, high = max(log_beta - spacing, low), min(log_beta + spacing, high)
    return _Best(float(losses_K[best]), log_beta)


def _search_range(bank: PointBank, nearest_2N: Tensor) -> tuple[float, float]:
    """Return limits of log beta: from 1e-3 / median distance to 1e3 / median nearest distance."""
    median = float(measured_rows(bank.points, _MEDIAN_ANCHORS).median())
    nearest = max(float(nearest_2N.amin(0).median()), 1e-3 * median)
    return math.log(1e-3 / median), math.log(1e3 / nearest)
