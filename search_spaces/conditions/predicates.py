"""Predicates: requirements on the value of a parent.

Numbers are compared by value (0 is 0.0), but True is not 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from search_spaces.domains.numeric import finite_float
from search_spaces.domains.values import Scalar, broken, check_scalar, identity, is_number


class Predicate(ABC):
    """Requirement on the value of a parent.

    >>> isinstance(equals("sgd"), Predicate)
    True
    """

    __slots__ = ()

    @abstractmethod
    def holds(self, value: Scalar) -> bool:
        """Return True if `value` satisfies the predicate."""

    @property
    @abstractmethod
    def marks(self) -> tuple[Scalar, ...]:
        """Values that the predicate names: its truth changes only at these."""

    @abstractmethod
    def describe(self) -> str:
        """Return the predicate in words, to follow the parent's name."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Equals(Predicate):
    """Predicate that the parent has this value.

    >>> Equals(0).holds(0.0), Equals(1).holds(True)
    (True, False)
    """

    value: Scalar

    def __post_init__(self) -> None:
        check_scalar("equals", self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equals) and identity(self.value) == identity(other.value)

    def __hash__(self) -> int:
        return hash((Equals, identity(self.value)))

    def holds(self, value: Scalar) -> bool:
        """Return True if `value` is the same value."""
        return same(value, self.value)

    @property
    def marks(self) -> tuple[Scalar, ...]:
        """Value, alone in a tuple."""
        return (self.value,)

    def describe(self) -> str:
        """Return '= value'."""
        return f"= {self.value!r}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class NotEqual(Predicate):
    """Predicate that the parent has another value.

    >>> NotEqual(0).holds(0.0), NotEqual(0).holds(-0.5)
    (False, True)
    """

    value: Scalar

    def __post_init__(self) -> None:
        check_scalar("not_equal", self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotEqual) and identity(self.value) == identity(other.value)

    def __hash__(self) -> int:
        return hash((NotEqual, identity(self.value)))

    def holds(self, value: Scalar) -> bool:
        """Return True if `value` is another value."""
        return not same(value, self.value)

    @property
    def marks(self) -> tuple[Scalar, ...]:
        """Value, alone in a tuple."""
        return (self.value,)

    def describe(self) -> str:
        """Return '!= value'."""
        return f"!= {self.value!r}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class OneOf(Predicate):
    """Predicate that the parent has one of these values.

    >>> OneOf(("relative", "absolute")).holds("minimised")
    False
    """

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise broken("one_of", "must name at least one value, got none")
        for value in self.values:
            check_scalar("one_of", value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneOf) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def holds(self, value: Scalar) -> bool:
        """Return True if `value` is one of the values."""
        return any(same(value, option) for option in self.values)

    @property
    def marks(self) -> tuple[Scalar, ...]:
        """Values."""
        return self.values

    def describe(self) -> str:
        """Return 'in (values)'."""
        return "in (" + ", ".join(repr(value) for value in self.values) + ")"

    def _key(self) -> tuple[tuple[type, object], ...]:
        return tuple(identity(value) for value in self.values)


@final
@dataclass(frozen=True, slots=True)
class GreaterThan(Predicate):
    """Predicate that the parent is a number above the bound.

    >>> GreaterThan(2).holds(3), GreaterThan(2).holds(2), GreaterThan(2).holds("3")
    (True, False, False)
    """

    bound: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", finite_float("greater_than", self.bound))

    def holds(self, value: Scalar) -> bool:
        """Return True if `value` is a number above the bound."""
        return is_number(value) and value > self.bound

    @property
    def marks(self) -> tuple[Scalar, ...]:
        """Bound, alone in a tuple."""
        return (self.bound,)

    def describe(self) -> str:
        """Return '> bound'."""
        return f"> {self.bound!r}"


@final
@dataclass(frozen=True, slots=True)
class LessThan(Predicate):
    """Predicate that the parent is a number below the bound.

    >>> LessThan(2).holds(1), LessThan(2).holds(2), LessThan(2).holds("1")
    (True, False, False)
    """

    bound: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", finite_float("less_than", self.bound))

    def holds(self, value: Scalar) -> bool:
        """Return True if `value` is a number below the bound."""
        return is_number(value) and value < self.bound

    @property
    def marks(self) -> tuple[Scalar, ...]:
        """Bound, alone in a tuple."""
        return (self.bound,)

    def describe(self) -> str:
        """Return '< bound'."""
        return f"< {self.bound!r}"


def equals(value: Scalar) -> Equals:
    """Return the predicate that the parent has this value.

    >>> equals("sgd").holds("sgd")
    True
    """
    return Equals(value)


def not_equal(value: Scalar) -> NotEqual:
    """Return the predicate that the parent has another value.

    >>> not_equal(0).holds(0.3)
    True
    """
    return NotEqual(value)


def one_of(*values: Scalar) -> OneOf:
    """Return the predicate that the parent has one of these values.

    >>> one_of("relative", "absolute").holds("absolute")
    True
    """
    return OneOf(values)


def greater_than(bound: float) -> GreaterThan:
    """Return the predicate that the parent is a number above the bound.

    >>> greater_than(1).holds(1)
    False
    """
    return GreaterThan(bound)


def less_than(bound: float) -> LessThan:
    """Return the predicate that the parent is a number below the bound.

    >>> less_than(1).holds(0.5)
    True
    """
    return LessThan(bound)


def same(left: Scalar, right: Scalar) -> bool:
    """Return True if two values are the same to a condition: numbers by value, True is not 1.

    >>> same(0, 0.0), same(True, 1), same("a", "a")
    (True, False, True)
    """
    if is_number(left) and is_number(right):
        return left == right
    return identity(left) == identity(right)
