"""Conditional parameters: a parameter that exists only for some values of its parents.

`When(parent, predicate)` is the leaf; `all_of` and `any_of` join conditions, to any depth. A leaf is false if its
parent is absent, so that a child never exists without its parent.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from search_spaces.conditions.predicates import (
    Equals,
    GreaterThan,
    LessThan,
    NotEqual,
    OneOf,
    Predicate,
    equals,
    greater_than,
    less_than,
    not_equal,
    one_of,
    same,
)
from search_spaces.domains.values import Scalar, broken
from search_spaces.errors import cut, quoted
from search_spaces.paths import check_name

__all__ = [
    "AllOf",
    "AnyOf",
    "Condition",
    "Equals",
    "GreaterThan",
    "LessThan",
    "NotEqual",
    "OneOf",
    "Predicate",
    "When",
    "all_of",
    "any_of",
    "equals",
    "greater_than",
    "less_than",
    "not_equal",
    "one_of",
    "same",
]

_Rename: TypeAlias = Callable[[str], str]


class Condition(ABC):
    """Condition on the values of a point; `&` and `|` join two.

    >>> print(When("a", 1) & (When("b", 2) | When("c", 3)))
    a = 1 and (b = 2 or c = 3)
    """

    __slots__ = ()

    @abstractmethod
    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Return True if these values satisfy the condition; a leaf whose parent is absent is false."""

    @abstractmethod
    def leaves(self) -> Iterator[When]:
        """Yield every `When` in it, from left to right."""

    @abstractmethod
    def renamed(self, rename: _Rename) -> Condition:
        """Return the condition with other parameter names."""

    def __and__(self, other: Condition) -> Condition:
        return all_of(self, other)

    def __or__(self, other: Condition) -> Condition:
        return any_of(self, other)


@final
@dataclass(frozen=True, slots=True, init=False)
class When(Condition):
    """Condition that the parent satisfies a predicate; a plain value means `equals`.

    Raises:
        PathError: the parent is not a parameter name.
        DomainError: the predicate is neither a `Predicate` nor a plain value.

    >>> When("optimizer.name", "sgd") == When("optimizer.name", equals("sgd"))
    True
    >>> print(When("snnl.weight", not_equal(0)))
    snnl.weight != 0
    """

    parent: str
    predicate: Predicate

    def __init__(self, parent: str, predicate: Predicate | Scalar) -> None:
        object.__setattr__(self, "parent", check_name(parent))
        object.__setattr__(self, "predicate", _as_predicate(predicate))

    def __str__(self) -> str:
        return f"{self.parent} {self.predicate.describe()}"

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Return True if the parent is present and satisfies the predicate."""
        return self.parent in values and self.predicate.holds(values[self.parent])

    def leaves(self) -> Iterator[When]:
        """Yield the condition itself."""
        yield self

    def renamed(self, rename: _Rename) -> When:
        """Return the same condition on a parent with another name."""
        return When(rename(self.parent), self.predicate)


class _Joined(Condition):
    """Several conditions in one; their order does not matter for equality."""

    __slots__ = ("parts",)
    parts: tuple[Condition, ...]

    def __init__(self, parts: tuple[Condition, ...]) -> None:
        object.__setattr__(self, "parts", parts)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a condition is immutable, cannot set {name!r}")

    def __reduce__(self) -> tuple[type, tuple[tuple[Condition, ...]]]:
        return type(self), (self.parts,)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and frozenset(self.parts) == frozenset(other.parts)

    def __hash__(self) -> int:
        return hash((type(self), frozenset(self.parts)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"

    def leaves(self) -> Iterator[When]:
        """Yield every `When` in it, from left to right."""
        return itertools.chain.from_iterable(part.leaves() for part in self.parts)

    def _text(self, word: str) -> str:
        return f" {word} ".join(f"({part})" if isinstance(part, _Joined) else str(part) for part in self.parts)


@final
class AllOf(_Joined):
    """Condition that every part holds; `all_of` builds it.

    >>> all_of(When("a", 1), When("b", 2)).holds({"a": 1})
    False
    """

    __slots__ = ()

    def __str__(self) -> str:
        return self._text("and")

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Return True if every part holds."""
        return all(part.holds(values) for part in self.parts)

    def renamed(self, rename: _Rename) -> Condition:
        """Return the same condition with other parameter names."""
        return all_of(*(part.renamed(rename) for part in self.parts))


@final
class AnyOf(_Joined):
    """Condition that at least one part holds; `any_of` builds it.

    >>> any_of(When("a", 1), When("b", 2)).holds({"a": 1})
    True
    """

    __slots__ = ()

    def __str__(self) -> str:
        return self._text("or")

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Return True if at least one part holds."""
        return any(part.holds(values) for part in self.parts)

    def renamed(self, rename: _Rename) -> Condition:
        """Return the same condition with other parameter names."""
        return any_of(*(part.renamed(rename) for part in self.parts))


def all_of(*conditions: Condition) -> Condition:
    """Join conditions that must all hold; nested ones are flattened, a single one is returned as it is.

    Raises:
        DomainError: no argument, or one that is not a condition.

    >>> all_of(When("a", 1), all_of(When("b", 2), When("a", 1)))
    AllOf(When(parent='a', predicate=Equals(value=1)), When(parent='b', predicate=Equals(value=2)))
    """
    return _joined(AllOf, "all_of", conditions)


def any_of(*conditions: Condition) -> Condition:
    """Join conditions of which one must hold; nested ones are flattened, a single one is returned as it is.

    Raises:
        DomainError: no argument, or one that is not a condition.

    >>> print(any_of(When("mixup.alpha", not_equal(0)), When("snnl.weight", not_equal(0))))
    mixup.alpha != 0 or snnl.weight != 0
    """
    return _joined(AnyOf, "any_of", conditions)


def _as_predicate(value: object) -> Predicate:
    match value:
        case Predicate():
            return value
        case list() | tuple():
            options = cut(", ".join(map(repr, value)))
            raise broken("When.predicate", f"must be one value or a predicate; write one_of({options})")
        case _:
            return Equals(value)  # type: ignore[arg-type]  # the constructor checks


def _joined(kind: type[AllOf | AnyOf], where: str, conditions: tuple[Condition, ...]) -> Condition:
    for condition in conditions:
        if not isinstance(condition, Condition):
            raise broken(where, f"must join conditions such as When('optimizer.name', 'sgd'), got {quoted(condition)}")
    if not conditions:
        raise broken(where, "must join at least one condition, got none")
    flat = itertools.chain.from_iterable(part.parts if isinstance(part, kind) else (part,) for part in conditions)
    parts = tuple(dict.fromkeys(flat))
    return parts[0] if len(parts) == 1 else kind(parts)
