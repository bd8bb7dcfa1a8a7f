"""Loss as a function of theta = log beta, for the choice of a temperature: value and two derivatives.

With p the neighbour's distribution of an anchor and q the same among its own class (equation 1),

    l = log Z - log Z_own,   dl/dbeta = E_q[d] - E_p[d],   d2l/dbeta2 = Var_p[d] - Var_q[d].

The curve of some anchors of a batch, against all its points, is enough for a choice: near its minimum the
loss is flat. Weights say which points share the anchor's class, so the curve serves hard and soft labels.
Nothing waits for the device. Shapes: A anchors among B points.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LossCurve", "Slope", "curve_of", "gradient_steps", "minimising_log_beta", "values_at"]

_GRID = 13
# Points of the same spacing on either side of the grid. Heavy tails can put the minimum there; it is taken if it
# lowers the loss by more than this share of the chance level.
_BEYOND, _WORTHWHILE = 6, 1e-4
_NEWTON_STEPS = 4
# Plain gradient steps on theta average the temperature over batches; clip them, as a saturated loss is steep.
_LEARNING_RATE = 0.3
_LONGEST_STEP = 0.5
_LEARNING_STEPS = 3


class LossCurve(NamedTuple):
    """Distances minus the nearest of all points and of the own class, with their weights in the sums."""

    excess_AB: Tensor
    company_AB: Tensor
    own_excess_AB: Tensor
    own_AB: Tensor
    gap_A: Tensor
    valid_A: Tensor


class Slope(NamedTuple):
    """Mean loss at one theta, and its first two derivatives by theta: 0-d tensors."""

    value: Tensor
    first: Tensor
    second: Tensor


def curve_of(distances_AB: Tensor, own_AB: Tensor, anchors_A: Tensor) -> LossCurve:
    """Return the curve of the anchors with these indices; `own_AB` weighs points of the own class, and is 0 elsewhere.

    >>> distances = torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0]], dtype=torch.float64)
    >>> own = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    >>> f"{values_at(curve_of(distances, own, torch.tensor([0, 1])), torch.zeros(())):.6f}"
    '0.024461'
    """
    far = torch.finfo(distances_AB.dtype).max ** 0.75
    company_AB = torch.ones_like(distances_AB).scatter(1, anchors_A[:, None], 0)
    own_AB = own_AB * company_AB
    nearest_A = (distances_AB + far * (1 - company_AB)).amin(1)
    alone_AB = (own_AB <= 0).to(distances_AB.dtype)
    own_nearest_A = (distances_AB + far * alone_AB).amin(1)
    valid_A = own_nearest_A < far
    return LossCurve(
        (distances_AB - nearest_A[:, None]) * company_AB,
        company_AB,
        (distances_AB - own_nearest_A[:, None]) * (1 - alone_AB),
        own_AB,
        (own_nearest_A - nearest_A).where(valid_A, 0),
        valid_A,
    )


def values_at(curve: LossCurve, theta: Tensor) -> Tensor:
    """Return the mean loss at one theta, 0-d, or at several (K,)."""
    beta = theta.exp()[..., None]
    log_all_A = _kernel(curve.excess_AB, curve.company_AB, beta[..., None]).sum(-1).log()
    own_A = _kernel(curve.own_excess_AB, curve.own_AB, beta[..., None]).sum(-1).where(curve.valid_A, 1)
    return _mean(log_all_A - own_A.log() + beta * curve.gap_A, curve)


def slope_at(curve: LossCurve, theta: Tensor) -> Slope:
    """Return the mean loss and its derivatives at one theta."""
    beta = theta.exp()
    log_all_A, mean_A, variance_A = _moments(curve.excess_AB, curve.company_AB, beta)
    log_own_A, own_mean_A, own_variance_A = _moments(curve.own_excess_AB, curve.own_AB, beta)
    value = _mean(log_all_A - log_own_A + beta * curve.gap_A, curve)
    first = _mean(own_mean_A - mean_A + curve.gap_A, curve) * beta
    # Not times beta squared, which overflows first where distances are tiny.
    return Slope(value, first, first + _mean(variance_A - own_variance_A, curve) * beta * beta)


def minimising_log_beta(coarse: LossCurve, fine: LossCurve, *, low: Tensor, high: Tensor) -> Tensor:
    """Return theta near the global minimum: a grid on some anchors, Newton's method on more.

    The grid covers [low, high], and half as much again on either side, for data of several scales. A step is at
    most one grid spacing. The best theta of all evaluations is returned.
    """
    grid_K = low + (high - low) * torch.linspace(0, 1, _GRID, dtype=low.dtype, device=low.device)
    spacing = (high - low) / (_GRID - 1)
    start = _lowest(coarse, grid_K, spacing)
    low, high = low - _BEYOND * spacing, high + _BEYOND * spacing
    theta, lowest, best = start, torch.full_like(low, math.inf), start
    for _ in range(_NEWTON_STEPS):
        slope = slope_at(fine, theta)
        better = slope.value < lowest
        lowest, best = slope.value.where(better, lowest), theta.where(better, best)
        theta = _newton(theta, slope, spacing).clamp(low, high)
    return theta.where(values_at(fine, theta) < lowest, best)


def gradient_steps(curve: LossCurve, theta: Tensor, *, low: Tensor, high: Tensor) -> Tensor:
    """Return theta after a few clipped steps down the loss of this batch, within [low, high]."""
    theta = theta.clamp(low, high)
    for _ in range(_LEARNING_STEPS):
        step = (_LEARNING_RATE * slope_at(curve, theta).first).clamp(-_LONGEST_STEP, _LONGEST_STEP)
        theta = (theta - step).clamp(low, high)
    return theta


def _lowest(curve: LossCurve, grid_K: Tensor, spacing: Tensor) -> Tensor:
    """Return the theta of the lowest loss on the grid, or beyond it if that is lower by a worthwhile amount."""
    beyond_K = spacing * torch.arange(1, _BEYOND + 1, dtype=grid_K.dtype, device=grid_K.device)
    beyond_K = torch.cat([grid_K[0] - beyond_K, grid_K[-1] + beyond_K])
    values_K, beyond_values_K = values_at(curve, grid_K), values_at(curve, beyond_K)
    # Not grid_K[argmin]: indexing by a tensor makes the host wait for the device.
    inside, outside = _at_lowest(grid_K, values_K), _at_lowest(beyond_K, beyond_values_K)
    chance = values_at(curve, torch.full_like(spacing, -math.inf))
    worthwhile = beyond_values_K.amin() < torch.minimum(values_K.amin(), chance) - _WORTHWHILE * chance
    return outside.where(worthwhile, inside)


def _at_lowest(theta_K: Tensor, values_K: Tensor) -> Tensor:
    return theta_K.gather(0, values_K.argmin(0, keepdim=True))[0]


def _newton(theta: Tensor, slope: Slope, longest: Tensor) -> Tensor:
    # Where the curvature is negative, its absolute value is still a scale for a descent step.
    tiny = torch.finfo(theta.dtype).tiny
    step = slope.first / slope.second.abs().clamp_min(tiny)
    return theta - step.clamp(-longest, longest)


def _kernel(excess_AB: Tensor, weights_AB: Tensor, beta: Tensor) -> Tensor:
    return torch.mul(excess_AB, -math.log2(math.e) * beta).exp2_().mul_(weights_AB)


def _moments(excess_AB: Tensor, weights_AB: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log of the sum, the mean and the variance of the excess under the kernel, (A,) each."""
    kernel_AB = _kernel(excess_AB, weights_AB, beta)
    total_A = kernel_AB.sum(1)
    total_A = total_A.where(total_A > 0, 1)
    mean_A = torch.linalg.vecdot(kernel_AB, excess_AB) / total_A
    square_A = torch.linalg.vecdot(kernel_AB.mul_(excess_AB), excess_AB) / total_A
    return total_A.log(), mean_A, square_A - mean_A.square()


def _mean(values_A: Tensor, curve: LossCurve) -> Tensor:
    return values_A.where(curve.valid_A, 0).sum(-1) / curve.valid_A.sum().clamp_min(1)
