"""Points: a value for each active parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

from search_spaces.conditions.definition import is_active
from search_spaces.domains.types import Domain, Scalar
from search_spaces.errors import Problem, SpaceError, cut, quoted, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from search_spaces.conditions.definition import SpaceLike

# Dotted name of each active parameter to its value.
Point: TypeAlias = dict[str, Scalar]


def point_problems(space: SpaceLike, point: Mapping[str, object]) -> list[Problem]:
    """Return the problems of a point: an empty list if the space contains it.

    >>> from search_spaces import catalog
    >>> for problem in point_problems(catalog.mixup(), {"mixup.alpha": 0.0, "mixup.layers": "input"}):
    ...     print(problem)
    mixup.layers: is inactive, it exists only when mixup.alpha != 0; leave it out
    """
    known: dict[str, Scalar] = {}
    misfits = list(_misfits(space, point, known))
    return [*_unknown(space, point), *misfits, *_broken_constraints(space, known)]


def completed(space: SpaceLike, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Point:
    """Return a whole point from some of its values, in one pass over the parameters.

    An active parameter without a value takes its default, if its domain contains one, else the middle of its domain.
    Values of inactive parameters are left out. Values are taken as they are: `point_problems` checks them.

    >>> from search_spaces import catalog
    >>> completed(catalog.mixup(), {"mixup.alpha": 1.0}, {"mixup.layers": "hidden"})
    {'mixup.alpha': 1.0, 'mixup.layers': 'hidden', 'mixup.per_sample': True}
    """
    point: Point = {}
    for name, domain in space.parameters.items():
        if is_active(space, name, point):
            point[name] = values[name] if name in values else _default(domain, defaults.get(name))
    return point


def _default(domain: Domain, default: Any) -> Scalar:
    return cast("Scalar", default) if domain.contains(default) else domain.from_unit(0.5)


def unknown_parameter(name: str, names: Iterable[str]) -> Problem:
    """Return the problem of a name that is not a parameter.

    >>> str(unknown_parameter("optimizer.lrr", ["optimizer.lr"]))
    "optimizer.lrr: unknown parameter; did you mean 'optimizer.lr'?"
    """
    return Problem(str(name), f"unknown parameter{suggestion(str(name), names)}")


def _unknown(space: SpaceLike, point: Mapping[str, object]) -> Iterator[Problem]:
    return (unknown_parameter(name, space.parameters) for name in point if name not in space.parameters)


def _misfits(space: SpaceLike, point: Mapping[str, object], known: dict[str, Scalar]) -> Iterator[Problem]:
    """Yield the problems of single values, and add the valid values to `known`."""
    for name, domain in space.parameters.items():
        active = is_active(space, name, known)
        if not active and name in point:
            condition = cut(str(space.when[name]), 200)
            yield Problem(name, f"is inactive, it exists only when {condition}; leave it out")
        elif active and name not in point:
            yield Problem(name, f"is missing; it must be {cut(domain.describe(), 160)}")
        elif active and not domain.contains(value := point[name]):
            yield Problem(name, domain.refusal(quoted(value)))
        elif active:
            known[name] = cast("Scalar", value)


def _broken_constraints(space: SpaceLike, known: Mapping[str, Scalar]) -> Iterator[Problem]:
    for constraint in space.constraints:
        try:
            holds = constraint.holds(known)
        except SpaceError as error:
            yield from error.problems
            continue
        if not holds:
            values = cut(", ".join(f"{name} = {known[name]!r}" for name in constraint.names), 160)
            yield Problem(", ".join(constraint.names), f"must satisfy {quoted(constraint.text)}, got {values}")
