"""Grid and corners of a space: every combination of levels, and the extreme points."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from search_spaces.conditions.definition import is_active
from search_spaces.domains.types import Choice, Domain, Fixed, Scalar, ZeroOr, intervals
from search_spaces.domains.values import broken, identity
from search_spaces.errors import quoted
from search_spaces.sampling.counting import classes, count, marks, pieces, predicates_by_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from search_spaces.conditions.condition import Predicate
    from search_spaces.conditions.definition import SpaceLike


@final
@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of the levels of the active parameters; the length is computed without building them.

    Raises:
        DomainError: the resolution is not an int >= 1.

    >>> from search_spaces import catalog
    >>> len(Grid(catalog.mixup(), resolution=3))
    19
    """

    space: SpaceLike
    resolution: int

    def __post_init__(self) -> None:
        if type(self.resolution) is not int or self.resolution < 1:
            raise broken("grid.resolution", f"must be an int >= 1, got {quoted(self.resolution)}")

    def __len__(self) -> int:
        alternatives = {
            name: [(value, 1) for value in levels(domain, self.resolution)]
            for name, domain in self.space.parameters.items()
        }
        return int(count(self.space, alternatives, self.space.constraints))

    def __iter__(self) -> Iterator[dict[str, Scalar]]:
        values = {name: levels(domain, self.resolution) for name, domain in self.space.parameters.items()}
        for box in _boxes(self.space, values):
            for values_of_point in itertools.product(*box.values()):
                point = dict(zip(box, values_of_point, strict=True))
                if _is_allowed(self.space, point):
                    yield point


def levels(domain: Domain, resolution: int) -> list[Scalar]:
    """Return the values on a grid: all of a small set, else equally spaced quantiles, ends included.

    >>> from search_spaces import Float, Int
    >>> levels(Float(0.0, 1.0), 3)
    [0.0, 0.5, 1.0]
    >>> levels(Int(1, 2), 3)
    [1, 2]
    """
    match domain:
        case Choice(options=options):
            return list(options)
        case ZeroOr(domain=inner, zero=zero):
            return [zero, *levels(inner, resolution)]
        case _ if (values := domain.values()) is not None and len(values) <= resolution:
            return list(values)
        case _:
            steps = [0.5] if resolution == 1 else [step / (resolution - 1) for step in range(resolution)]
            return list(dict.fromkeys(domain.from_unit(step) for step in steps))


def corners(space: SpaceLike) -> list[dict[str, Scalar]]:
    """Return the extreme points of every combination of active parameters.

    For each: all low, all high, and from all low each parameter alone at its other extremes. With constraints, each
    parameter is also moved alone from all high. Points that break a constraint are left out.

    >>> from search_spaces import Choice, Float, SearchSpace, When
    >>> corners(SearchSpace({"a": Choice([0, 1]), "b": Float(2.0, 3.0)}, when={"b": When("a", 1)}))
    [{'a': 0}, {'a': 1, 'b': 2.0}, {'a': 1, 'b': 3.0}]
    """
    return [point for point in unconstrained_corners(space) if _is_allowed(space, point)]


def unconstrained_corners(space: SpaceLike) -> Iterator[dict[str, Scalar]]:
    """Yield the points of `corners`, and those that break a constraint too: there may be very many.

    >>> from search_spaces import Choice, SearchSpace
    >>> next(unconstrained_corners(SearchSpace({name: Choice([0, 1]) for name in "abc"})))
    {'a': 0, 'b': 0, 'c': 0}
    """
    readers = predicates_by_parent(space)
    values = {
        name: _distinct([*extremes(domain), *_unreached(domain, readers[name])])
        for name, domain in space.parameters.items()
    }
    is_high_a_base = bool(space.constraints)
    for box in _boxes(space, values):
        yield from _box_corners(box, is_high_a_base=is_high_a_base)


def extremes(domain: Domain) -> list[Scalar]:
    """Return the ends of each range of a domain, or every option, from low to high.

    >>> from search_spaces import SymLog
    >>> extremes(ZeroOr(SymLog(-1.0, 1.0, gap=0.1)))
    [0.0, -1.0, -0.1, 0.1, 1.0]
    """
    match domain:
        case Fixed(value=value):
            return [value]
        case Choice(options=options):
            return list(options)
        case ZeroOr(domain=inner, zero=zero):
            return [zero, *extremes(inner)]
        case _:
            return [end for interval in intervals(domain) for end in interval]


def _is_allowed(space: SpaceLike, point: Mapping[str, Scalar]) -> bool:
    return all(constraint.holds(point) for constraint in space.constraints)


def _unreached(domain: Domain, readers: Sequence[Predicate]) -> list[Scalar]:
    """Return one value of each class without an extreme."""
    reached = {tuple(reader.holds(end) for reader in readers) for end in extremes(domain)}
    all_classes = classes(pieces(domain, marks(readers)), readers)
    firsts = [members[0][0] for members in all_classes]
    return [value for value in firsts if tuple(reader.holds(value) for reader in readers) not in reached]


def _boxes(space: SpaceLike, values: Mapping[str, list[Scalar]]) -> Iterator[dict[str, list[Scalar]]]:
    """Yield, for each combination of parent classes, the values of every active parameter."""
    readers = predicates_by_parent(space)
    menus = {
        name: [[value for value, _ in members] for members in classes([(v, 1) for v in options], readers[name])]
        for name, options in values.items()
    }
    return _walk(space, list(values), menus, box={})


def _walk(
    space: SpaceLike,
    names: list[str],
    menus: Mapping[str, list[list[Scalar]]],
    *,
    box: dict[str, list[Scalar]],
) -> Iterator[dict[str, list[Scalar]]]:
    if not names:
        yield box
        return
    name, *rest = names
    # Any member represents its class: all conditions give the same result for all members.
    active = is_active(space, name, {parent: members[0] for parent, members in box.items()})
    for members in menus[name] if active else [None]:
        yield from _walk(space, rest, menus, box=box if members is None else {**box, name: members})


def _box_corners(box: Mapping[str, list[Scalar]], *, is_high_a_base: bool) -> Iterator[dict[str, Scalar]]:
    """Yield all low, all high, and each parameter alone at its other extremes from all low (and from all high)."""
    counts = [len(members) for members in box.values()]
    low, high = (0,) * len(counts), tuple(count - 1 for count in counts)
    bases = (low, high) if is_high_a_base else (low,)
    moved = (
        (*base[:index], place, *base[index + 1 :])
        for base in bases
        for index, count in enumerate(counts)
        for place in range(count)
    )
    for places in dict.fromkeys([low, high, *moved]):  # tuples of places compare faster than points
        yield {name: members[place] for (name, members), place in zip(box.items(), places, strict=True)}


def _distinct(values: Sequence[Scalar]) -> list[Scalar]:
    return list({identity(value): value for value in values}.values())
