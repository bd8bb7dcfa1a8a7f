"""Merge, fix, narrow, drop and prefix: functions from definitions to definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from search_spaces.conditions.definition import Definition
from search_spaces.domains.types import Domain, Fixed, Scalar
from search_spaces.errors import DomainError, Problem, cut, quoted, raise_all
from search_spaces.operations.difference import describe
from search_spaces.operations.narrowing import narrowed
from search_spaces.paths import check_name
from search_spaces.sampling.points import unknown_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.operations.narrowing import Narrowing

_T = TypeVar("_T")


def merged(left: SpaceLike, right: SpaceLike) -> Definition:
    """Return the definition of both spaces together.

    Raises:
        SpaceError: with every parameter that the spaces define differently.

    >>> from search_spaces import Fixed, SearchSpace
    >>> merged(SearchSpace({"a": Fixed(1)}), SearchSpace({"a": Fixed(2)}))
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: a: is defined differently on both sides of |: always 1; always 2; \
fix or drop it on one side first
    """
    conflict = "is defined differently on both sides of |"
    remedy = "fix or drop it on one side first"
    raise_all(
        Problem(name, f"{conflict}: {cut(describe(left, name), 100)}; {cut(describe(right, name), 100)}; {remedy}")
        for name in left.parameters
        if name in right.parameters
        and (left.parameters[name], left.when.get(name)) != (right.parameters[name], right.when.get(name))
    )
    return Definition(
        {**left.parameters, **right.parameters},
        {**left.when, **right.when},
        (*left.constraints, *right.constraints),
    )


def fixed(space: SpaceLike, values: Mapping[str, Scalar]) -> Definition:
    """Fix parameters to one value each.

    Raises:
        SpaceError: with every unknown name, and every value outside its domain.

    >>> from search_spaces import catalog
    >>> fixed(catalog.optimizer(), {"optimizer.name": "sdg"})
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: optimizer.name: must be one of 'sgd', 'adamw', got 'sdg'
    """
    return _changed(space, values, _fixed_to)


def narrow(space: SpaceLike, ranges: Mapping[str, Narrowing]) -> Definition:
    """Replace domains with smaller ones.

    Raises:
        SpaceError: with every unknown name, and every new domain that is not within the old one.

    >>> from search_spaces import catalog
    >>> narrow(catalog.optimizer(), {"optimizer.momentum": (0.9, 1.0)})
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: optimizer.momentum: must be within a float in [0.5, 0.99], got (0.9, 1.0)
    """
    return _changed(space, ranges, narrowed)


def without(space: SpaceLike, names: Collection[str]) -> Definition:
    """Remove parameters.

    Raises:
        SpaceError: with every unknown name, and every parameter that a remaining parameter or constraint depends on.

    >>> from search_spaces import catalog
    >>> without(catalog.optimizer(), ["optimizer.name"])
    Traceback (most recent call last):
    search_spaces.errors.SpaceError: optimizer.name: cannot be dropped: 'optimizer.momentum' depends on it
    """
    raise_all([*_unknown(space, names), *_orphans(space, names)])
    return Definition(
        {name: domain for name, domain in space.parameters.items() if name not in names},
        {name: condition for name, condition in space.when.items() if name not in names},
        space.constraints,
    )


def prefixed(space: SpaceLike, group: str) -> Definition:
    """Add a group before every name, in conditions and constraints too.

    Raises:
        PathError: the group is not a dotted name.

    >>> from search_spaces import catalog
    >>> list(prefixed(catalog.mixup(), "generator").parameters)
    ['generator.mixup.alpha', 'generator.mixup.layers', 'generator.mixup.per_sample']
    """
    rename = f"{check_name(group)}.{{}}".format
    return Definition(
        {rename(name): domain for name, domain in space.parameters.items()},
        {rename(name): condition.renamed(rename) for name, condition in space.when.items()},
        tuple(constraint.renamed(rename) for constraint in space.constraints),
    )


def _changed(space: SpaceLike, changes: Mapping[str, _T], change: Callable[[Domain, _T], Domain]) -> Definition:
    problems = _unknown(space, changes)
    parameters = dict(space.parameters)
    for name in [name for name in changes if name in parameters]:
        try:
            parameters[name] = change(parameters[name], changes[name])
        except DomainError as error:
            problems.extend(Problem(name, problem.message) for problem in error.problems)
    raise_all(problems)
    return Definition(parameters, space.when, space.constraints)


def _fixed_to(domain: Domain, value: Scalar) -> Fixed:
    domain.check(value)
    return Fixed(value)


def _unknown(space: SpaceLike, names: Iterable[str]) -> list[Problem]:
    return [unknown_parameter(name, space.parameters) for name in names if name not in space.parameters]


def _orphans(space: SpaceLike, dropped: Collection[str]) -> list[Problem]:
    children = [
        Problem(parent, f"cannot be dropped: {quoted(child)} depends on it")
        for child, condition in space.when.items()
        for parent in dict.fromkeys(leaf.parent for leaf in condition.leaves())
        if parent in dropped and child not in dropped
    ]
    named = [
        Problem(name, f"cannot be dropped: {constraint.place} names it")
        for constraint in space.constraints
        for name in constraint.names
        if name in dropped
    ]
    return [*children, *named]
