"""How many points a space holds, without enumerating them.

The values of a parent fall into classes on which every condition that reads them is constant; what
exists below depends on the class alone. Parameters joined by no condition multiply.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from search_spaces.conditions import is_active
from search_spaces.domains import Choice, Domain, Fixed, Int, Scalar, ZeroOr
from search_spaces.numeric import intervals
from search_spaces.values import is_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from search_spaces.conditions import Predicate, SpaceLike

# A value, and how many values of its domain it stands for.
Weighted: TypeAlias = tuple[Scalar, float]


def size(space: SpaceLike) -> float:
    """Return the number of points, `math.inf` where a continuous parameter can be active.

    >>> from search_spaces import catalog
    >>> size(catalog.optimizer())
    inf
    """
    readers = predicates_by_parent(space)
    return count(space, {name: pieces(domain, marks(readers[name])) for name, domain in space.parameters.items()})


def count(space: SpaceLike, alternatives: Mapping[str, Sequence[Weighted]]) -> float:
    """Return the number of points when each active parameter takes one of its alternatives.

    >>> from search_spaces import Choice, SearchSpace, When
    >>> space = SearchSpace({"a": Choice([1, 2]), "b": Choice([3, 4])}, when={"b": When("a", 1)})
    >>> count(space, {"a": [(1, 1), (2, 1)], "b": [(3, 1), (4, 1)]})
    3
    """
    readers = predicates_by_parent(space)
    merged = {
        name: [(members[0][0], sum(weight for _, weight in members)) for members in classes(weighted, readers[name])]
        for name, weighted in alternatives.items()
    }
    return math.prod(_total(space, group, merged, values={}) for group in _components(space))


def classes(weighted: Iterable[Weighted], readers: Sequence[Predicate]) -> list[list[Weighted]]:
    """Group values that every reader judges alike.

    >>> from search_spaces.conditions import not_equal
    >>> classes([(0, 1), (1, 1), (2, 1)], [not_equal(0)])
    [[(0, 1)], [(1, 1), (2, 1)]]
    """
    groups: dict[tuple[bool, ...], list[Weighted]] = defaultdict(list)
    for value, weight in weighted:
        groups[tuple(reader.holds(value) for reader in readers)].append((value, weight))
    return list(groups.values())


def pieces(domain: Domain, cuts: Sequence[float]) -> list[Weighted]:
    """Cut a domain at these numbers: one value of each piece, and how many values the piece has.

    >>> from search_spaces import Float
    >>> pieces(Int(1, 9), [4])
    [(1, 1), (2, 2), (4, 1), (5, 4), (9, 1)]
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
        case Int(low=low, high=high):
            inside = {edge for cut in cuts for edge in (math.floor(cut), math.ceil(cut))}
            return _int_pieces(sorted({low, high} | {edge for edge in inside if low < edge < high}))
        case _:
            return [piece for low, high in intervals(domain) for piece in _float_pieces(low, high, cuts)]


def predicates_by_parent(space: SpaceLike) -> defaultdict[str, list[Predicate]]:
    """Return, for each parent, the predicates that read it; an empty list for any other name.

    >>> from search_spaces import catalog
    >>> predicates_by_parent(catalog.optimizer())["optimizer.name"]
    [Equals(value='sgd')]
    """
    readers: defaultdict[str, list[Predicate]] = defaultdict(list)
    for laws in space.when.values():
        for law in laws:
            readers[law.parent].append(law.predicate)
    return readers


def marks(readers: Iterable[Predicate]) -> list[float]:
    """Return the numbers that the predicates name.

    >>> from search_spaces.conditions import greater_than, one_of
    >>> marks([one_of("a", 3), greater_than(2)])
    [3, 2.0]
    """
    return [mark for reader in readers for mark in reader.marks if is_number(mark)]


def _int_pieces(edges: list[int]) -> list[Weighted]:
    found: list[Weighted] = []
    for low, high in itertools.pairwise(edges):
        found.append((low, 1))
        if high - low > 1:
            found.append((low + 1, high - low - 1))
    return [*found, (edges[-1], 1)]


def _float_pieces(low: float, high: float, cuts: Sequence[float]) -> list[Weighted]:
    edges = sorted({low, high} | {float(cut) for cut in cuts if low < cut < high})
    between = [(a, a / 2 + b / 2) for a, b in itertools.pairwise(edges)]
    found: list[Weighted] = [piece for a, middle in between for piece in ((a, 1), (middle, math.inf))]
    return [*found, (edges[-1], 1)]


def _components(space: SpaceLike) -> list[list[str]]:
    """Group the names that conditions connect; each group keeps parents before children."""
    group_of = {name: {name} for name in space.parameters}
    for child, laws in space.when.items():
        for law in laws:
            joined = group_of[child] | group_of[law.parent]
            group_of.update(dict.fromkeys(joined, joined))
    unique = {id(group): group for group in group_of.values()}
    return [[name for name in space.parameters if name in group] for group in unique.values()]


def _total(
    space: SpaceLike,
    names: list[str],
    alternatives: Mapping[str, Sequence[Weighted]],
    *,
    values: dict[str, Scalar],
) -> float:
    if not names:
        return 1
    name, *rest = names
    if not is_active(space, name, values):
        return _total(space, rest, alternatives, values=values)
    return sum(
        weight * _total(space, rest, alternatives, values={**values, name: value})
        for value, weight in alternatives[name]
    )
