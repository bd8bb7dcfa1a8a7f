"""Float and Int: domains of numbers, with their quantile functions."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from typing import final

from search_spaces.domains.lattice import Lattice
from search_spaces.domains.quantiles import check_unit, clip, position
from search_spaces.domains.values import Domain, Scalar, broken, is_number
from search_spaces.errors import quoted

# Larger ints are not exact as floats, so not in JSON and not in a sampler.
_LARGEST_INT = 2**53


@final
@dataclass(frozen=True, slots=True)
class Float(Domain):
    """Floats in [low, high], uniform in the value or, with `log`, in its logarithm, or on the lattice of a `step`.

    With a step the values are low, low + step, ... high, exact in decimals: 0.3, never 0.30000000000000004. A number
    that differs from one of them by float rounding alone counts as that value.

    Raises:
        DomainError: a bound is not a finite number, low >= high, `log` with low <= 0, `log` with a step,
            or a step that does not divide high - low.

    >>> round(Float(1e-4, 1.0, log=True).from_unit(0.5), 12)
    0.01
    >>> Float(low=1, high=0)
    Traceback (most recent call last):
    search_spaces.errors.DomainError: Float: low < high must hold, got low=1.0, high=0.0
    >>> list(Float(0.1, 0.5, step=0.2).values())
    [0.1, 0.3, 0.5]
    """

    low: float
    high: float
    log: bool = field(default=False, kw_only=True)
    step: float | None = field(default=None, kw_only=True)
    _lattice: Lattice | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_number(self, "low")
        _set_number(self, "high")
        _check_order("Float", self.low, self.high)
        _check_log("Float", self.low, log=self.log, least=sys.float_info.min)
        if self.step is not None:
            _set_number(self, "step")
            _check_step("Float", self.low, self.high, self.step, log=self.log)
            object.__setattr__(self, "_lattice", Lattice.over(self.low, self.high, self.step))

    def __repr__(self) -> str:
        step = "" if self.step is None else f", step={self.step!r}"
        return f"Float(low={self.low!r}, high={self.high!r}, log={self.log!r}{step})"

    def contains(self, value: object) -> bool:
        """Return True if `value` is a number in the domain; an int counts as the float it equals."""
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        return self._lattice is None or self._lattice.holds(value)

    def from_unit(self, u: float) -> float:
        """Return the value at quantile `u`: low at 0, high at 1."""
        check_unit(u)
        if self._lattice is not None:
            return self._lattice.at(u)
        if u in {0.0, 1.0}:
            return self.high if u else self.low
        if not self.log:
            return clip(self.low * (1 - u) + self.high * u, self.low, self.high)
        exponent = math.log(self.low) * (1 - u) + math.log(self.high) * u
        return clip(math.exp(exponent), self.low, self.high)

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile of `value`; with a step, the middle of its bin."""
        x = number_in(self, value)
        if self._lattice is not None:
            return self._lattice.quantile(x)
        if self.log:
            return position(math.log(x), math.log(self.low), math.log(self.high))
        return position(x, self.low, self.high)

    def values(self) -> Lattice | None:
        """Return the values on the lattice, from low to high; None without a step."""
        return self._lattice

    def read(self, text: str) -> float:
        """Return the number that the text represents.

        >>> Float(0.0, 1.0).read("0.25")
        0.25
        """
        return float(number_in(self, read_number(self, text)))

    def describe(self) -> str:
        """Return the domain in words.

        >>> Float(0.1, 4.0, log=True).describe()
        'a float in [0.1, 4], log'
        """
        extra = ", log" if self.log else "" if self.step is None else f", in steps of {self.step:g}"
        return f"a float in [{self.low:g}, {self.high:g}]{extra}"

    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document.

        >>> Float(0.1, 4.0, log=True).to_dict()
        {'float': [0.1, 4.0], 'log': True}
        """
        entry: dict[str, object] = {"float": [self.low, self.high]}
        if self.log:
            entry["log"] = True
        if self.step is not None:
            entry["step"] = self.step
        return entry


@final
@dataclass(frozen=True, slots=True)
class Int(Domain):
    """Ints from low to high, both included; with `log`, equal ratios are equally likely; every `step`-th one.

    The log form rounds a log-uniform draw from [low - 1/2, high + 1/2], as Optuna does.

    Raises:
        DomainError: a bound is not an int within 2**53, low >= high, `log` with low < 1, `log` with a step,
            or a step that is no int >= 1 or does not divide high - low.

    >>> [Int(1, 4).from_unit(u) for u in (0.0, 0.3, 0.6, 1.0)]
    [1, 2, 3, 4]
    >>> Int(2, 10).contains(True), Int(2, 10).contains(3.0)
    (False, False)
    >>> list(Int(2, 10, step=4).values())
    [2, 6, 10]
    """

    low: int
    high: int
    log: bool = field(default=False, kw_only=True)
    step: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        _check_int("Int.low", self.low)
        _check_int("Int.high", self.high)
        _check_int("Int.step", self.step)
        _check_order("Int", self.low, self.high)
        _check_log("Int", self.low, log=self.log, least=1)
        if self.step != 1:
            _check_step("Int", self.low, self.high, self.step, log=self.log)

    def __repr__(self) -> str:
        step = "" if self.step == 1 else f", step={self.step!r}"
        return f"Int(low={self.low!r}, high={self.high!r}, log={self.log!r}{step})"

    def contains(self, value: object) -> bool:
        """Return True if `value` is an int in the domain."""
        return type(value) is int and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def from_unit(self, u: float) -> int:
        """Return the value at quantile `u`."""
        check_unit(u)
        if not self.log:
            return min(self.low + self.step * int(u * len(self.values())), self.high)
        low, high = self._log_edges()
        return min(max(round(math.exp(low + u * (high - low))), self.low), self.high)

    def to_unit(self, value: Scalar) -> float:
        """Return the quantile in the middle of `value`'s bin."""
        x = number_in(self, value)
        if self.log:
            return position(math.log(x), *self._log_edges())
        return ((x - self.low) / self.step + 0.5) / len(self.values())

    def values(self) -> range:
        """Return all values, from low to high."""
        return range(self.low, self.high + 1, self.step)

    def read(self, text: str) -> int:
        """Return the int that the text represents.

        >>> Int(2, 10).read("3")
        3
        """
        return int(number_in(self, read_number(self, text)))

    def describe(self) -> str:
        """Return the domain in words.

        >>> Int(2, 10).describe()
        'an int in [2, 10]'
        """
        extra = ", log" if self.log else "" if self.step == 1 else f", in steps of {self.step}"
        return f"an int in [{self.low}, {self.high}]{extra}"

    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document.

        >>> Int(2, 10).to_dict()
        {'int': [2, 10]}
        """
        entry: dict[str, object] = {"int": [self.low, self.high]}
        if self.log:
            entry["log"] = True
        if self.step != 1:
            entry["step"] = self.step
        return entry

    def _log_edges(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)


def finite_float(where: str, value: object) -> float:
    """Return a bound as a float, with -0.0 as 0.0.

    Raises:
        DomainError: the bound is not a finite number.

    >>> finite_float("Float.low", 1)
    1.0
    >>> finite_float("Float.low", "1e-3")
    Traceback (most recent call last):
    search_spaces.errors.DomainError: Float.low: must be a finite number, got '1e-3'
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise broken(where, f"must be a finite number, got {quoted(value)}")
    return float(value) + 0.0


