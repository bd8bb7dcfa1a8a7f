"""Soft nearest neighbour loss (Frosst, Papernot and Hinton, ICML 2019).

For a batch of B points x with labels y and temperature T (equation 1 of the paper),

    l_i = -log( sum_{j != i, y_j = y_i} exp(-d_ij / T) / sum_{k != i} exp(-d_ik / T) )

is the surprise of drawing one of its own class when anchor i picks a neighbour with probability
proportional to exp(-d_ik / T); the loss is the mean over anchors. Low means separated classes, high
means entangled ones. Four decisions, all without an epsilon:

- l_i is computed as softplus(LSE over other classes - LSE over its own), exact where it is nearly 0
  and free of underflow (Salakhutdinov and Hinton's 1e-5 saturates at 11.5 and stops the gradient);
- an anchor that is alone in its class has no l_i: it is left out of the mean, and out of its divisor;
- features are centred before distances are taken: the loss does not change, its rounding error does;
- the temperature that eliminates T (equation 2) always *minimises* the loss, whatever the sign of
  its weight in the objective: maximising at a free temperature has no bound.

Shapes: B points, D features, K inverse temperatures. `beta` is 1 / T throughout.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "Distance",
    "TemperatureMinimum",
    "TemperatureMode",
    "chance_level",
    "minimise_temperature",
    "per_anchor_losses",
    "soft_nearest_neighbor_loss",
    "training_loss",
]

Distance = Literal["sqeuclidean", "cosine"]
TemperatureMode = Literal["minimised", "relative", "absolute"]
Edge = Literal["interior", "T->0", "T->inf"]

_COSINE_EPSILON = 1e-12
_GRID_POINTS = 27
_ZOOM_POINTS = 9
_TRAINING_ZOOMS = 1


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


class _Anchors(NamedTuple):
    same_BB: Tensor
    other_BB: Tensor
    valid_B: Tensor

    def mean(self, losses_B: Tensor) -> Tensor:
        return losses_B.sum(-1) / self.valid_B.sum().clamp_min(1)


def soft_nearest_neighbor_loss(
    features_BD: Tensor,
    labels_B: Tensor,
    temperature: float | Tensor,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """Mean loss over the anchors that share their class with another point: a 0-d tensor.

    Features of more than two dimensions are flattened; float64 stays float64, half precision is
    raised to float32. With no valid anchor the loss is 0 with zero gradient.

    Raises:
        ValueError: a temperature <= 0, or labels that are not one integer per point.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> f"{soft_nearest_neighbor_loss(x, y, 1.0):.6f}"
    '0.024461'
    """
    losses_B, valid_B = per_anchor_losses(features_BD, labels_B, temperature, distance=distance)
    return losses_B.sum() / valid_B.sum().clamp_min(1)


def per_anchor_losses(
    features_BD: Tensor, labels_B: Tensor, temperature: float | Tensor, *, distance: Distance = "sqeuclidean"
) -> tuple[Tensor, Tensor]:
    """Loss of each anchor (B,), and which anchors are valid (B,); the loss of the others is 0.

    Raises:
        ValueError: as `soft_nearest_neighbor_loss`.
    """
    _check_labels(features_BD, labels_B)
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature: must be > 0, got {temperature}")
    anchors = _anchors(labels_B)
    with torch.autocast(features_BD.device.type, enabled=False):
        distances_BB = _pairwise(_widened(features_BD), distance)
        return _anchor_losses(distances_BB, anchors, beta=1 / temperature), anchors.valid_B


def training_loss(
    features_BD: Tensor,
    labels_B: Tensor,
    *,
    mode: TemperatureMode,
    temperature: float = 1.0,
    distance: Distance = "sqeuclidean",
) -> Tensor:
    """The loss at the temperature that `mode` chooses for this batch; no gradient flows through it.

    `minimised`: the minimising temperature of this batch, clamped to its data scale; `temperature`
    is unused. `relative`: `temperature` times the median pairwise distance. `absolute`: as it is.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64), torch.tensor([0, 0, 1])
    >>> f"{training_loss(x, y, mode='relative', temperature=0.25):.6f}"  # the median distance is 4
    '0.024461'
    """
    _check_labels(features_BD, labels_B)
    anchors = _anchors(labels_B)
    with torch.autocast(features_BD.device.type, enabled=False):
        distances_BB = _pairwise(_widened(features_BD), distance)
        beta = _training_beta(distances_BB.detach(), anchors, mode=mode, temperature=temperature)
        return anchors.mean(_anchor_losses(distances_BB, anchors, beta=beta))


@torch.no_grad()
def minimise_temperature(
    features_BD: Tensor, labels_B: Tensor, distance: Distance = "sqeuclidean"
) -> TemperatureMinimum:
    """The exact minimum over T, from one distance matrix.

    A logarithmic grid brackets the global minimum, as the loss is not convex in 1/T; the bracket is
    then narrowed to the square root of the precision, beyond which values do not tell apart.

    >>> x = torch.tensor([0.0, 0.2, 0.3, 1.0, 1.1, 1.3, 1.4, 0.1], dtype=torch.float64)[:, None]
    >>> found = minimise_temperature(x, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> found.edge, f"{found.value:.4f} at {found.temperature:.4f}, chance {found.chance:.4f}"
    ('interior', '0.7957 at 1.2404, chance 0.8473')
    """
    _check_labels(features_BD, labels_B)
    anchors = _anchors(labels_B)
    chance, num_anchors = chance_level(labels_B), int(anchors.valid_B.sum())
    with torch.autocast(features_BD.device.type, enabled=False):
        distances_BB = _pairwise(_widened(features_BD), distance)
        if _separated(distances_BB, anchors):
            return TemperatureMinimum(0.0, 0.0, "T->0", chance=chance, num_anchors=num_anchors)
        zooms = 12 if distances_BB.dtype == torch.float64 else 5
        value, beta = _minimum(distances_BB, anchors, zooms=zooms)
        coldest = _search_range(distances_BB)[1].exp()
    if float(value) >= chance * (1 - 8 * torch.finfo(value.dtype).eps):
        return TemperatureMinimum(chance, math.inf, "T->inf", chance=chance, num_anchors=num_anchors)
    edge: Edge = "T->0" if bool(beta >= coldest) else "interior"
    return TemperatureMinimum(float(value), 1 / float(beta), edge, chance=chance, num_anchors=num_anchors)


def chance_level(labels_B: Tensor) -> float:
    """The loss at infinite temperature: mean over valid anchors of log((B - 1) / (n_y - 1)).

    >>> f"{chance_level(torch.tensor([0, 0, 1, 1])):.6f}"  # log(3 / 1)
    '1.098612'
    """
    counts_B = (labels_B[:, None] == labels_B[None]).sum(1) - 1
    counts = counts_B[counts_B > 0].double()
    return float(((len(labels_B) - 1) / counts).log().mean()) if len(counts) else 0.0


def _check_labels(features_BD: Tensor, labels_B: Tensor) -> None:
    if labels_B.shape != features_BD.shape[:1]:
        raise ValueError(
            f"labels: must be one class index per point, got shape {tuple(labels_B.shape)} "
            f"for features of shape {tuple(features_BD.shape)}; take argmax of one-hot labels"
        )


def _widened(features_BD: Tensor) -> Tensor:
    flat_BD = features_BD.flatten(1)
    return flat_BD if flat_BD.dtype == torch.float64 else flat_BD.float()


def _pairwise(x_BD: Tensor, distance: Distance) -> Tensor:
    if distance == "cosine":
        unit_BD = x_BD * (x_BD.square().sum(1, keepdim=True) + _COSINE_EPSILON).rsqrt()
        return 1 - unit_BD @ unit_BD.T
    if distance != "sqeuclidean":
        raise ValueError(f"distance: must be 'sqeuclidean' or 'cosine', got {distance!r}")
    centred_BD = x_BD - x_BD.mean(0, keepdim=True).detach()
    norms_B = centred_BD.square().sum(1)
    return (norms_B[:, None] + norms_B[None] - 2 * centred_BD @ centred_BD.T).clamp_min(0)


def _anchors(labels_B: Tensor) -> _Anchors:
    same_BB = labels_B[:, None] == labels_B[None]
    other_BB = ~same_BB
    same_BB = same_BB.fill_diagonal_(False)
    return _Anchors(same_BB, other_BB, valid_B=same_BB.any(1))


def _anchor_losses(distances_BB: Tensor, anchors: _Anchors, *, beta: float | Tensor) -> Tensor:
    similarity_BB = -distances_BB * beta
    own_B = similarity_BB.masked_fill(~anchors.same_BB, -math.inf).logsumexp(1)
    rest_B = similarity_BB.masked_fill(~anchors.other_BB, -math.inf).logsumexp(1)
    # An infinite log-odds would turn its zero gradient into NaN, so those rows leave before softplus.
    counted_B = anchors.valid_B & anchors.other_BB.any(1)
    zero = similarity_BB.new_zeros(())
    log_odds_B = torch.where(counted_B, rest_B, zero) - torch.where(counted_B, own_B, zero)
    return torch.where(counted_B, functional.softplus(log_odds_B), zero)


def _training_beta(
    distances_BB: Tensor, anchors: _Anchors, *, mode: TemperatureMode, temperature: float
) -> float | Tensor:
    match mode:
        case "absolute":
            return 1 / temperature
        case "relative":
            return 1 / (temperature * _median(distances_BB))
        case "minimised":
            with torch.no_grad():
                return _minimum(distances_BB, anchors, zooms=_TRAINING_ZOOMS)[1]
        case _:
            raise ValueError(f"mode: must be 'minimised', 'relative' or 'absolute', got {mode!r}")


def _off_diagonal(matrix_BB: Tensor) -> Tensor:
    """The B (B - 1) entries off the diagonal as a view: no copy, and no wait for the device."""
    size = len(matrix_BB)
    return matrix_BB.flatten()[:-1].view(size - 1, size + 1)[:, 1:]


def _median(distances_BB: Tensor) -> Tensor:
    return _positive(_off_diagonal(distances_BB).median())


def _positive(scale: Tensor) -> Tensor:
    # Dead features are all at distance 0, and 0 / 0 would hide that the loss is then at its chance level.
    return scale.clamp_min(torch.finfo(scale.dtype).tiny ** 0.5)


def _separated(distances_BB: Tensor, anchors: _Anchors) -> bool:
    own_B = distances_BB.masked_fill(~anchors.same_BB, math.inf).amin(1)
    rest_B = distances_BB.masked_fill(~anchors.other_BB, math.inf).amin(1)
    return bool((own_B < rest_B)[anchors.valid_B].all())


class _Shifted(NamedTuple):
    """Distances less the nearest of their kind in the row, so one exponential serves both sums."""

    excess_BB: Tensor
    gap_B: Tensor
    anchors: _Anchors


def _shift(distances_BB: Tensor, anchors: _Anchors) -> _Shifted:
    own_B1 = distances_BB.masked_fill(~anchors.same_BB, math.inf).amin(1, keepdim=True)
    rest_B1 = distances_BB.masked_fill(~anchors.other_BB, math.inf).amin(1, keepdim=True)
    excess_BB = distances_BB - torch.where(anchors.same_BB, own_B1, rest_B1)
    gap_B = torch.where(anchors.valid_B, (own_B1 - rest_B1)[:, 0], -math.inf)
    return _Shifted(excess_BB.fill_diagonal_(math.inf), gap_B, anchors)


def _losses_at(shifted: _Shifted, beta_K: Tensor) -> Tensor:
    """Mean loss at each of K inverse temperatures, (K,)."""
    weights_KBB = torch.exp(-shifted.excess_BB * beta_K[:, None, None])
    own_KB = (weights_KBB * shifted.anchors.same_BB).sum(-1)
    rest_KB = (weights_KBB * shifted.anchors.other_BB).sum(-1)
    log_odds_KB = shifted.gap_B * beta_K[:, None] + rest_KB.log() - own_KB.log()
    return shifted.anchors.mean(functional.softplus(log_odds_KB).where(shifted.anchors.valid_B, 0.0))


def _minimum(distances_BB: Tensor, anchors: _Anchors, *, zooms: int) -> tuple[Tensor, Tensor]:
    """(value, beta) of the best point after `zooms` refinements; all on the device, nothing waits."""
    shifted = _shift(distances_BB, anchors)
    low, high = _search_range(distances_BB)
    points = _GRID_POINTS
    for _ in range(zooms + 1):
        ramp_K = torch.linspace(0, 1, points, dtype=low.dtype, device=low.device)
        grid_K = low + (high - low) * ramp_K
        losses_K = _losses_at(shifted, grid_K.exp())
        best, spacing = losses_K.argmin(), (high - low) / (points - 1)
        centre = grid_K[best]
        low, high = torch.maximum(centre - spacing, low), torch.minimum(centre + spacing, high)
        points = _ZOOM_POINTS
    return losses_K[best], centre.exp()


def _search_range(distances_BB: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of log beta: from 1e-3 / median distance to 1e3 / median nearest distance."""
    size = len(distances_BB)
    nearest_B = _off_diagonal(distances_BB).flatten().view(size, size - 1).amin(1)
    median = _median(distances_BB)
    nearest = torch.maximum(nearest_B.median(), 1e-3 * median)
    return (1e-3 / median).log(), (1e3 / nearest).log()
