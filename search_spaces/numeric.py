"""Domains of numbers: Float, Int and SymLog, each mapped from the unit interval by its quantiles."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import final

from search_spaces.values import Domain, Scalar, broken, is_number

# Ints beyond this are not exact as a float, so neither in JSON nor in a sampler.
_LARGEST_INT = 2**53
# Where -gap lies in the coordinate of SymLog: 0 itself belongs to +gap. The smallest normal float
# rather than a denormal, which some hardware flushes to zero.
_BELOW_ZERO = -(2.0**-1022)


@final
@dataclass(frozen=True, slots=True)
class Float(Domain):
    """Floats in [low, high], uniform in the value or, with `log`, in its logarithm.

    Raises:
        DomainError: a bound is not a finite number, low >= high, or `log` with low <= 0.

    >>> round(Float(1e-4, 1.0, log=True).from_unit(0.5), 12)
    0.01
    >>> Float(low=1, high=0)
    Traceback (most recent call last):
    search_spaces.errors.DomainError: Float: low < high must hold, got low=1.0, high=0.0
    """

    low: float
    high: float
    log: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _set_number(self, "low")
        _set_number(self, "high")
        _check_order("Float", self.low, self.high)
        _check_log("Float", self.low, log=self.log, least=sys.float_info.min)

    def contains(self, value: object) -> bool:
        """Whether `value` is a number in [low, high]; an int counts as the float it equals."""
        return is_number(value) and self.low <= value <= self.high

    def from_unit(self, u: float) -> float:
        """Return the value at quantile `u`: low at 0, high at 1."""
        check_unit(u)
        if u in {0.0, 1.0}:
            return self.high if u else self.low
        if not self.log:
            return clip(self.low * (1 - u) + self.high * u, self.low, self.high)
        exponent = math.log(self.low) * (1 - u) + math.log(self.high) * u
        return clip(math.exp(exponent), self.low, self.high)

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile of `value`."""
        x = _number_in(self, value)
        if self.log:
            return position(math.log(x), math.log(self.low), math.log(self.high))
        return position(x, self.low, self.high)

    def describe(self) -> str:
        """Return the domain in words.

        >>> Float(0.1, 4.0, log=True).describe()
        'a float in [0.1, 4], log'
        """
        return f"a float in [{self.low:g}, {self.high:g}]" + (", log" if self.log else "")

    def to_dict(self) -> dict[str, object]:
        """Return the domain as it is written in a space document.

        >>> Float(0.1, 4.0, log=True).to_dict()
        {'float': [0.1, 4.0], 'log': True}
        """
        return {"float": [self.low, self.high]} | ({"log": True} if self.log else {})


@final
@dataclass(frozen=True, slots=True)
class Int(Domain):
    """Ints from low to high, both included; with `log`, equal ratios are equally likely.

    The log form rounds a log-uniform draw from [low - 1/2, high + 1/2], as Optuna does.

    Raises:
        DomainError: a bound is not an int within 2**53, low >= high, or `log` with low < 1.

    >>> [Int(1, 4).from_unit(u) for u in (0.0, 0.3, 0.6, 1.0)]
    [1, 2, 3, 4]
    >>> Int(2, 10).contains(True), Int(2, 10).contains(3.0)
    (False, False)
    """

    low: int
    high: int
    log: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_int("Int.low", self.low)
        _check_int("Int.high", self.high)
        _check_order("Int", self.low, self.high)
        _check_log("Int", self.low, log=self.log, least=1)

    def contains(self, value: object) -> bool:
        """Whether `value` is an int in [low, high]."""
        return type(value) is int and self.low <= value <= self.high

    def from_unit(self, u: float) -> int:
        """Return the value at quantile `u`."""
        check_unit(u)
        if not self.log:
            return min(self.low + int(u * (self.high - self.low + 1)), self.high)
        low, high = self._log_edges()
        return min(max(round(math.exp(low + u * (high - low))), self.low), self.high)

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile in the middle of `value`'s bin."""
        x = _number_in(self, value)
        if self.log:
            return position(math.log(x), *self._log_edges())
        return (x - self.low + 0.5) / (self.high - self.low + 1)

    def describe(self) -> str:
        """Return the domain in words.

        >>> Int(2, 10).describe()
        'an int in [2, 10]'
        """
        return f"an int in [{self.low}, {self.high}]" + (", log" if self.log else "")

    def to_dict(self) -> dict[str, object]:
        """Return the domain as it is written in a space document.

        >>> Int(2, 10).to_dict()
        {'int': [2, 10]}
        """
        return {"int": [self.low, self.high]} | ({"log": True} if self.log else {})

    def _log_edges(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)


