"""Translation of conditions to ConfigSpace, in the only form that ConfigSpace samples correctly.

ConfigSpace 1.2 fills a table of draws and then removes the values that do not exist, one condition after another. Three
properties of it determine the form of the conditions:

- it may evaluate a parent before the parent itself is removed, so a condition includes the conditions of its parents;
- a removed value counts as different from every other value, so no condition uses 'not equal';
- it treats an 'and' and an 'or' of the same parts as one condition, so an 'or' always has an 'and' among its parts.

A condition is a set of terms of which one must hold; a term is a set of claims that must all hold.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from configspace_domains import OFF, ON, bounds, gate_name, labels, library, options

from search_spaces.conditions.condition import AllOf, AnyOf, Condition, When
from search_spaces.domains.quantiles import clip
from search_spaces.domains.types import Domain, Fixed, Int, Scalar, SymLog, ZeroOr
from search_spaces.domains.values import is_number
from search_spaces.errors import Problem, SpaceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from search_spaces.conditions.condition import Predicate
    from search_spaces.conditions.definition import SpaceLike

_Part = TypeVar("_Part", bound=Hashable)
# At least one of these sets must hold, with all its members.
Terms: TypeAlias = frozenset[frozenset[_Part]]

ALWAYS: Terms[Any] = frozenset([frozenset()])
NEVER: Terms[Any] = frozenset()
# Alternatives are compared with each other: so many take a second.
MOST_TERMS = 4096


class Claim(NamedTuple):
    """Requirement on a hyperparameter: one of the values in `operand`, or above or below that number.

    >>> Claim("optimizer.name", "in", ("sgd",)).parent
    'optimizer.name'
    """

    parent: str
    kind: Literal["in", "above", "below"]
    operand: Any


def existence(space: SpaceLike) -> dict[str, Terms[Claim]]:
    """Return the terms of which each parameter exists, the conditions of its parents included.

    Raises:
        SpaceError: a condition has too many terms.

    >>> from search_spaces import catalog
    >>> for term in existence(catalog.mixup())["mixup.layers"]:
    ...     print(sorted(term))
    [Claim(parent='mixup.alpha.gate', kind='in', operand=('on',))]
    """
    terms: dict[str, Terms[Claim]] = {}
    for name in space.parameters:
        terms[name] = _claims_of(space, terms, space.when[name]) if name in space.when else ALWAYS
    return terms


def both(left: Terms[_Part], right: Terms[_Part]) -> Terms[_Part]:
    """Return the terms of both conditions together.

    Raises:
        SpaceError: the result has too many alternatives.

    >>> both(frozenset([frozenset("a")]), ALWAYS) == frozenset([frozenset("a")])
    True
    """
    if len(left) * len(right) > MOST_TERMS:
        limit = f"have {len(left) * len(right):,} alternatives, at most {MOST_TERMS:,} are possible"
        raise SpaceError(Problem("conditions", f"{limit}; nest fewer 'any' within 'all'"))
    return _shortest(a | b for a, b in itertools.product(left, right))


def either(left: Terms[_Part], right: Terms[_Part]) -> Terms[_Part]:
    """Return the terms of either condition.

    >>> either(NEVER, ALWAYS) == ALWAYS
    True
    """
    return _shortest(left | right)


def terms_of(condition: Condition | None) -> Terms[When]:
    """Return a condition as alternatives: its disjunctive normal form.

    >>> a, b, c = When("a", 1), When("b", 2), When("c", 3)
    >>> terms_of(a & (b | c)) == terms_of((a & b) | (c & a))
    True
    """
    match condition:
        case None:
            return ALWAYS
        case When():
            return frozenset([frozenset([condition])])
        case AllOf(parts=parts):
            return functools.reduce(both, map(terms_of, parts), ALWAYS)
        case AnyOf(parts=parts):
            return functools.reduce(either, map(terms_of, parts), NEVER)
    raise AssertionError(condition)


def switched_on(name: str) -> Terms[Claim]:
    """Return the condition that the gate of a `ZeroOr` is on.

    >>> list(*switched_on("a"))
    [Claim(parent='a.gate', kind='in', operand=('on',))]
    """
    return _claimed(Claim(gate_name(name), "in", (ON,)))


def condition(child: Any, terms: Terms[Claim], parents: Mapping[str, Any]) -> Any:
    """Return the condition, in ConfigSpace, that a child exists if one of these terms holds."""
    known = library()
    written = [
        [_leaf(child, parents[claim.parent], claim) for claim in sorted(term, key=repr)]
        for term in sorted(terms, key=lambda term: sorted(map(repr, term)))
    ]
    parts = [claims[0] if len(claims) == 1 else known.AndConjunction(*claims) for claims in written]
    if len(parts) == 1:
        return parts[0]
    if all(len(claims) == 1 for claims in written):
        parts.append(
            known.AndConjunction(*parts[:2])
        )  # redundant, but distinguishes it from an 'and' of the same parts
    return known.OrConjunction(*parts)


def claims(name: str, domain: Domain, predicate: Predicate) -> Terms[Claim]:
    """Return a predicate on an existing parameter as claims on its hyperparameters.

    Single values of a continuous range have probability 0: a predicate that only they satisfy holds nowhere.

    >>> from search_spaces import Int, greater_than
    >>> claims("a", Int(1, 9), greater_than(3.5)) == frozenset([frozenset([Claim("a", "above", 3)])])
    True
    """
    match domain:
        case Fixed(value=value):
            return ALWAYS if predicate.holds(value) else NEVER
        case ZeroOr(domain=inner, zero=zero):
            off = _claimed(Claim(gate_name(name), "in", (OFF,))) if predicate.holds(zero) else NEVER
            on = claims(name, inner, predicate)
            return ALWAYS if off and on == ALWAYS else either(off, both(switched_on(name), on))
        case _ if (listed := options(domain)) is not None:
            shown = tuple(
                label for label, option in zip(labels(domain), listed, strict=True) if predicate.holds(option)
            )
            return ALWAYS if len(shown) == len(listed) else _claimed(Claim(name, "in", shown)) if shown else NEVER
        case _:
            return _shortest(frozenset(_within(name, domain, *run)) for run in _runs(domain, predicate))


def _claims_of(space: SpaceLike, terms: Mapping[str, Terms[Claim]], condition: Condition) -> Terms[Claim]:
    match condition:
        case When(parent=parent, predicate=predicate):
            return both(terms[parent], claims(parent, space.parameters[parent], predicate))
        case AllOf(parts=parts):
            return functools.reduce(both, (_claims_of(space, terms, part) for part in parts), ALWAYS)
        case AnyOf(parts=parts):
            return functools.reduce(either, (_claims_of(space, terms, part) for part in parts), NEVER)
    raise AssertionError(condition)


def _runs(domain: Domain, predicate: Predicate) -> Iterator[tuple[float, float]]:
    """Yield the intervals of a range, in ConfigSpace's coordinate, on which the predicate holds."""
    low, high = bounds(domain)
    cuts = sorted({edge for mark in predicate.marks if is_number(mark) for edge in _edges(domain, mark)})
    ends = [low, *(cut for cut in cuts if low < cut < high), high]
    held = [(a, b) for a, b in itertools.pairwise(ends) if predicate.holds(_from_shown(domain, a / 2 + b / 2))]
    start: float | None = None
    for (a, b), following in itertools.zip_longest(held, held[1:]):
        start = a if start is None else start
        # Adjacent intervals are merged, unless the predicate excludes the number between them.
        if following is None or following[0] != b or not (isinstance(domain, Int) or _holds_at(domain, predicate, b)):
            yield start, b
            start = None


