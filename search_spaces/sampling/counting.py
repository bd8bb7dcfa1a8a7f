"""Number of points of a space, without enumeration.

The values of a parent fall into classes for which every condition gives the same result; only the class decides which
children exist. The counts of parameters that no condition or constraint connects are multiplied.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from search_spaces.conditions.definition import is_active
from search_spaces.domains.types import Choice, Domain, Fixed, Scalar, ZeroOr, intervals
from search_spaces.domains.values import is_number
from search_spaces.errors import Problem, SpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from search_spaces.conditions.condition import Predicate
    from search_spaces.conditions.constraints import Constraint
    from search_spaces.conditions.definition import SpaceLike

# The combinations of the parameters of a constraint are tried one by one: so many take one or two seconds.
MOST_COMBINATIONS = 1_000_000
# A value, and the number of values of the domain that it represents.
Weighted: TypeAlias = tuple[Scalar, float]


def size(space: SpaceLike) -> float:
    """Return the number of points, `math.inf` where a continuous parameter can be active.

    A constraint on parameters with finitely many values is counted exactly, by trying every combination of them. A
    constraint that names a continuous parameter is not counted.

    Raises:
        SpaceError: the parameters of a constraint have more than `MOST_COMBINATIONS` combinations.

    >>> from search_spaces import Int, SearchSpace
    >>> size(SearchSpace({"a": Int(1, 3), "b": Int(1, 3)}, constraints=["a < b"]))
    3
    """
    readers = predicates_by_parent(space)
    finite = _finite_constraints(space)
    named = {name for constraint in finite for name in constraint.names}
    for constraint in finite:
        combinations = math.prod(len(space.parameters[name].values() or ()) for name in constraint.names)
        if combinations > MOST_COMBINATIONS:
            excess = f"joins {combinations:,} combinations, too many to count (at most {MOST_COMBINATIONS:,})"
            raise SpaceError(Problem(constraint.place, f"{excess}; use feasibility() for the share of points"))
    alternatives = {
        name: [(value, 1) for value in domain.values() or ()] if name in named else pieces(domain, marks(readers[name]))
        for name, domain in space.parameters.items()
    }
    return count(space, alternatives, finite)


def count(
    space: SpaceLike, alternatives: Mapping[str, Sequence[Weighted]], constraints: Sequence[Constraint] = ()
) -> float:
    """Return the number of points when each active parameter takes one of its alternatives.

    Every value of a parameter that a constraint names must have its own entry, with a weight of 1.

    >>> from search_spaces import Choice, SearchSpace, When
    >>> space = SearchSpace({"a": Choice([1, 2]), "b": Choice([3, 4])}, when={"b": When("a", 1)})
    >>> count(space, {"a": [(1, 1), (2, 1)], "b": [(3, 1), (4, 1)]})
    3
    """
    readers = predicates_by_parent(space)
    named = {name for constraint in constraints for name in constraint.names}
    merged = {
        name: weighted if name in named else _merged(weighted, readers[name]) for name, weighted in alternatives.items()
    }
    return math.prod(
        _total(space, group, merged, [item for item in constraints if item.names[0] in group], values={})
        for group in _components(space, constraints)
    )


def _merged(weighted: Sequence[Weighted], readers: Sequence[Predicate]) -> list[Weighted]:
    return [(members[0][0], sum(weight for _, weight in members)) for members in classes(weighted, readers)]


def _finite_constraints(space: SpaceLike) -> list[Constraint]:
    return [
        constraint
        for constraint in space.constraints
        if all(space.parameters[name].values() is not None for name in constraint.names)
    ]


def classes(weighted: Iterable[Weighted], readers: Sequence[Predicate]) -> list[list[Weighted]]:
    """Group the values by the results of the predicates.

    >>> from search_spaces.conditions.condition import not_equal
    >>> classes([(0, 1), (1, 1), (2, 1)], [not_equal(0)])
    [[(0, 1)], [(1, 1), (2, 1)]]
    """
    groups: dict[tuple[bool, ...], list[Weighted]] = defaultdict(list)
    for value, weight in weighted:
        groups[tuple(reader.holds(value) for reader in readers)].append((value, weight))
    return list(groups.values())


def pieces(domain: Domain, cuts: Sequence[float]) -> list[Weighted]:
    """Cut a domain at these numbers: one value of each piece, and the number of its values.

    >>> from search_spaces import Float, Int
    >>> pieces(Int(1, 9), [4])
    [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 3), (9, 1)]
    >>> pieces(ZeroOr(Float(1.0, 3.0)), [])
    [(0.0, 1), (1.0, 1), (2.0, inf), (3.0, 1)]
    """
    match domain:
        case Fixed(value=value):
            return [(value, 1)]
        case Choice(options=options):
            return [(option, 1) for option in options]
        case ZeroOr(domain=inner, zero=zero):
            return [(zero, 1), *pieces(inner, cuts)]
        case _ if (values := domain.values()) is not None:
            return _lattice_pieces(values, cuts)
        case _:
            return [piece for low, high in intervals(domain) for piece in _float_pieces(low, high, cuts)]


def predicates_by_parent(space: SpaceLike) -> defaultdict[str, list[Predicate]]:
    """Return the predicates on each parent; an empty list for any other name.

    >>> from search_spaces import catalog
    >>> predicates_by_parent(catalog.optimizer())["optimizer.name"]
    [Equals(value='sgd')]
    """
    readers: defaultdict[str, list[Predicate]] = defaultdict(list)
    for condition in space.when.values():
        for leaf in condition.leaves():
            readers[leaf.parent].append(leaf.predicate)
    return readers


def marks(readers: Iterable[Predicate]) -> list[float]:
    """Return the numbers that the predicates name.

    >>> from search_spaces.conditions.condition import greater_than, one_of
    >>> marks([one_of("a", 3), greater_than(2)])
    [3, 2.0]
    """
    return [mark for reader in readers for mark in reader.marks if is_number(mark)]


def _lattice_pieces(values: Sequence[Any], cuts: Sequence[float]) -> list[Weighted]:
    """Cut ascending values: each value next to a cut is a piece, each run between them another."""
    near = {
        edge
        for cut in cuts
        for edge in (bisect_left(values, cut) - 1, bisect_left(values, cut), bisect_right(values, cut))
    }
    single = sorted({0, len(values) - 1} | {index for index in near if 0 <= index < len(values)})
    weighted: list[Weighted] = []
    for left, right in itertools.pairwise(single):
        weighted.append((values[left], 1))
        if right - left > 1:
            weighted.append((values[left + 1], right - left - 1))
    return [*weighted, (values[single[-1]], 1)]


def _float_pieces(low: float, high: float, cuts: Sequence[float]) -> list[Weighted]:
    edges = sorted({low, high} | {float(cut) for cut in cuts if low < cut < high})
    between = [(a, a / 2 + b / 2) for a, b in itertools.pairwise(edges)]
    weighted: list[Weighted] = [piece for a, middle in between for piece in ((a, 1), (middle, math.inf))]
    return [*weighted, (edges[-1], 1)]


def _components(space: SpaceLike, constraints: Sequence[Constraint]) -> list[list[str]]:
    """Group the names that conditions and constraints connect; in each group parents come before children."""
    group_of = {name: {name} for name in space.parameters}
    ties = [[child, *(leaf.parent for leaf in condition.leaves())] for child, condition in space.when.items()]
    for first, *connected in [*ties, *(constraint.names for constraint in constraints)]:
        for name in connected:
            joined = group_of[first] | group_of[name]
            group_of.update(dict.fromkeys(joined, joined))
    unique = {id(group): group for group in group_of.values()}
    return [[name for name in space.parameters if name in group] for group in unique.values()]


def _total(
    space: SpaceLike,
    names: list[str],
    alternatives: Mapping[str, Sequence[Weighted]],
    constraints: Sequence[Constraint],
    *,
    values: dict[str, Scalar],
) -> float:
    if not names:
        return int(all(constraint.holds(values) for constraint in constraints))
    name, *rest = names
    if not is_active(space, name, values):
        return _total(space, rest, alternatives, constraints, values=values)
    totals = (
        (weight, _total(space, rest, alternatives, constraints, values={**values, name: value}))
        for value, weight in alternatives[name]
    )
    return sum(weight * total for weight, total in totals if total)  # inf times nothing is nothing
