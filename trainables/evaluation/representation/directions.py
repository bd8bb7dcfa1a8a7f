"""Directions in a feature space, the inputs that they rank first, and the tests of natural basis against random.

Szegedy et al. (ICLR 2014, section 3) look at the inputs x with the largest <phi(x), v>, for v a unit of a layer and
for v at random, and find both alike. Here what belongs together is counted, and the two groups are compared.
Shapes: N inputs, D units, R directions, K inputs ranked first, C classes, V distinct values, B draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import comb
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.seeding import derive

__all__ = [
    "Comparison",
    "Treatment",
    "chance_tail",
    "class_counts",
    "compare",
    "gaussian",
    "holm",
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
Array: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]

# Draws are made in blocks of about so many numbers.
_BLOCK = 2**21
# Sums of the same numbers in another order differ by rounding, and are ties.
_ROUNDING = 1e-12


def natural_basis(size: int) -> Tensor:
    """The units themselves, one per row (D, D).

    >>> natural_basis(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return torch.eye(size, dtype=torch.float64)


def gaussian(count: int, size: int, *, generator: torch.Generator) -> Tensor:
    """Directions (R, D) drawn evenly from the sphere: normalised Gaussian vectors."""
    return _normalised(torch.randn(count, size, dtype=torch.float64, generator=generator))


def non_negative(count: int, size: int, *, generator: torch.Generator) -> Tensor:
    """Directions (R, D) drawn evenly from the sphere's part without a negative coordinate, where the units are."""
    return gaussian(count, size, generator=generator).abs()


def rotated(count: int, size: int, *, generator: torch.Generator) -> Tensor:
    """The first rows (R, D) of a rotation or reflection with Haar's distribution: random, and orthonormal as the units.

    Raises:
        ValueError: more directions than dimensions.
    """
    if count > size:
        raise ValueError(f"count: must be <= {size}, the number of units, for orthonormal directions, got {count}")
    q_DR, r_RR = torch.linalg.qr(torch.randn(size, count, dtype=torch.float64, generator=generator))
    # Without these signs the distribution is that of the routine's convention (Mezzadri, 2007).
    signed_DR: Tensor = q_DR * r_RR.diagonal().sign()
    return signed_DR.T


def live_units(features_ND: Tensor) -> Tensor:
    """Which units (D,) take more than one value.

    >>> live_units(torch.tensor([[0.0, 1.0], [0.0, 2.0]])).tolist()
    [False, True]
    """
    return features_ND.amax(0) > features_ND.amin(0)


def treated(features_ND: Tensor, treatment: Treatment) -> Tensor:
    """The features in float64: as they are, less each unit's mean, or that in units of its standard deviation.

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
    """The inputs (R, K) of the largest scores, best first; of equal ones the input of the smaller index.

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
    """For which directions (R,) the index, not the score, decides about the last of the top K.

    >>> tied(torch.tensor([[0.0, 0.0, 2.0], [0.0, 1.0, 2.0]]), 2).tolist()
    [True, False]
    """
    return (scores_RN >= scores_RN.topk(k, dim=1).values[:, -1:]).sum(1) > k


def class_counts(top_RK: Tensor, labels_N: Tensor, *, num_classes: int) -> Tensor:
    """How many of a direction's top inputs are of each class (R, C)."""
    return torch.nn.functional.one_hot(labels_N[top_RK], num_classes).sum(1)


def purity(counts_RC: Tensor) -> Tensor:
    """The share (R,) of the most frequent class.

    >>> purity(torch.tensor([[3, 1, 0]])).tolist()
    [0.75]
    """
    return counts_RC.amax(1).double() / counts_RC.sum(1)


def label_entropy(counts_RC: Tensor) -> Tensor:
    """The entropy (R,) of the classes' shares, in nats.

    >>> label_entropy(torch.tensor([[4, 0], [2, 2]])).tolist()
    [0.0, 0.6931471805599453]
    """
    shares_RC = counts_RC.double() / counts_RC.sum(1, keepdim=True)
    entropy_R: Tensor = torch.special.entr(shares_RC).sum(1)
    return entropy_R


def chance_tail(class_sizes: Sequence[int], k: int) -> tuple[float, ...]:
    """For j = 0 ... k, the probability that k inputs drawn without replacement hold j or more of one class.

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
    """How many sets of k hold no more than `most` of any class; entry t of `ways` counts those of t."""
    ways = [1] + [0] * k
    for size in class_sizes:
        ways = [
            sum(ways[total - own] * comb(size, own) for own in range(min(most, total) + 1)) for total in range(k + 1)
        ]
    return ways[k]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far one group's values lie above another's.

    difference: of the means. p: two-sided, by permuting who belongs to which group.
    cliffs_delta: P(first > second) - P(first < second), in [-1, 1]; low, high: its 95% bootstrap interval.
    """

    difference: float
    p: float
    cliffs_delta: float
    low: float
    high: float


def compare(first: Tensor, second: Tensor, *, seed: int, draws: int = 10_000, resamples: int = 2_000) -> Comparison:
    """Compare two groups of values by a permutation test of their means, p = (1 + #{|d*| >= |d|}) / (draws + 1).

    The test takes the values as exchangeable under the null hypothesis. Units of one network share its inputs
    and its weights, so between networks a p value of one of them is no evidence: compare those of several seeds.

    Raises:
        ValueError: an empty group, or a value that is not finite.

    >>> found = compare(torch.arange(8) + 10.0, torch.arange(8.0), seed=0)
    >>> found.difference, found.p < 0.001, found.cliffs_delta, found.high
    (10.0, True, 1.0, 1.0)
    """
    for name, group in (("first", first), ("second", second)):
        if group.dim() != 1 or not len(group) or not group.isfinite().all():
            raise ValueError(f"{name}: must be a row of finite values, at least one, got {tuple(group.shape)}")
    values_V, place = np.unique(torch.cat([first, second]).double().numpy(), return_inverse=True)
    first_V = np.bincount(place[: len(first)], minlength=len(values_V))
    second_V = np.bincount(place[len(first) :], minlength=len(values_V))
    rng = np.random.default_rng(derive(seed, "compare"))
    deltas_B = _bootstrap(first_V, second_V, resamples=resamples, rng=rng)
    low, high = np.quantile(deltas_B, (0.025, 0.975))
    return Comparison(
        difference=float(first.double().mean() - second.double().mean()),
        p=_permutation_p(values_V, first_V, second_V, draws=draws, rng=rng),
        cliffs_delta=float(_cliffs_delta(first_V, second_V)),
        low=float(low),
        high=float(high),
    )


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """P values corrected for their number (Holm, 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(ps)), key=ps.__getitem__)
    stepped = accumulate((min(1.0, (len(ps) - rank) * ps[i]) for rank, i in enumerate(order)), max)
    corrected = dict(zip(order, stepped, strict=True))
    return tuple(corrected[i] for i in range(len(ps)))


def _permutation_p(
    values_V: Array, first_V: Counts, second_V: Counts, *, draws: int, rng: np.random.Generator
) -> float:
    """Who is in the first group is drawn as how many there are of each value: the same distribution, and faster."""
    pooled_V, size = first_V + second_V, int(first_V.sum())
    grand_mean = pooled_V @ values_V / pooled_V.sum()
    observed = abs(first_V @ values_V / size - grand_mean)
    threshold = observed - _ROUNDING * np.abs(values_V).max()
    # A group's mean is as far from the other's as it is from the grand mean, up to a factor.
    as_far = sum(
        int((np.abs(drawn_BV @ values_V / size - grand_mean) >= threshold).sum())
        for drawn_BV in (
            rng.multivariate_hypergeometric(pooled_V, size, size=block, method="count")
            for block in _blocks(draws, len(values_V))
        )
    )
    return (1 + as_far) / (draws + 1)


def _bootstrap(first_V: Counts, second_V: Counts, *, resamples: int, rng: np.random.Generator) -> Array:
    """Cliff's delta (B,) of both groups drawn anew, with replacement."""

    def resampled(counts_V: Counts, block: int) -> Counts:
        size = int(counts_V.sum())
        return rng.multinomial(size, counts_V / size, size=block)

    blocks = _blocks(resamples, len(first_V))
    return np.concatenate([_cliffs_delta(resampled(first_V, block), resampled(second_V, block)) for block in blocks])


def _cliffs_delta(first_V: Counts, second_V: Counts) -> Array:
    """Of counts (..., V) of ascending values."""
    until = second_V.cumsum(-1)
    smaller, larger = until - second_V, until[..., -1:] - until
    return np.asarray((first_V * (smaller - larger)).sum(-1) / (first_V.sum(-1) * second_V.sum(-1)), dtype=np.float64)


def _blocks(count: int, width: int) -> list[int]:
    size = max(1, _BLOCK // width)
    return [min(size, count - start) for start in range(0, count, size)]


def _normalised(rows_RD: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows_RD, dim=1)
