"""Scalar values of parameters, and the interface of every domain.

A value is None, a bool, an int, a finite float or a str, of exactly that type: a bool is not an int,
and the scalars of array libraries are refused, so that a point is the same in JSON, YAML and Python.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from search_spaces.errors import DomainError, Problem, cut, quoted

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

Scalar: TypeAlias = bool | int | float | str | None

_SCALAR_TYPES = (type(None), bool, int, float, str)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return True if `value` is an int or a finite float, of exactly that type.

    >>> is_number(3), is_number(True), is_number(float("nan"))
    (True, False, False)
    """
    return type(value) is int or (type(value) is float and math.isfinite(value))


def identity(value: object) -> tuple[type, object]:
    """Return the key by which two values are the same option: the type and the value.

    >>> identity(True) == identity(1)
    False
    """
    return type(value), value


def check_scalar(where: str, value: object) -> None:
    """Raise if this cannot be the value of a parameter.

    Raises:
        DomainError: the value is not a plain scalar, or not finite.

    >>> check_scalar("Fixed.value", float("inf"))
    Traceback (most recent call last):
    search_spaces.errors.DomainError: Fixed.value: must be finite, got inf
    """
    if type(value) not in _SCALAR_TYPES:
        kinds = "None, a bool, an int, a float or a str"
        raise broken(where, f"must be {kinds}, got {quoted(value)} of type {type(value).__name__}")
    if type(value) is float and not math.isfinite(value):
        raise broken(where, f"must be finite, got {quoted(value)}")


def broken(where: str, message: str) -> DomainError:
    """Return the error of a value that is not valid: its place and the requirement.

    >>> broken("Float.low", "must be a number, got 'a'")
    DomainError(Problem(path='Float.low', message="must be a number, got 'a'"))
    """
    return DomainError(Problem(where, message))


class Domain(ABC):
    """Domain of one parameter: its values and their sampling distribution.

    >>> from search_spaces.domains.types import Float
    >>> isinstance(Float(0.0, 1.0), Domain)
    True
    """

    __slots__ = ()

    @abstractmethod
    def contains(self, value: object) -> bool:
        """Return True if `value` is in the domain."""

    @abstractmethod
    def from_unit(self, u: float) -> Scalar:
        """Return the value at quantile `u` in [0, 1]."""

    @abstractmethod
    def to_unit(self, value: Scalar) -> float:
        """Return the quantile of `value`: the middle of its bin where the domain is discrete."""

    @abstractmethod
    def values(self) -> Sequence[Scalar] | None:
        """Return all values, numbers from low to high; None where the domain is continuous."""

    @abstractmethod
    def read(self, text: str) -> Scalar:
        """Return the value of which this text is the `str`, as a tracking server stores it.

        Raises:
            DomainError: it is the text of no value of the domain.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return the domain in words, for tables and messages."""

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """Return the domain as an entry of a space document."""

    def sample(self, rng: random.Random) -> Scalar:
        """Draw one value; consumes exactly one `rng.random()`."""
        return self.from_unit(rng.random())

    def check(self, value: object) -> None:
        """Raise `DomainError` unless the domain contains `value`."""
        if not self.contains(value):
            raise broken(type(self).__name__, self.refusal(quoted(value)))

    def refusal(self, value: str) -> str:
        """Return the message about a value, quoted, that the domain does not contain."""
        return f"must be {cut(self.describe(), 160)}, got {value}"