def _edges(domain: Domain, mark: float) -> tuple[float, ...]:
    match domain:
        case Int():
            return math.ceil(mark) - 0.5, math.floor(mark) + 0.5
        case SymLog() if domain.contains(mark):
            return (domain.to_coordinate(mark),)
        case SymLog(gap=gap):
            return (0.0,) if abs(mark) < gap else ()
        case _:
            return (float(mark),)


def _from_shown(domain: Domain, shown: float) -> Scalar:
    match domain:
        case Int():
            return round(shown)
        case SymLog():
            return domain.from_coordinate(shown)
        case _:
            return shown


def _holds_at(domain: Domain, predicate: Predicate, shown: float) -> bool:
    marks = [
        mark for mark in predicate.marks if is_number(mark) and domain.contains(mark) and shown in _edges(domain, mark)
    ]
    return all(predicate.holds(mark) for mark in marks)


def _within(name: str, domain: Domain, low: float, high: float) -> Iterator[Claim]:
    first, last = bounds(domain)
    whole = isinstance(domain, Int) and not domain.log
    if low > first:
        yield Claim(name, "above", math.floor(low) if whole else low)
    if high < last:
        yield Claim(name, "below", math.ceil(high) if whole else high)


def _leaf(child: Any, parent: Any, claim: Claim) -> Any:
    known = library()
    if claim.kind == "in":
        if len(claim.operand) == 1:
            return known.EqualsCondition(child, parent, claim.operand[0])
        return known.InCondition(child, parent, list(claim.operand))
    kind = known.GreaterThanCondition if claim.kind == "above" else known.LessThanCondition
    return kind(child, parent, clip(claim.operand, parent.lower, parent.upper))


def _claimed(claim: Claim) -> Terms[Claim]:
    return frozenset([frozenset([claim])])


def _shortest(terms: Any) -> Terms[Any]:
    """Remove terms that a shorter term implies."""
    kept: list[frozenset[Any]] = []
    for term in sorted(set(terms), key=len):
        if not any(shorter <= term for shorter in kept):
            kept.append(term)
    return frozenset(kept)
