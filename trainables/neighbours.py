"""Distances within a batch, and each anchor's loss from them.

Shapes: B points, D features; `beta` = 1 / T is a number, a 0-d tensor, or (K, 1, 1) for K losses at once.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Distance", "Neighbours", "median_distance", "nearest_distances", "neighbours"]

Distance = Literal["sqeuclidean", "cosine"]

_COSINE_EPSILON = 1e-12


class Neighbours(NamedTuple):
    """A batch as its anchors see it.

    `excess_BB` is each distance less the row's nearest of the same kind (own class, other class), so
    that a single exponential serves both sums and neither can underflow; `gap_B` is the nearest own
    less the nearest other. `valid_B`: anchors with company in their class; `counted_B`: those that
    also have someone to be confused with. Only `excess_BB` is differentiated: the shifts cancel.
    """

    distances_BB: Tensor
    same_BB: Tensor
    other_BB: Tensor
    excess_BB: Tensor
    gap_B: Tensor
    valid_B: Tensor
    counted_B: Tensor

    def losses(self, beta: float | Tensor) -> Tensor:
        """Loss of each anchor, (B,) or (K, B), 0 for those that do not count."""
        weights_BB = torch.exp(-self.excess_BB * beta)
        # One stands in where a sum is empty: the row is dropped below, and log(0) would poison its gradient.
        own_B = (weights_BB * self.same_BB).sum(-1).where(self.counted_B, 1)
        rest_B = (weights_BB * self.other_BB).sum(-1).where(self.counted_B, 1)
        scale = beta.squeeze(-1) if isinstance(beta, Tensor) and beta.dim() else beta
        log_odds_B = self.gap_B * scale + rest_B.log() - own_B.log()
        return functional.softplus(log_odds_B).where(self.counted_B, 0)

    def loss(self, beta: float | Tensor) -> Tensor:
        """Mean over the valid anchors, () or (K,); 0 if there is none."""
        return self.losses(beta).sum(-1) / self.valid_B.sum().clamp_min(1)

    def separated(self) -> bool:
        """Whether every valid anchor's nearest neighbour is of its own class, and strictly so."""
        return bool((self.gap_B < 0)[self.counted_B].all())


def neighbours(features_BD: Tensor, labels_B: Tensor, *, distance: Distance) -> Neighbours:
    """Distances of a batch, in float32 or float64, outside autocast.

    Raises:
        ValueError: labels that are not one integer per point, or an unknown distance.
    """
    if labels_B.shape != features_BD.shape[:1]:
        raise ValueError(
            f"labels: must be one class index per point, got shape {tuple(labels_B.shape)} "
            f"for features of shape {tuple(features_BD.shape)}; take argmax of one-hot labels"
        )
    with torch.autocast(features_BD.device.type, enabled=False):
        distances_BB = _pairwise(_widened(features_BD), distance)
    same_BB = labels_B[:, None] == labels_B[None]
    other_BB = ~same_BB
    return _shifted(distances_BB, same_BB.fill_diagonal_(fill_value=False), other_BB)


def nearest_distances(distances_BB: Tensor) -> Tensor:
    """Distance of each point to its nearest neighbour, (B,)."""
    return _off_diagonal(distances_BB).flatten().view(len(distances_BB), -1).amin(1)


def median_distance(distances_BB: Tensor) -> Tensor:
    """Median over pairs of different points, kept above 0: dead features lie at distance 0 throughout."""
    return _off_diagonal(distances_BB).median().clamp_min(torch.finfo(distances_BB.dtype).tiny ** 0.5)


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


def _shifted(distances_BB: Tensor, same_BB: Tensor, other_BB: Tensor) -> Neighbours:
    fixed_BB = distances_BB.detach()
    own_B = fixed_BB.masked_fill(~same_BB, math.inf).amin(1)
    rest_B = fixed_BB.masked_fill(~other_BB, math.inf).amin(1)
    valid_B = own_B < math.inf
    counted_B = valid_B & (rest_B < math.inf)
    shift_BB = torch.where(same_BB, own_B[:, None], rest_B[:, None])
    return Neighbours(
        distances_BB=fixed_BB,
        same_BB=same_BB,
        other_BB=other_BB,
        excess_BB=(distances_BB - shift_BB).masked_fill(~(same_BB | other_BB), 0),
        gap_B=(own_B - rest_B).where(counted_B, 0),
        valid_B=valid_B,
        counted_B=counted_B,
    )


def _off_diagonal(matrix_BB: Tensor) -> Tensor:
    """The B (B - 1) entries off the diagonal as a view: no copy, and no wait for the device."""
    size = len(matrix_BB)
    return matrix_BB.flatten()[:-1].view(size - 1, size + 1)[:, 1:]
