"""SymLog: numbers of either sign, uniform in the logarithm of their magnitude."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

from search_spaces.domains.numeric import finite_float, number_in, read_number
from search_spaces.domains.quantiles import check_unit, clip, position
from search_spaces.domains.values import Domain, Scalar, broken, is_number

# Coordinate of -gap: 0 itself is the coordinate of +gap. The smallest normal float,
# because some hardware flushes denormals to zero.
_BELOW_ZERO = -(2.0**-1022)


@final
@dataclass(frozen=True, slots=True)
class SymLog(Domain):
    """Signed floats in [low, high] whose magnitude is at least `gap`, log-uniform in magnitude on each side of 0.

    The coordinate c = sign(v) * log(|v| / gap) is uniform and continuous through 0, so that a sampler has one
    continuous axis; c = 0 is +gap. Coordinates distinguish -gap from +gap. Quantiles of the two are neighbours and
    may be equal after rounding. Both bounds may be on one side of 0.

    Raises:
        DomainError: a bound is not a finite number or is inside (-gap, gap), gap <= 0, low >= high, or each
            side is a single point.

    >>> weight = SymLog(-1.0, 1.0, gap=1e-3)
    >>> [weight.from_unit(u) for u in (0.0, 0.5, 1.0)]
    [-1.0, 0.001, 1.0]
    >>> weight.contains(0.0)
    False
    >>> round(SymLog(-1.0, -0.01, gap=0.01).from_unit(0.5), 12)
    -0.1
    """

    low: float
    high: float
    gap: float = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in ("low", "high", "gap"):
            object.__setattr__(self, name, finite_float(f"SymLog.{name}", getattr(self, name)))
        got = f"got low={self.low!r}, high={self.high!r}, gap={self.gap!r}"
        if self.gap <= 0:
            raise broken("SymLog", f"gap > 0 must hold, {got}")
        for name, bound in (("low", self.low), ("high", self.high)):
            if -self.gap < bound < self.gap:
                remedy = f"write {name}={-self.gap!r} or {name}={self.gap!r}"
                raise broken("SymLog", f"{name} must not be between -gap and gap, {got}; {remedy}")
        if self.low >= self.high:
            raise broken("SymLog", f"low < high must hold, {got}")
        if -self.low == self.gap == self.high:
            raise broken("SymLog", f"holds two values only, {got}; use Choice([low, high])")

    def contains(self, value: object) -> bool:
        """Return True if `value` is a number in [low, high] of magnitude `gap` or more."""
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
        """Coordinates of `low` and `high`."""
        return self._coordinate(self.low), self._coordinate(self.high)

    def to_coordinate(self, value: Scalar) -> float:
        """Return c = sign(v) * log(|v| / gap); that of -gap is the first normal float below 0.

        >>> SymLog(-1.0, 1.0, gap=0.1).to_coordinate(0.1)
        0.0
        """
        return self._coordinate(number_in(self, value))

    def from_coordinate(self, c: float) -> float:
        """Return v = sign(c) * gap * exp(|c|), with v(0) = +gap; a coordinate beyond a bound is that bound.

        >>> weight = SymLog(-1.0, 1.0, gap=0.1)
        >>> weight.from_coordinate(0.0), weight.from_coordinate(weight.to_coordinate(-0.1))
        (0.1, -0.1)
        """
        low, high = self.coordinate_bounds
        c = clip(c, low, high)
        magnitude = self.gap if abs(c) <= -_BELOW_ZERO else math.exp(math.log(self.gap) + abs(c))
        near, far = (max(self.low, self.gap), self.high) if c >= 0 else (max(-self.high, self.gap), -self.low)
        return math.copysign(clip(magnitude, near, far), 1.0 if c >= 0 else -1.0)

    def values(self) -> None:
        """Return None: the domain is continuous."""

    def read(self, text: str) -> float:
        """Return the number that the text represents."""
        return float(number_in(self, read_number(self, text)))

    def describe(self) -> str:
        """Return the domain in words.

        >>> SymLog(-1.0, 1.0, gap=1e-3).describe()
        'a float in [-1, -0.001] or [0.001, 1], signed log'
        """
        sides = " or ".join(f"[{low:g}, {high:g}]" for low, high in self.intervals())
        return f"a float in {sides}, signed log"

    def intervals(self) -> tuple[tuple[float, float], ...]:
        """Return the closed intervals of the domain, from low to high.

        >>> SymLog(-1.0, 1.0, gap=0.1).intervals(), SymLog(-1.0, -0.5, gap=0.1).intervals()
        (((-1.0, -0.1), (0.1, 1.0)), ((-1.0, -0.5),))
        """
        if self.low > 0 or self.high < 0:
            return ((self.low, self.high),)
        return ((self.low, -self.gap), (self.gap, self.high))

    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document.

        >>> SymLog(-1.0, 1.0, gap=1e-3).to_dict()
        {'symlog': [-1.0, 1.0], 'gap': 0.001}
        """
        return {"symlog": [self.low, self.high], "gap": self.gap}

    def _coordinate(self, x: float) -> float:
        magnitude = math.log(abs(x)) - math.log(self.gap)
        return magnitude if x > 0 else min(-magnitude, _BELOW_ZERO)
