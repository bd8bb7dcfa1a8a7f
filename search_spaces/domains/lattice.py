"""Equally spaced floats, each exact in decimals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final, overload

# Fraction of a step: a smaller distance from a value is float rounding.
_ROUNDING = Fraction(1, 10**9)


@final
@dataclass(frozen=True, slots=True)
class Lattice(Sequence[float]):
    """low, low + step, low + 2 step, ...: computed exactly from their decimals and rounded once.

    Attributes:
        low: the first value, exactly.
        step: the distance between two values, exactly.
        length: the number of values.

    >>> list(Lattice.over(0.1, 0.4, 0.1))
    [0.1, 0.2, 0.3, 0.4]
    """

    low: Fraction
    step: Fraction
    length: int

    @classmethod
    def over(cls, low: float, high: float, step: float) -> Lattice:
        """Return the lattice from low to high, which is low and a whole number of steps."""
        first, last, distance = (Fraction(repr(number)) for number in (low, high, step))
        return cls(first, distance, int((last - first) / distance) + 1)

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self.length))]
        return float(self.low + range(self.length)[index] * self.step)

    def holds(self, x: float) -> bool:
        """Return True if x is one of the values, up to float rounding.

        >>> Lattice.over(0.1, 0.4, 0.1).holds(0.1 + 0.2), Lattice.over(0.1, 0.4, 0.1).holds(0.25)
        (True, False)
        """
        place = self._place(x)
        rounding = max(self.step * _ROUNDING, 4 * Fraction(math.ulp(x)))
        return 0 <= place < self.length and abs(Fraction(x) - self.low - place * self.step) <= rounding

    def at(self, u: float) -> float:
        """Return the value at quantile u; every value has a bin of the same width."""
        return self[min(int(u * self.length), self.length - 1)]

    def quantile(self, x: float) -> float:
        """Return the middle of the bin of the value nearest to x."""
        return (self._place(x) + 0.5) / self.length

    def nearest(self, x: float) -> float:
        """Return the value nearest to x.

        >>> Lattice.over(0.1, 0.4, 0.1).nearest(0.1 + 0.2)
        0.3
        """
        return self[min(max(self._place(x), 0), self.length - 1)]

    def _place(self, x: float) -> int:
        return round((Fraction(x) - self.low) / self.step)
