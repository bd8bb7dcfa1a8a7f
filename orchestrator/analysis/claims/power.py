"""Power of a test of a mean difference: the smallest effect that it would have found."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE

if TYPE_CHECKING:
    from orchestrator.analysis.claims.comparisons import Difference

POWER = 0.8


@functools.cache
def noncentrality(degrees: float, *, power: float = POWER, alpha: float = SIGNIFICANCE) -> float:
    """Return the true difference, in standard errors, that a two-sided t-test finds with this probability.

    Raises:
        ValueError: not 0 < alpha < power < 1, or no degree of freedom.

    >>> f"{noncentrality(2):.2f} {noncentrality(1000):.2f}"
    '5.65 2.80'
    """
    from scipy import optimize, stats  # type: ignore[import-untyped]  # noqa: PLC0415

    if not 0 < alpha < power < 1 or degrees <= 0:
        raise ValueError(f"power: must be in (alpha, 1) of some degrees of freedom, got {power}, {alpha}, {degrees}")
    critical = float(stats.t.ppf(1 - alpha / 2, degrees))

    def lack(shift: float) -> float:
        # The square of a noncentral t is a noncentral F, whose tails scipy computes at any shift.
        return float(stats.ncf.sf(critical**2, 1, degrees, shift**2)) - power

    above = critical
    while lack(above) < 0:
        above *= 2
    return float(optimize.brentq(lack, 1e-6, above))


def smallest_effect(num_pairs: int, *, power: float = POWER, alpha: float = SIGNIFICANCE) -> float:
    """Return the smallest d_z that a paired t-test of so many pairs finds with this probability.

    Raises:
        ValueError: as `noncentrality`.

    >>> [f"{smallest_effect(pairs):.2f}" for pairs in (3, 5, 10)]
    ['3.26', '1.68', '1.00']
    """
    return noncentrality(num_pairs - 1, power=power, alpha=alpha) / math.sqrt(num_pairs)


def smallest_difference(difference: Difference, *, power: float = POWER, alpha: float = SIGNIFICANCE) -> float:
    """Return the smallest true difference, in the unit of the metric, that this comparison finds with a probability.

    It depends on the standard error alone, so on the number of seeds and their spread, and not on what was measured.
    """
    return noncentrality(difference.degrees, power=power, alpha=alpha) * difference.error
