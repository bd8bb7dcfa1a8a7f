"""Comparison of two groups of values: permutation test, effect size with its bootstrap interval, Holm's correction.

Both resample counts of distinct values, which is faster than values where most are equal. `scipy.stats.bootstrap` and
`permutation_test` resample the same distributions by other random numbers, and would change results already reported.
Shapes: V distinct values, B draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.seeding import derive

__all__ = ["Comparison", "compare", "holm"]

Array: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]

# Samples come in blocks of about this many numbers.
_BLOCK = 2**21
# Sums of the same numbers in another order differ by rounding, and are ties.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of one group's values with another's.

    difference: of the means. p: two-sided, by permuting the membership in the groups.
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

    >>> result = compare(torch.arange(8) + 10.0, torch.arange(8.0), seed=0)
    >>> result.difference, result.p < 0.001, result.cliffs_delta, result.high
    (10.0, True, 1.0, 1.0)
    """
    for name, group in (("first", first), ("second", second)):
        if group.dim() != 1 or not len(group) or not group.isfinite().all():
            raise ValueError(f"{name}: must be a row of finite values, at least one, got {tuple(group.shape)}")
    values_V, index = np.unique(torch.cat([first, second]).double().numpy(), return_inverse=True)
    first_V = np.bincount(index[: len(first)], minlength=len(values_V))
    second_V = np.bincount(index[len(first) :], minlength=len(values_V))
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
    """Correct p values for their number (Holm, 1979), in the same order.

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
    """Sample the first group as a count of each value: the same distribution as permuting members, and faster."""
    pooled_V, size = first_V + second_V, int(first_V.sum())
    grand_mean = pooled_V @ values_V / pooled_V.sum()
    observed = abs(first_V @ values_V / size - grand_mean)
    threshold = observed - _ROUNDING * np.abs(values_V).max()
    # A group's mean is as far from the other's as it is from the grand mean, up to a factor.
    as_far = sum(
        int((np.abs(sampled_BV @ values_V / size - grand_mean) >= threshold).sum())
        for sampled_BV in (
            rng.multivariate_hypergeometric(pooled_V, size, size=block, method="count")
            for block in _blocks(draws, len(values_V))
        )
    )
    return (1 + as_far) / (draws + 1)


def _bootstrap(first_V: Counts, second_V: Counts, *, resamples: int, rng: np.random.Generator) -> Array:
    """Return Cliff's delta (B,) of both groups resampled with replacement."""

    def resampled(counts_V: Counts, block: int) -> Counts:
        size = int(counts_V.sum())
        return rng.multinomial(size, counts_V / size, size=block)

    blocks = _blocks(resamples, len(first_V))
    return np.concatenate([_cliffs_delta(resampled(first_V, block), resampled(second_V, block)) for block in blocks])


def _cliffs_delta(first_V: Counts, second_V: Counts) -> Array:
    """Return Cliff's delta of counts (..., V) of ascending values."""
    until = second_V.cumsum(-1)
    smaller, larger = until - second_V, until[..., -1:] - until
    return np.asarray((first_V * (smaller - larger)).sum(-1) / (first_V.sum(-1) * second_V.sum(-1)), dtype=np.float64)


def _blocks(count: int, width: int) -> list[int]:
    size = max(1, _BLOCK // width)
    return [min(size, count - start) for start in range(0, count, size)]