def number_in(domain: Domain, value: Scalar) -> float:
    """Return a value of the domain, typed as a number.

    Raises:
        DomainError: the domain does not contain it.

    >>> number_in(Int(1, 3), 2)
    2
    """
    domain.check(value)
    if not is_number(value):  # pragma: no cover - the domains of this module hold numbers only
        raise AssertionError(value)
    return value


def read_number(domain: Domain, text: str) -> float:
    """Return the number that a text represents, as an int if possible.

    Raises:
        DomainError: the text represents no number.

    >>> read_number(Int(1, 3), "2"), read_number(Int(1, 3), "2.0")
    (2, 2.0)
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise broken(type(domain).__name__, domain.refusal(f"the text {quoted(text)}"))


def _set_number(domain: Domain, name: str) -> None:
    where = f"{type(domain).__name__}.{name}"
    object.__setattr__(domain, name, finite_float(where, getattr(domain, name)))


def _check_int(where: str, value: object) -> None:
    if type(value) is not int or abs(value) > _LARGEST_INT:
        raise broken(where, f"must be an int within 2**53, got {quoted(value)}")


def _check_order(where: str, low: float, high: float) -> None:
    if not low < high:
        remedy = "; use Fixed for one value" if low == high else ""
        raise broken(where, f"low < high must hold, got low={low!r}, high={high!r}{remedy}")


def _check_log(where: str, low: float, *, log: object, least: float) -> None:
    if type(log) is not bool:
        raise broken(f"{where}.log", f"must be True or False, got {quoted(log)}")
    if log and low < least:
        requirement = "low >= 1" if least == 1 else "low > 0"
        raise broken(where, f"{requirement} must hold with log=True, got low={low!r}")


def _check_step(where: str, low: float, high: float, step: float, *, log: bool) -> None:
    if log:
        raise broken(f"{where}.step", f"must not be combined with log=True, got {step!r}; use a Choice of the values")
    if step <= 0:
        raise broken(f"{where}.step", f"must be > 0, got {step!r}")
    exact_low, exact_high, exact_step = (Fraction(repr(number)) for number in (low, high, step))
    below = (exact_high - exact_low) // exact_step
    if below >= _LARGEST_INT:
        raise broken(f"{where}.step", f"must leave fewer than 2**53 values, got {step!r} for [{low!r}, {high!r}]")
    if exact_low + below * exact_step != exact_high:
        kind = type(low)
        valid = [kind(exact_low + count * exact_step) for count in (below, below + 1)]
        nearest = " or ".join(f"high={bound!r}" for bound in valid if bound > low)
        got = f"got low={low!r}, high={high!r}, step={step!r}"
        raise broken(where, f"high must be low and a whole number of steps, {got}; the nearest: {nearest}")
