"""Paired comparisons over seeds: differences to a control, corrected p-values, the set that may be the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.analysis.claims.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    moments,
    student_interval,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGNIFICANCE = 1 - CONFIDENCE


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference of two configurations over the seeds that both have.

    ``d_z`` is Cohen's effect size of paired values, the mean difference over the standard deviation of the
    differences; null if they are all equal. ``p`` is that of the two-sided test.
    """

    num_pairs: int
    mean: float
    interval: Interval
    bootstrap: Interval
    d_z: float | None
    p: float


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


def p_greater(differences: Sequence[float]) -> float:
    """Return the p-value of a mean above 0: Student's paired t-test, one-sided.

    Equal differences have no scale, and t would be infinite after two seeds. The p-value is then that of the signs,
    2^-n for n equal differences above 0.

    >>> p_greater([0.1, 0.1, 0.1]), p_greater([0.0, 0.0]), p_greater([-0.1, -0.1])
    (0.125, 1.0, 1.0)
    """
    from scipy import stats  # type: ignore[import-untyped]  # noqa: PLC0415

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
