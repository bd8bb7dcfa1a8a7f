"""Quantiles: numbers in the unit interval, and the position of a number in a range."""

from __future__ import annotations

import math

from search_spaces.domains.values import broken
from search_spaces.errors import quoted


def check_unit(u: float) -> None:
    """Raise if a quantile is outside [0, 1].

    >>> check_unit(1.5)
    Traceback (most recent call last):
    search_spaces.errors.DomainError: from_unit: a quantile must be in [0, 1], got 1.5
    """
    if not 0 <= u <= 1:
        raise broken("from_unit", f"a quantile must be in [0, 1], got {quoted(u)}")


def position(x: float, low: float, high: float) -> float:
    """Return the position of x between low and high, as a fraction in [0, 1].

    >>> position(2.5, 2.0, 4.0), position(0.0, -1.7e308, 1.7e308), position(0.0, 0.0, 5e-324)
    (0.25, 0.5, 0.0)
    """
    if low == high:  # the logarithms of neighbouring floats may be one
        return 0.0
    if math.isfinite(high - low):
        return clip((x - low) / (high - low), 0.0, 1.0)
    return clip((x / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)  # the span overflows; its half does not


def clip(x: float, low: float, high: float) -> float:
    """Return x, or the nearest bound if float rounding moved it outside [low, high].

    >>> clip(1.0000000000000002, 0.0, 1.0)
    1.0
    """
    return min(max(x, low), high)
