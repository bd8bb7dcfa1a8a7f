"""Range of one number around the best of its values; `refinement` documents the rules."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from search_spaces.domains.types import Domain, Fixed, Float, Int, SymLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEVEL = 0.01
"""Significance level: a pattern of the best points with a smaller probability is not chance."""

# Coordinate of -gap in `SymLog`: 0 itself is the coordinate of +gap.
_LAST_NEGATIVE = -(2.0**-1022)

# Fraction of a step by which rounding may move a bound off its lattice.
_ROUNDING = Fraction(1, 10**9)

Number: TypeAlias = Float | Int | SymLog
# Lower and upper bound of the widest possible range.
Limits: TypeAlias = tuple[float, float]


class _Axis(NamedTuple):
    """Coordinate in which a domain is uniform."""

    of: Callable[[float], float]
    value_at: Callable[[float], float]
    low: float
    high: float


def around(domain: Number, values: Sequence[float], limits: Limits | None) -> tuple[Domain, list[str]]:
    """Return the range of the best values, with the margin that k draws leave, and notes on its edges.

    >>> around(Float(0.0, 10.0), [4.0, 4.25, 4.5, 4.75, 5.0], None)
    (Float(low=3.7, high=5.3, log=False), [])
    >>> around(Float(1e-4, 1.0, log=True), [1e-4, 1.5e-4, 2e-4, 3e-4, 4e-4], None)[1]
    ['the best points crowd at the lower edge 0.0001: widened to 1e-05']
    """
    axis = _axis(domain)
    places = sorted(axis.of(value) for value in values)
    span, length = places[-1] - places[0], axis.high - axis.low
    margin = span / (len(places) - 1) if span else length / (len(places) + 1)
    low, high = axis.low, axis.high
    if _ends_short_of(axis.low, places[0], places[-1], len(places)):
        low = max(places[0] - margin, axis.low)
    if _ends_short_of(axis.high, places[-1], places[0], len(places)):
        high = min(places[-1] + margin, axis.high)
    if isinstance(domain, SymLog):  # the best values of one sign are not informative about the other
        low, high = (
            (max(low, 0.0), high) if places[0] >= 0 else (low, min(high, _LAST_NEGATIVE) if places[-1] < 0 else high)
        )
    floor, ceiling = limits or _natural_limits(domain)
    notes: list[str] = []
    if low == axis.low and _crowd(sum(place <= axis.low + length / 4 for place in places), len(places)):
        low, note = _widened(axis, axis.low - length / 4, floor, edge=domain.low, which="lower")
        notes.append(note)
    if high == axis.high and _crowd(sum(place >= axis.high - length / 4 for place in places), len(places)):
        high, note = _widened(axis, axis.high + length / 4, ceiling, edge=domain.high, which="upper")
        notes.append(note)
    new_low, new_high = _readable(axis.value_at(low), down=True), _readable(axis.value_at(high), down=False)
    # Rounding may move a bound past its old edge; the best values are in the range even if they are outside the limits.
    least = min(floor if low < axis.low else max(domain.low, floor), *values)
    most = max(ceiling if high > axis.high else min(domain.high, ceiling), *values)
    new_low, new_high = min(max(new_low, least), *values), max(min(new_high, most), *values)
    return _rebuilt(domain, new_low, new_high, (least, most)), notes


def _axis(domain: Number) -> _Axis:
    match domain:
        case SymLog(coordinate_bounds=(low, high)):
            return _Axis(domain.to_coordinate, _signed(domain.gap), low, high)
        case Float(log=True) | Int(log=True):
            return _Axis(math.log, math.exp, math.log(domain.low), math.log(domain.high))
        case _:
            return _Axis(float, float, domain.low, domain.high)


def _signed(gap: float) -> Callable[[float], float]:
    return lambda c: math.copysign(gap * math.exp(abs(c)), 1.0 if c >= 0 else -1.0)


def _natural_limits(domain: Number) -> Limits:
    """Return the default limits of widening: 0, and 1 for a linear range in [0, 1]."""
    low, high = domain.low, domain.high
    match domain:
        case SymLog(gap=gap):
            return (gap if low > 0 else -math.inf), (-gap if high < 0 else math.inf)
        case Int():
            return (min(low, 1) if low >= 0 else -math.inf), (max(high, -1) if high <= 0 else math.inf)
        case Float(log=log):
            fraction = 1.0 if not log and low >= 0 and high <= 1 else math.inf
            return (low / 4 if low >= 0 and not log else -math.inf), (high / 4 if high <= 0 else fraction)


def _ends_short_of(edge: float, nearest: float, farthest: float, k: int) -> bool:
    """Return True if k uniform draws from the edge to the farthest would rarely leave so large a gap at the edge."""
    reach = abs(farthest - edge)
    return reach > 0 and (1 - abs(nearest - edge) / reach) ** k < LEVEL


def _crowd(count: int, k: int) -> bool:
    """Return True if chance rarely puts so many of k values in the outer quarter."""
    tail = sum(math.comb(k, i) * 0.25**i * 0.75 ** (k - i) for i in range(count, k + 1))
    return tail < LEVEL


def _widened(axis: _Axis, place: float, limit: float, *, edge: float, which: str) -> tuple[float, str]:
    bound = axis.value_at(place)
    limited = max(bound, limit) if which == "lower" else min(bound, limit)
    note = f"the best points crowd at the {which} edge {edge:g}"
    if limited == edge or (limited < edge) == (which == "upper"):
        return axis.of(edge), f"{note}, which is the limit"
    return axis.of(limited) if limited != bound else place, f"{note}: widened to {limited:.2g}"


def _readable(x: float, *, down: bool) -> float:
    """Round a bound outwards to two digits, down or up, ignoring float rounding errors."""
    exact = Context(prec=12).create_decimal(repr(x))
    return float(Context(prec=2, rounding=ROUND_FLOOR if down else ROUND_CEILING).create_decimal(exact))


def _rebuilt(domain: Number, low: float, high: float, limits: Limits) -> Domain:
    """Return the domain with other bounds, moved outwards onto its lattice, within the limits."""
    match domain:
        case Int(low=origin, log=log, step=step):
            first, last = _places(low, high, limits, Fraction(origin), Fraction(step))
            ends = origin + first * step, origin + last * step
            return Fixed(ends[0]) if first == last else Int(*ends, log=log, step=step)
        case Float() if (lattice := domain.values()) is not None:
            places = _places(low, high, limits, lattice.low, lattice.step)
            bounds = [float(lattice.low + place * lattice.step) for place in places]
            return Fixed(bounds[0]) if bounds[0] == bounds[1] else Float(*bounds, step=domain.step)
        case Float(log=log):
            return Fixed(low) if low == high else Float(low, high, log=log)
        case SymLog(gap=gap):
            low, high = max(low, gap) if low > 0 else low, min(high, -gap) if high < 0 else high
            return Fixed(low) if low == high else SymLog(low, high, gap=gap)


def _places(low: float, high: float, limits: Limits, origin: Fraction, step: Fraction) -> tuple[int, int]:
    """Return the distances of the new bounds from the origin, in steps."""
    first = math.floor((Fraction(low) - origin) / step + _ROUNDING)
    last = math.ceil((Fraction(high) - origin) / step - _ROUNDING)
    least, most = limits
    if math.isfinite(least):
        first = max(first, math.ceil((Fraction(least) - origin) / step - _ROUNDING))
    if math.isfinite(most):
        last = min(last, math.floor((Fraction(most) - origin) / step + _ROUNDING))
    return first, last
