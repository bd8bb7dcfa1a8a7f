"""Loss and its gradient from distances, in closed form.

With s_ij = -beta d_ij, Q_i the log-sum-exp of s_i over the anchor's own class and R_i over all other classes,

    l_i = softplus(R_i - Q_i),   dL/ds_ij = a_i (exp(s_ij - R_i) for another class, -exp(s_ij - Q_i) for its own),

where a_i = sigmoid(R_i - Q_i) / M, and M is the number of valid anchors. Exponents are in base 2: on a CPU exp2
is several times faster than exp, and exp slows down tenfold where it underflows. A number above every distance
represents infinity, since inf - inf is no number and a selection costs more than an addition.

Shapes: B points; I and J are blocks of points.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from trainables.snnl.composition import Company

__all__ = [
    "Kinds",
    "Pull",
    "kinds",
    "log2_sum",
    "losses_of",
    "mean_of",
    "out_of_reach",
    "pull_of",
    "score_gradient",
    "smallest_beta",
]

LOG2_E = math.log2(math.e)


class Kinds(NamedTuple):
    """Kinds of pairs, as numbers: 1 where not of the own class (or itself), and 1 where not of another class."""

    not_own_IJ: Tensor
    not_other_IJ: Tensor


class Pull(NamedTuple):
    """Terms -log2 of each anchor's share a_i over its two sums, (B,): out of reach if the anchor does not count."""

    own_B: Tensor
    other_B: Tensor


def kinds(rows_I: Tensor, columns_J: Tensor, *, itself: bool, dtype: torch.dtype) -> Kinds:
    """Compare labels; set `itself` if both blocks are the same points."""
    same_IJ = (rows_I[:, None] == columns_J).to(dtype)
    not_own_IJ = 1 - same_IJ
    return Kinds(not_own_IJ.fill_diagonal_(1) if itself else not_own_IJ, same_IJ)


def out_of_reach(dtype: torch.dtype) -> float:
    """Return a distance that represents infinity, with room to multiply it by a beta."""
    return float(torch.finfo(dtype).max ** 0.75)


def smallest_beta(dtype: torch.dtype) -> float:
    """Return a beta that stands for 0: it makes no distance count, but still drops what is out of reach."""
    return float(torch.finfo(dtype).max ** -0.65)


def log2_sum(distances_IJ: Tensor, without_IJ: Tensor, *, beta: Tensor, dim: int) -> Tensor:
    """Return log2 of the sum of exp(-beta d) along `dim`, over the pairs where `without` is 0."""
    far = out_of_reach(distances_IJ.dtype)
    # An infinite temperature, too, must leave out what is out of reach.
    beta = beta.clamp_min(smallest_beta(distances_IJ.dtype))
    reach_IJ = torch.add(distances_IJ, without_IJ, alpha=far)
    nearest = reach_IJ.amin(dim, keepdim=True)
    total = reach_IJ.sub_(nearest).mul_(-LOG2_E * beta).exp2_().sum(dim)
    return total.log2() - LOG2_E * beta * nearest.squeeze(dim)


def losses_of(own_B: Tensor, other_B: Tensor, classes: Company) -> tuple[Tensor, Tensor]:
    """Return the loss of each anchor from the log2 of its two sums, and its derivative by R_i - Q_i, both (B,)."""
    log_odds_B = ((other_B - own_B) / LOG2_E).where(classes.counted_B, 0)
    return functional.softplus(log_odds_B).where(classes.counted_B, 0), log_odds_B.sigmoid().where(classes.counted_B, 0)


def mean_of(losses_B: Tensor, classes: Company) -> Tensor:
    """Return the mean over the valid anchors, or 0 without any."""
    return losses_B.sum() / classes.valid_B.sum().clamp_min(1)


def pull_of(own_B: Tensor, other_B: Tensor, classes: Company) -> Pull:
    """Return the terms of each anchor for `score_gradient`."""
    _, slope_B = losses_of(own_B, other_B, classes)
    share_B = (slope_B / classes.valid_B.sum().clamp_min(1)).log2()
    # A share that underflowed counts as none.
    some_B, far = share_B.isfinite(), out_of_reach(share_B.dtype)
    return Pull((own_B - share_B).where(some_B, far), (other_B - share_B).where(some_B, far))


def score_gradient(distances_IJ: Tensor, kind: Kinds, *, own_I: Tensor, other_I: Tensor, beta: Tensor) -> Tensor:
    """Return dL/ds_ij of the anchors that `own` and `other` broadcast along, (I, J); 0 for a point and itself."""
    exponent_IJ = torch.addcmul(own_I, other_I - own_I, kind.not_own_IJ)
    exponent_IJ = exponent_IJ.addcmul_(distances_IJ, LOG2_E * beta).neg_()
    # Only a point's distance to itself can exceed its sums; it would overflow before it is dropped.
    weights_IJ = exponent_IJ.clamp_max_(0).exp2_()
    return weights_IJ.mul_(kind.not_own_IJ - kind.not_other_IJ)
