"""Neighbours of a point: some of its parameters take another value, most of them a near one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces import Choice, Fixed, ZeroOr
from search_spaces.conditions.definition import is_active
from search_spaces.domains.values import identity

if TYPE_CHECKING:
    import random

    from orchestrator.spec.model import Point
    from search_spaces import Domain, SearchSpace
    from search_spaces.domains.types import Scalar

CHANGED = 2.0
"""Parameters that change, on average."""
WIDTH = 0.15
"""Standard deviation of a step along a range, in quantiles of it."""
SWITCHED = 0.25
"""Chance that a method which is on is switched off, instead of getting another strength."""


def neighbour(space: SearchSpace, point: Point, rng: random.Random) -> Point:
    """Return a neighbour of a point; constraints are not checked.

    A parameter that becomes active is sampled, one that becomes inactive is left out.

    >>> import random
    >>> from search_spaces import Float, SearchSpace
    >>> neighbour(SearchSpace({"lr": Float(0.0, 1.0)}), {"lr": 0.5}, random.Random(0))["lr"] != 0.5
    True
    """
    free = [name for name in point if name in space.names and not isinstance(space.parameters[name], Fixed)]
    changed = {name for name in free if rng.random() * len(free) < CHANGED} or ({rng.choice(free)} if free else set())
    new: Point = {}
    for name, domain in space.parameters.items():
        if not is_active(space, name, new):
            continue
        if name not in point or not domain.contains(point[name]):
            new[name] = domain.from_unit(rng.random())
        else:
            new[name] = _step(domain, point[name], rng) if name in changed else point[name]
    return new


def _step(domain: Domain, value: Scalar, rng: random.Random) -> Scalar:
    if isinstance(domain, ZeroOr):
        if not value:
            return domain.domain.from_unit(rng.random())
        return domain.zero if rng.random() < SWITCHED else _step(domain.domain, value, rng)
    if isinstance(domain, Choice) and not domain.ordered:
        rest = [option for option in domain.options if identity(option) != identity(value)]
        return rng.choice(rest or list(domain.options))
    at = abs(domain.to_unit(value) + rng.gauss(0.0, WIDTH))
    return domain.from_unit(min(max(2 - at if at > 1 else at, 0.0), 1.0))
