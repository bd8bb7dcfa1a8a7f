"""Random sampling of points.

Each parameter draws from its own stream, seeded by the seed and the name, once for each point, whether it is active or
not. Adding a parameter to a space, or conditions to a parameter, therefore changes no draw of any other parameter
(until a constraint rejects a whole point).
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

from search_spaces.domains.values import broken
from search_spaces.errors import quoted
from search_spaces.sampling.feasibility import Feasibility, counted, infeasible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.domains.values import Scalar

# After this many rejections in a row sampling raises an error instead of continuing without end.
MOST_REFUSED = 10_000


def sample_many(space: SpaceLike, n: int, *, seed: int) -> list[dict[str, Scalar]]:
    """Draw n points; inactive parameters are absent. The first k of n points equal the points of `n=k`.

    A draw that breaks a constraint is rejected.

    Raises:
        InfeasibleError: `MOST_REFUSED` draws in a row break a constraint.

    >>> from search_spaces import catalog
    >>> sample_many(catalog.mixup(), 3, seed=1)[:2] == sample_many(catalog.mixup(), 2, seed=1)
    True
    """
    if type(n) is not int or n < 0:
        raise broken("sample_many.n", f"must be an int >= 0, got {quoted(n)}")
    return list(itertools.islice(accepted(space, seed=seed), n))


def accepted(space: SpaceLike, *, seed: int) -> Iterator[dict[str, Scalar]]:
    """Yield points of the space without end.

    Raises:
        InfeasibleError: `MOST_REFUSED` draws in a row break a constraint.

    >>> from search_spaces import Int, SearchSpace
    >>> space = SearchSpace({"a": Int(1, 9), "b": Int(1, 9)}, constraints=["a < b"])
    >>> [point["a"] < point["b"] for point in itertools.islice(accepted(space, seed=0), 3)]
    [True, True, True]
    """
    constraints = space.constraints
    rejections = 0
    for draw in draws(space, seed=seed):
        if all(constraint.holds(draw) for constraint in constraints):
            rejections = 0
            yield draw
        elif (rejections := rejections + 1) == MOST_REFUSED:
            raise infeasible(feasibility(space, MOST_REFUSED, seed=seed))


def feasibility(space: SpaceLike, n: int, *, seed: int) -> Feasibility:
    """Draw n points without the constraints, and count those that each constraint refuses.

    >>> from search_spaces import catalog
    >>> print(feasibility(catalog.mixup(), 100, seed=0))
    no constraint: every draw is a point
    """
    if type(n) is not int or n < 1:
        raise broken("feasibility.n", f"must be an int >= 1, got {quoted(n)}")
    return counted(space.constraints, itertools.islice(draws(space, seed=seed), n))


def draws(space: SpaceLike, *, seed: int) -> Iterator[dict[str, Scalar]]:
    """Yield points without end, without the constraints.

    >>> from search_spaces import Float, SearchSpace
    >>> next(draws(SearchSpace({"lr": Float(0.0, 1.0)}), seed=0)).keys()
    dict_keys(['lr'])
    """
    if type(seed) is not int:
        raise broken("sample.seed", f"must be an int, got {quoted(seed)}")
    steps = [
        (name, random.Random(f"{seed}/{name}").random, domain.from_unit, space.when.get(name))  # noqa: S311 - no secret
        for name, domain in space.parameters.items()
    ]
    while True:
        point: dict[str, Scalar] = {}
        for name, draw, from_unit, condition in steps:
            u = draw()  # one draw even if the parameter is inactive: the streams stay synchronised
            if condition is None or condition.holds(point):
                point[name] = from_unit(u)
        yield point