@final
@dataclass(frozen=True, slots=True)
class SymLog(Domain):
    """Signed floats in [low, -gap] and [gap, high], log-uniform in magnitude on each side.

    The coordinate c = sign(v) * log(|v| / gap) is uniform and runs through 0 without a hole,
    so that a sampler sees one continuous axis; c = 0 is +gap. Coordinates tell -gap from +gap;
    quantiles, where the two are neighbours, do not survive rounding there.

    Raises:
        DomainError: unless low <= -gap < 0 < gap <= high, with at least one side longer than a point.

    >>> weight = SymLog(-1.0, 1.0, gap=1e-3)
    >>> [weight.from_unit(u) for u in (0.0, 0.5, 1.0)]
    [-1.0, 0.001, 1.0]
    >>> weight.contains(0.0)
    False
    """

    low: float
    high: float
    gap: float = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in ("low", "high", "gap"):
            _set_number(self, name)
        got = f"got low={self.low!r}, high={self.high!r}, gap={self.gap!r}"
        if not self.low <= -self.gap < 0 < self.gap <= self.high:
            raise broken("SymLog", f"low <= -gap < 0 < gap <= high must hold, {got}")
        if -self.low == self.gap == self.high:
            raise broken("SymLog", f"holds two values only, {got}; use Choice([low, high])")

    def contains(self, value: object) -> bool:
        """Whether `value` is a number in [low, -gap] or [gap, high]."""
        return is_number(value) and self.low <= value <= self.high and abs(value) >= self.gap

    def from_unit(self, u: float) -> float:
        """Return the value at quantile `u`: low at 0, high at 1."""
        check_unit(u)
        if u in {0.0, 1.0}:
            return self.high if u else self.low
        low, high = self.coordinate_bounds
        return self.from_coordinate(low + u * (high - low))

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile of `value`."""
        return position(self.to_coordinate(value), *self.coordinate_bounds)

    @property
    def coordinate_bounds(self) -> tuple[float, float]:
        """The coordinates of `low` and `high`."""
        return self.to_coordinate(self.low), self.to_coordinate(self.high)

    def to_coordinate(self, value: Scalar) -> float:
        """Return c = sign(v) * log(|v| / gap); that of -gap is the first normal float below 0.

        >>> SymLog(-1.0, 1.0, gap=0.1).to_coordinate(0.1)
        0.0
        """
        x = _number_in(self, value)
        magnitude = math.log(abs(x)) - math.log(self.gap)
        return magnitude if x > 0 else min(-magnitude, _BELOW_ZERO)

    def from_coordinate(self, c: float) -> float:
        """Return v = sign(c) * gap * exp(|c|), with v(0) = +gap.

        >>> weight = SymLog(-1.0, 1.0, gap=0.1)
        >>> weight.from_coordinate(0.0), weight.from_coordinate(weight.to_coordinate(-0.1))
        (0.1, -0.1)
        """
        limit = self.high if c >= 0 else -self.low
        grown = self.gap if abs(c) <= -_BELOW_ZERO else math.exp(math.log(self.gap) + abs(c))
        return math.copysign(clip(grown, self.gap, limit), 1.0 if c >= 0 else -1.0)

    def describe(self) -> str:
        """Return the domain in words.

        >>> SymLog(-1.0, 1.0, gap=1e-3).describe()
        'a float in [-1, -0.001] or [0.001, 1], signed log'
        """
        return f"a float in [{self.low:g}, {-self.gap:g}] or [{self.gap:g}, {self.high:g}], signed log"

    def to_dict(self) -> dict[str, object]:
        """Return the domain as it is written in a space document.

        >>> SymLog(-1.0, 1.0, gap=1e-3).to_dict()
        {'symlog': [-1.0, 1.0], 'gap': 0.001}
        """
        return {"symlog": [self.low, self.high], "gap": self.gap}


def intervals(domain: Domain) -> tuple[tuple[float, float], ...]:
    """Return the closed intervals that a domain of this module covers; none for any other domain.

    >>> intervals(SymLog(-1.0, 1.0, gap=0.1))
    ((-1.0, -0.1), (0.1, 1.0))
    """
    match domain:
        case Float(low=low, high=high) | Int(low=low, high=high):
            return ((low, high),)
        case SymLog(low=low, high=high, gap=gap):
            return ((low, -gap), (gap, high))
        case _:
            return ()


def finite_float(where: str, value: object) -> float:
    """Return a bound as a float, with -0.0 as 0.0.

    Raises:
        DomainError: it is not a finite number.

    >>> finite_float("Float.low", 1)
    1.0
    >>> finite_float("Float.low", "1e-3")
    Traceback (most recent call last):
    search_spaces.errors.DomainError: Float.low: must be a finite number, got '1e-3'
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise broken(where, f"must be a finite number, got {value!r}")
    return float(value) + 0.0


