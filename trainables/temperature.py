"""The temperature that minimises the soft nearest neighbour loss (equation 2 of the paper).

The loss is not convex in 1/T, so a logarithmic grid over the data's own scale brackets the global
minimum, and finer grids narrow the bracket. Everything stays on the device. Shapes: B points, K betas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainables.neighbours import Distance, Neighbours, median_distance, nearest_distances, neighbours

__all__ = ["TemperatureMinimum", "chance_level", "minimise_temperature", "minimising_beta"]

Edge = Literal["interior", "T->0", "T->inf"]

# Grid sizes, coarse to fine. A training step needs no more: near its minimum the loss is flat, and the
# error of the loss is of second order in that of log T (at most 0.15 here).
_TRAINING_GRIDS = (13, 9)
_FLOAT32_GRIDS = (27, *[9] * 5)
_FLOAT64_GRIDS = (27, *[9] * 12)


@dataclass(frozen=True, slots=True)
class TemperatureMinimum:
    """The minimum of the loss over its temperature.

    At the edge 'T->inf' the value is the chance level and `temperature` is inf. At 'T->0' the loss
    still falls where the search ends; if every anchor's nearest neighbour is of its own class, the
    infimum is 0 and `temperature` is 0.0.
    Compare values only at equal `num_anchors` and class balance: the loss grows as batches shrink.
    """

    value: float
    temperature: float
    edge: Edge
    chance: float
    num_anchors: int


class _Best(NamedTuple):
    value: Tensor
    log_beta: Tensor
    coldest: Tensor


@torch.no_grad()
def minimise_temperature(
    features_BD: Tensor, labels_B: Tensor, distance: Distance = "sqeuclidean"
) -> TemperatureMinimum:
    """The exact minimum over T, from one distance matrix.

    Raises:
        ValueError: labels that are not one integer per point, or fewer than two points.

    >>> x = torch.tensor([0.0, 0.2, 0.3, 1.0, 1.1, 1.3, 1.4, 0.1], dtype=torch.float64)[:, None]
    >>> found = minimise_temperature(x, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> found.edge, f"{found.value:.4f} at {found.temperature:.4f}, chance {found.chance:.4f}"
    ('interior', '0.7957 at 1.2404, chance 0.8473')
    """
    _require_pair(labels_B)
    batch = neighbours(features_BD, labels_B, distance=distance)
    chance, num_anchors = chance_level(labels_B), int(batch.valid_B.sum())
    if batch.separated():
        return TemperatureMinimum(0.0, 0.0, "T->0", chance=chance, num_anchors=num_anchors)
    precise = batch.distances_BB.dtype == torch.float64
    best = _search(batch, _FLOAT64_GRIDS if precise else _FLOAT32_GRIDS)
    value, temperature = float(best.value), math.exp(-float(best.log_beta))
    if value >= chance * (1 - 8 * torch.finfo(best.value.dtype).eps):
        return TemperatureMinimum(chance, math.inf, "T->inf", chance=chance, num_anchors=num_anchors)
    edge: Edge = "T->0" if bool(best.log_beta >= best.coldest) else "interior"
    return TemperatureMinimum(value, temperature, edge, chance=chance, num_anchors=num_anchors)


@torch.no_grad()
def minimising_beta(batch: Neighbours) -> Tensor:
    """1 / T near the minimum, for one training step: a 0-d tensor, clamped to the batch's data scale.

    Raises:
        ValueError: fewer than two points.
    """
    _require_pair(batch.valid_B)
    return _search(batch, _TRAINING_GRIDS).log_beta.exp()


def chance_level(labels_B: Tensor) -> float:
    """The loss at infinite temperature: mean over valid anchors of log((B - 1) / (n_y - 1)).

    >>> f"{chance_level(torch.tensor([0, 0, 1, 1])):.6f}"  # log(3 / 1)
    '1.098612'
    """
    others_B = (labels_B[:, None] == labels_B[None]).sum(1) - 1
    company_B = others_B[others_B > 0].double()
    return float(((len(labels_B) - 1) / company_B).log().mean()) if len(company_B) else 0.0


def _search(batch: Neighbours, grids: Sequence[int]) -> _Best:
    low, coldest = _search_range(batch.distances_BB)
    high = coldest
    for points in grids:
        ramp_K = torch.linspace(0, 1, points, dtype=low.dtype, device=low.device)
        grid_K = low + (high - low) * ramp_K
        losses_K = batch.loss(grid_K.exp()[:, None, None])
        value, best = losses_K.min(0)
        # Not grid_K[best]: indexing by a tensor makes the host wait for it.
        log_beta, spacing = grid_K.take(best), (high - low) / (points - 1)
        low, high = torch.maximum(log_beta - spacing, low), torch.minimum(log_beta + spacing, high)
    return _Best(value, log_beta, coldest)


def _search_range(distances_BB: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of log beta: from 1e-3 / median distance to 1e3 / median nearest distance."""
    median = median_distance(distances_BB)
    nearest = torch.maximum(nearest_distances(distances_BB).median(), 1e-3 * median)
    return (1e-3 / median).log(), (1e3 / nearest).log()


def _require_pair(labels_B: Tensor) -> None:
    if len(labels_B) < 2:
        raise ValueError(f"features: must be at least 2 points to have neighbours, got {len(labels_B)}")
