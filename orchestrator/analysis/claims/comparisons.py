"""Comparisons over seeds: differences to a control, paired or not, corrected p-values, the set that may be the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.analysis.claims.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    moments,
    quantile,
    student_interval,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGNIFICANCE = 1 - CONFIDENCE


class Difference(Protocol):
    """Mean difference to a control, with its standard error, degrees of freedom, 95 % interval and two-sided p."""

    @property
    def mean(self) -> float:
        """Mean difference."""

    @property
    def error(self) -> float:
        """Standard error of the mean."""

    @property
    def degrees(self) -> float:
        """Degrees of freedom."""

    @property
    def interval(self) -> Interval:
        """Interval at 95 %."""

    @property
    def p(self) -> float:
        """P-value of the two-sided test."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean, standard deviation (n - 1) and number of values.

    Raises:
        ValueError: fewer than two values, a negative deviation, or a number that is not finite.
    """

    mean: float
    spread: float
    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"count: must be two or more, got {self.count}")
        if not (math.isfinite(self.mean) and 0 <= self.spread < math.inf):
            raise ValueError(f"spread: must be finite and >= 0 of a finite mean, got {self.spread} of {self.mean}")

    @classmethod
    def from_half_width(cls, mean: float, half: float, count: int) -> Summary:
        """Return the summary of values whose interval of Student's t is ``mean`` and ``half`` more and less.

        >>> f"{Summary.from_half_width(0.36, 0.093, 3).spread:.4f}"
        '0.0374'
        """
        return cls(mean, half / quantile(count - 1) * math.sqrt(count), count)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference of two configurations over the seeds that both have.

    ``d_z`` is Cohen's effect size of paired values, the mean difference over the standard deviation of the
    differences; null if they are all equal. ``p`` is that of the two-sided test.

    >>> found = paired_difference([0.93, 0.95, 0.95], [0.90, 0.91, 0.93])
    >>> f"{found.error:.4f} {found.degrees} {found.g_z:.3f}"
    '0.0058 2 1.693'
    """

    num_pairs: int
    mean: float
    interval: Interval
    bootstrap: Interval
    d_z: float | None
    p: float

    @property
    def degrees(self) -> int:
        """Degrees of freedom."""
        return self.num_pairs - 1

    @property
    def error(self) -> float:
        """Standard error of the mean, that of ``interval``."""
        return (self.interval.high - self.interval.low) / 2 / quantile(self.degrees)

    @property
    def g_z(self) -> float | None:
        """Effect size ``d_z`` with Hedges' correction for few pairs (1981), by which it is unbiased; null of two pairs.

        The factor is gamma(m / 2) / (sqrt(m / 2) gamma((m - 1) / 2)) of m degrees of freedom, 0.56 of three pairs.
        """
        if self.d_z is None or self.degrees < 2:
            return None
        half = self.degrees / 2
        return self.d_z * math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)


@dataclass(frozen=True, slots=True)
class UnpairedDifference:
    """Difference of the means of two samples that share nothing (Welch, 1947): for results kept without their seeds.

    ``error`` is its standard error, ``degrees`` are those of Satterthwaite.
    """

    mean: float
    error: float
    degrees: float

    @property
    def interval(self) -> Interval:
        """Interval at 95 %."""
        half = quantile(self.degrees) * self.error
        return Interval(self.mean - half, self.mean + half)

    @property
    def p(self) -> float:
        """P-value of the two-sided test."""
        from scipy import stats  # type: ignore[import-untyped]  # noqa: PLC0415

        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.degrees))


def paired_difference(
    values: Sequence[float], control: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> PairedDifference:
    """Return the difference of paired values, one pair for each seed.

    Raises:
        ValueError: the lengths differ, there are fewer than two pairs, or a value is not finite.

    >>> found = paired_difference([0.93, 0.95, 0.95], [0.90, 0.91, 0.93])
    >>> f"{found.mean:.3f} {found.d_z:.2f} {found.p:.3f}"
    '0.030 3.00 0.035'
    """
    differences = _differences(values, control)
    mean, spread = moments(differences)
    return PairedDifference(
        num_pairs=len(differences),
        mean=mean,
        interval=student_interval(differences),
        bootstrap=bootstrap_interval(differences, seed=seed, resamples=resamples),
        d_z=mean / spread if spread else None,
        p=min(1.0, 2 * p_greater([math.copysign(1, mean) * value for value in differences])),
    )


def unpaired_difference(sample: Summary, control: Summary) -> UnpairedDifference:
    """Return the difference of two means from their summaries; paired values have a narrower interval, mostly.

    Raises:
        ValueError: fewer than two values, a negative deviation, or no deviation in either.

    >>> found = unpaired_difference(Summary(0.54, 0.2, 3), Summary(0.36, 0.04, 3))
    >>> f"{found.mean:.2f} {found.p:.2f}"
    '0.18 0.26'
    """
    parts = [one.spread**2 / one.count for one in (sample, control)]
    if not sum(parts):
        raise ValueError("spread: must be > 0 in one of them, or the difference has no scale, got 0 and 0")
    downwards = sum(part**2 / (one.count - 1) for part, one in zip(parts, (sample, control), strict=True))
    return UnpairedDifference(sample.mean - control.mean, math.sqrt(sum(parts)), sum(parts) ** 2 / downwards)


def p_greater(differences: Sequence[float]) -> float:
    """Return the p-value of a mean above 0: Student's paired t-test, one-sided.

    Equal differences have no scale, and t would be infinite after two seeds. The p-value is then that of the signs,
    2^-n for n equal differences above 0.

    >>> p_greater([0.1, 0.1, 0.1]), p_greater([0.0, 0.0]), p_greater([-0.1, -0.1])
    (0.125, 1.0, 1.0)
    """
    from scipy import stats  # noqa: PLC0415

    mean, spread = moments(differences)
    if not spread:
        return 0.5 ** len(differences) if mean > 0 else 1.0
    return float(stats.t.sf(mean / spread * math.sqrt(len(differences)), len(differences) - 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number (Holm, 1979): the chance of one false claim or more is below 5 %.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected, largest = dict[str, float](), 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def best_candidates(values: Mapping[str, Sequence[float]]) -> frozenset[str]:
    """Return the configurations that cannot be distinguished from the best; higher is better, values paired by seed.

    Multiple comparisons with the best (Hsu, 1984): a configuration is out if any rival is better by a one-sided paired
    t-test at 5 % over the number of rivals. The set contains the truly best one with 95 %, whichever looks best.

    Raises:
        ValueError: the lengths differ, there are fewer than two values, or one is not finite.

    >>> sorted(best_candidates({"a": [0.90, 0.91, 0.92], "b": [0.90, 0.92, 0.91], "c": [0.50, 0.51, 0.53]}))
    ['a', 'b']
    """
    level = SIGNIFICANCE / max(1, len(values) - 1)
    return frozenset(
        name
        for name, own in values.items()
        if all(p_greater(_differences(rival, own)) > level for other, rival in values.items() if other != name)
    )


def _differences(values: Sequence[float], control: Sequence[float]) -> list[float]:
    if len(values) != len(control):
        raise ValueError(f"values: must be as many as the control has ({len(control)}), got {len(values)}")
    return [value - other for value, other in zip(values, control, strict=True)]