def check_unit(u: float) -> None:
    """Refuse a quantile outside [0, 1].

    >>> check_unit(1.5)
    Traceback (most recent call last):
    search_spaces.errors.DomainError: from_unit: a quantile must be in [0, 1], got 1.5
    """
    if not 0 <= u <= 1:
        raise broken("from_unit", f"a quantile must be in [0, 1], got {u!r}")


def position(x: float, low: float, high: float) -> float:
    """Return where x lies between low and high, as a fraction in [0, 1].

    >>> position(2.5, 2.0, 4.0), position(0.0, -1.7e308, 1.7e308), position(0.0, 0.0, 5e-324)
    (0.25, 0.5, 0.0)
    """
    if math.isfinite(high - low):
        return clip((x - low) / (high - low), 0.0, 1.0)
    return clip((x / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)  # the span overflows; its half does not


def clip(x: float, low: float, high: float) -> float:
    """Return x within [low, high]: what float rounding carried past a bound comes back.

    >>> clip(1.0000000000000002, 0.0, 1.0)
    1.0
    """
    return min(max(x, low), high)


def _number_in(domain: Domain, value: Scalar) -> float:
    domain.check(value)
    if not is_number(value):  # pragma: no cover - the domains of this module hold numbers only
        raise AssertionError(value)
    return value


def _set_number(domain: Domain, name: str) -> None:
    where = f"{type(domain).__name__}.{name}"
    object.__setattr__(domain, name, finite_float(where, getattr(domain, name)))


def _check_int(where: str, value: object) -> None:
    if type(value) is not int or abs(value) > _LARGEST_INT:
        raise broken(where, f"must be an int within 2**53, got {value!r}")


def _check_order(where: str, low: float, high: float) -> None:
    if not low < high:
        remedy = "; use Fixed for one value" if low == high else ""
        raise broken(where, f"low < high must hold, got low={low!r}, high={high!r}{remedy}")


def _check_log(where: str, low: float, *, log: object, least: float) -> None:
    if type(log) is not bool:
        raise broken(f"{where}.log", f"must be True or False, got {log!r}")
    if log and low < least:
        law = "low >= 1" if least == 1 else "low > 0"
        raise broken(where, f"{law} must hold with log=True, got low={low!r}")
