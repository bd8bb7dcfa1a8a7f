"""Perturbation of points: the exploration step of population based training (Jaderberg et al. 2017, arXiv 1711.09846).

A number is multiplied by 0.8 or 1.25 and stays in its range; an option moves to the one before or after it. With a
probability a value is sampled instead.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from search_spaces.conditions.definition import is_active
from search_spaces.domains.types import Choice, Domain, Fixed, Scalar, ZeroOr, intervals
from search_spaces.domains.values import identity, is_number

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from search_spaces.conditions.definition import SpaceLike
    from search_spaces.sampling.points import Point

FACTORS = (0.8, 1.25)
MOST_TRIES = 100
"""Perturbations of one point that may break a constraint, before the point is left as it is."""
RESAMPLED, NEIGHBOUR = "resampled", "neighbour"


class Perturbed(NamedTuple):
    """A perturbed point, and how each value that changed came about: ``x 0.8``, ``neighbour`` or ``resampled``."""

    point: Point
    changes: dict[str, str]


def perturbed(
    space: SpaceLike, point: Mapping[str, Scalar], names: Collection[str], *, resample: float, seed: int
) -> Perturbed:
    """Perturb the named values of a point; the result is a point of the space.

    Each parameter draws from its own stream. A parameter that becomes active is sampled, one that becomes inactive is
    left out. Where no try satisfies the constraints the point stays as it is.

    >>> from search_spaces import Float, SearchSpace
    >>> space = SearchSpace({"lr": Float(0.01, 1.0, log=True), "width": Float(1.0, 2.0)})
    >>> perturbed(space, {"lr": 0.1, "width": 1.5}, ["lr"], resample=0.0, seed=0)
    Perturbed(point={'lr': 0.125, 'width': 1.5}, changes={'lr': 'x 1.25'})
    """
    for attempt in range(MOST_TRIES):
        made = _attempt(space, point, names, resample=resample, seed=f"{seed}/{attempt}")
        if all(constraint.holds(made.point) for constraint in space.constraints):
            return made
    return Perturbed(dict(point), {})


def _attempt(
    space: SpaceLike, point: Mapping[str, Scalar], names: Collection[str], *, resample: float, seed: str
) -> Perturbed:
    made, changes = dict[str, Scalar](), dict[str, str]()
    for name, domain in space.parameters.items():
        if not is_active(space, name, made):
            continue
        rng = random.Random(f"{seed}/{name}")  # noqa: S311 - no secret
        if name not in point:
            made[name], changes[name] = domain.from_unit(rng.random()), RESAMPLED
            continue
        made[name] = value = point[name]
        if name in names:
            made[name], how = _moved(domain, value, resample=resample, rng=rng)
            if identity(made[name]) != identity(value):
                changes[name] = how
    return Perturbed(made, changes)


def _moved(domain: Domain, value: Scalar, *, resample: float, rng: random.Random) -> tuple[Scalar, str]:
    """Return another value of a domain, and how it came about; at a bound the other direction is taken."""
    is_sampled, factors = rng.random() < resample, FACTORS if rng.random() < 0.5 else FACTORS[::-1]
    if not is_sampled and isinstance(domain, Choice):
        return _neighbour(domain.options, value, forward=factors == FACTORS), NEIGHBOUR
    if not is_sampled and is_number(value) and not isinstance(domain, Fixed):
        inner = domain.domain if isinstance(domain, ZeroOr) else domain
        for factor in factors if value else ():
            moved = _scaled(inner, value, factor)
            if moved != value:
                return moved, f"x {factor:g}"
    return domain.from_unit(rng.random()), RESAMPLED


def _neighbour(options: Sequence[Scalar], value: Scalar, *, forward: bool) -> Scalar:
    place = [identity(option) for option in options].index(identity(value))
    after = place + (1 if forward else -1)
    if not 0 <= after < len(options):
        after = place - (1 if forward else -1)
    return options[min(max(after, 0), len(options) - 1)]


def _scaled(domain: Domain, value: Any, factor: float) -> Scalar:
    """Return the value of a domain of numbers nearest to a multiple; of finitely many, at least the next one."""
    if isinstance(domain, Choice):  # of numbers that are not 0
        return _neighbour(domain.options, value, forward=factor > 1)
    target, values = value * factor, domain.values()
    if values is None:
        low, high = next(bounds for bounds in intervals(domain) if bounds[0] <= value <= bounds[1])
        return min(max(float(target), low), high)
    place, last = bisect_left(values, value), len(values) - 1
    near = bisect_left(values, target)
    if 0 < near <= last and abs(values[near - 1] - target) <= abs(values[near] - target):
        near -= 1
    if near == place:
        near += 1 if target > value else -1
    return values[min(max(near, 0), last)]
