"""Directions in a feature space, and the inputs that they rank first.

Szegedy et al. (ICLR 2014, section 3) inspect the inputs x with the largest <phi(x), v>, for v a unit of a layer and
for v at random, and find both alike. Here the classes of these inputs are counted, so that groups can be compared.
Shapes: N inputs, D units, R directions, K inputs ranked first, C classes.
"""

from collections.abc import Sequence
from math import comb
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = [
    "Treatment",
    "chance_tail",
    "class_counts",
    "gaussian",
    "label_entropy",
    "live_units",
    "natural_basis",
    "non_negative",
    "purity",
    "rotated",
    "tied",
    "top_k",
    "treated",
]

Treatment = Literal["raw", "centred", "standardised"]


def natural_basis(size: int) -> Tensor:
    """Return the units themselves, one per row (D, D).

    >>> natural_basis(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return torch.eye(size, dtype=torch.float64)


def gaussian(count: int, size: int, *, generator: torch.Generator) -> Tensor:
    """Sample directions (R, D) evenly from the sphere: normalised Gaussian vectors."""
    return _normalised(torch.randn(count, size, dtype=torch.float64, generator=generator))


def non_negative(count: int, size: int, *, generator: torch.Generator) -> Tensor:
    """Sample directions (R, D) evenly from the part of the sphere without negative coordinates, as the units are."""
    return gaussian(count, size, generator=generator).abs()


def rotated(count: int, size: int, *, generator: torch.Generator) -> Tensor:
    """Sample the first rows (R, D) of a Haar-distributed rotation or reflection: random, orthonormal as the units.

    Raises:
        ValueError: more directions than dimensions.
    """
    if count > size:
        raise ValueError(f"count: must be <= {size}, the number of units, for orthonormal directions, got {count}")
    q_DR, r_RR = torch.linalg.qr(torch.randn(size, count, dtype=torch.float64, generator=generator))
    # Without these signs the distribution depends on the routine's convention (Mezzadri, 2007).
    signed_DR: Tensor = q_DR * r_RR.diagonal().sign()
    return signed_DR.T


def live_units(features_ND: Tensor) -> Tensor:
    """Return the units (D,) that take more than one value.

    >>> live_units(torch.tensor([[0.0, 1.0], [0.0, 2.0]])).tolist()
    [False, True]
    """
    return features_ND.amax(0) > features_ND.amin(0)


def treated(features_ND: Tensor, treatment: Treatment) -> Tensor:
    """Return the features in float64: raw, minus each unit's mean, or also divided by its standard deviation.

    Centring moves all scores of a direction alike, so it changes no ranking: 'raw' and 'centred' features have the
    same top inputs. Standardising does change them, for directions other than the units.

    Raises:
        ValueError: an unknown treatment; a feature that is not finite; a dead unit to standardise.

    >>> treated(torch.tensor([[1.0], [3.0]]), "standardised").tolist()
    [[-1.0], [1.0]]
    """
    if treatment not in get_args(Treatment):
        raise ValueError(f"treatment: must be one of {get_args(Treatment)}, got {treatment!r}")
    if not features_ND.isfinite().all():
        raise ValueError(f"features: must be finite, got {int((~features_ND.isfinite()).sum())} values that are not")
    values_ND = features_ND.double()
    if treatment == "raw":
        return values_ND
    centred_ND = values_ND - values_ND.mean(0)
    if treatment == "centred":
        return centred_ND
    if not (live := live_units(features_ND)).all():
        raise ValueError(f"features: must vary in each unit to be standardised, got {int((~live).sum())} dead units")
    return centred_ND / values_ND.std(0, correction=0)


def top_k(scores_RN: Tensor, k: int) -> Tensor:
    """Return the inputs (R, K) of the largest scores, best first; of equal ones the input of the smaller index.

    Raises:
        ValueError: k is not in [1, N].

    >>> top_k(torch.tensor([[1.0, 5.0, 1.0, 1.0]]), 3).tolist()
    [[1, 0, 2]]
    """
    if not 1 <= k <= scores_RN.shape[1]:
        raise ValueError(f"k: must be in [1, {scores_RN.shape[1]}], the number of inputs, got {k}")
    cut_R1 = scores_RN.topk(k, dim=1).values[:, -1:]
    above_RN, at_RN = scores_RN > cut_R1, scores_RN == cut_R1
    room_R1 = k - above_RN.sum(1, keepdim=True)
    kept_RN = above_RN | (at_RN & (at_RN.cumsum(1, dtype=torch.int32) <= room_R1))
    by_index_RK = kept_RN.nonzero()[:, 1].reshape(-1, k)
    order_RK = scores_RN.gather(1, by_index_RK).sort(dim=1, descending=True, stable=True).indices
    return by_index_RK.gather(1, order_RK)


def tied(scores_RN: Tensor, k: int) -> Tensor:
    """Return the directions (R,) for which the index, not the score, decides the last of the top K.

    >>> tied(torch.tensor([[0.0, 0.0, 2.0], [0.0, 1.0, 2.0]]), 2).tolist()
    [True, False]
    """
    return (scores_RN >= scores_RN.topk(k, dim=1).values[:, -1:]).sum(1) > k


def class_counts(top_RK: Tensor, labels_N: Tensor, *, num_classes: int) -> Tensor:
    """Count the top inputs of each direction by class (R, C)."""
    return torch.nn.functional.one_hot(labels_N[top_RK], num_classes).sum(1)


def purity(counts_RC: Tensor) -> Tensor:
    """Return the share (R,) of the most frequent class.

    >>> purity(torch.tensor([[3, 1, 0]])).tolist()
    [0.75]
    """
    return counts_RC.amax(1).double() / counts_RC.sum(1)


def label_entropy(counts_RC: Tensor) -> Tensor:
    """Return the entropy (R,) of the classes' shares, in nats.

    >>> label_entropy(torch.tensor([[4, 0], [2, 2]])).tolist()
    [0.0, 0.6931471805599453]
    """
    shares_RC = counts_RC.double() / counts_RC.sum(1, keepdim=True)
    entropy_R: Tensor = torch.special.entr(shares_RC).sum(1)
    return entropy_R


def chance_tail(class_sizes: Sequence[int], k: int) -> tuple[float, ...]:
    """Return, for j = 0 ... k, the probability that k inputs sampled without replacement hold j or more of one class.

    Exact, from the multivariate hypergeometric distribution: the one-sided p value of a direction whose most
    frequent class has j of the top k. The expected purity is the sum of entries 1 to k, over k.

    Raises:
        ValueError: k is not in [1, N].

    >>> chance_tail((1, 1), 1), [round(p, 3) for p in chance_tail((5, 5), 2)]
    ((1.0, 1.0), [1.0, 1.0, 0.444])
    """
    if not 1 <= k <= sum(class_sizes):
        raise ValueError(f"k: must be in [1, {sum(class_sizes)}], the number of inputs, got {k}")
    ways = comb(sum(class_sizes), k)
    at_most = [_ways_with_at_most(most, class_sizes, k) for most in range(k)]
    return (1.0, *((ways - count) / ways for count in at_most))


def _ways_with_at_most(most: int, class_sizes: Sequence[int], k: int) -> int:
    """Count the sets of k with no more than `most` of any class; entry t of `ways` counts the sets of t."""
    ways = [1] + [0] * k
    for size in class_sizes:
        ways = [
            sum(ways[total - own] * comb(size, own) for own in range(min(most, total) + 1)) for total in range(k + 1)
        ]
    return ways[k]


def _normalised(rows_RD: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows_RD, dim=1)
