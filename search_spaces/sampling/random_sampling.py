"""Points of a space drawn at random.

Each parameter draws from a stream of its own, seeded by the seed and the name, and draws once per
point whether it is active or not: adding a parameter to a space, or conditions to a parameter,
changes no draw of the others (until a constraint throws a draw of all of them away).
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from search_spaces.domains.values import broken
from search_spaces.sampling.feasibility import Feasibility, infeasible, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.domains.values import Scalar

# A space that keeps fewer than one draw in as many is no space to search in: say so instead of spinning.
MOST_REFUSED = 10_000


def sample_many(space: SpaceLike, n: int, *, seed: int) -> list[dict[str, Scalar]]:
    """Draw n points; inactive parameters are absent. The first k of n are what k alone would be.

    A draw that breaks a constraint is thrown away and the next one taken.

    Raises:
        InfeasibleError: `MOST_REFUSED` draws in a row break a constraint.

    >>> from search_spaces import catalog
    >>> sample_many(catalog.mixup(), 3, seed=1)[:2] == sample_many(catalog.mixup(), 2, seed=1)
    True
    """
    if type(n) is not int or n < 0:
        raise broken("sample_many.n", f"must be an int >= 0, got {n!r}")
    return list(itertools.islice(accepted(space, seed=seed), n))


def accepted(space: SpaceLike, *, seed: int) -> Iterator[dict[str, Scalar]]:
    """Yield points of the space for ever.

    Raises:
        InfeasibleError: `MOST_REFUSED` draws in a row break a constraint.

    >>> from search_spaces import Int, SearchSpace
    >>> space = SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"])
    >>> [point["a"] < point["b"] for point in itertools.islice(accepted(space, seed=0), 3)]
    [True, True, True]
    """
    constraints = space.constraints
    refused = 0
    for draw in draws(space, seed=seed):
        if all(constraint.holds(draw) for constraint in constraints):
            refused = 0
            yield draw
        elif (refused := refused + 1) == MOST_REFUSED:
            raise infeasible(feasibility(space, MOST_REFUSED, seed=seed))


def feasibility(space: SpaceLike, n: int, *, seed: int) -> Feasibility:
    """Draw n points that ignore the constraints, and count which of them the constraints refuse.

    >>> from search_spaces import catalog
    >>> print(feasibility(catalog.mixup(), 100, seed=0))
    no constraint: every draw is a point
    """
    if type(n) is not int or n < 1:
        raise broken("feasibility.n", f"must be an int >= 1, got {n!r}")
    return judge(space.constraints, itertools.islice(draws(space, seed=seed), n))


def draws(space: SpaceLike, *, seed: int) -> Iterator[dict[str, Scalar]]:
    """Yield points for ever that ignore the constraints.

    >>> from search_spaces import Float, SearchSpace
    >>> next(draws(SearchSpace({"lr": Float(0.0, 1.0)}), seed=0)).keys()
    dict_keys(['lr'])
    """
    if type(seed) is not int:
        raise broken("sample.seed", f"must be an int, got {seed!r}")
    steps = [
        (name, random.Random(f"{seed}/{name}").random, domain.from_unit, space.when.get(name))  # noqa: S311 - no secret
        for name, domain in space.parameters.items()
    ]
    while True:
        point: dict[str, Scalar] = {}
        for name, draw, from_unit, condition in steps:
            u = draw()  # drawn whether the parameter exists or not: the streams of a seed stay in step
            if condition is None or condition.holds(point):
                point[name] = from_unit(u)
        yield point
