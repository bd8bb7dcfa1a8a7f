"""Refinement of a space around the best points of a previous sweep, with notes on parameters that it cannot decide.

Four rules, each derived from the distribution of k draws of a parameter that has no effect:

- An edge moves inwards if k uniform draws, from that edge to the farthest best point, would rarely leave so large a
  share g empty at the edge, (1 - g)^k < `LEVEL`. Otherwise it does not move.
- k uniform draws leave, on average, a gap of span / (k - 1) between each extreme and the end of their range (order
  statistics of the uniform distribution; David and Nagaraja 2003, section 2.1). An edge that moves keeps this distance
  from the best points, in the coordinate in which the domain is uniform.
- Best points crowd at an edge that does not move if the outer quarter of the range has more of them than chance allows
  (binomial tail below `LEVEL`). The optimum may then be outside: the range is widened by a quarter at this edge.
- An option, or the 0 of a `ZeroOr`, is removed if it was tried so often that its absence among the best points is not
  chance (hypergeometric probability below `LEVEL`, divided by the number of options).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, final

from search_spaces.domains.types import Choice, Domain, Fixed, Float, Int, Scalar, SymLog, ZeroOr
from search_spaces.domains.values import broken, identity, is_number
from search_spaces.errors import Problem, SpaceError, quoted, raise_all
from search_spaces.sampling.points import point_problems
from search_spaces.space import SearchSpace
from search_spaces.warm_start.best_ranges import LEVEL, Limits, around

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from search_spaces.sampling.points import Point

FEWEST = 5
"""Least number of best points whose range is informative."""


@final
@dataclass(frozen=True, slots=True)
class Refinement:
    """Space around the best points.

    Attributes:
        space: contains every best point.
        best: the best points of the sweep, best first.
        notes: one line for each change, and for each parameter that could not be decided.
    """

    space: SearchSpace
    best: tuple[Point, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"from the {len(self.best)} best points:", *self.notes])


class _Seen(NamedTuple):
    """Values of one parameter, from the points in which it exists."""

    best: list[Scalar]
    all: list[Scalar]


def refine(
    space: SearchSpace,
    points: Sequence[Mapping[str, Scalar]],
    scores: Sequence[float],
    *,
    quantile: float = 0.2,
    mode: Literal["max", "min"] = "max",
    limits: Mapping[str, Limits] = MappingProxyType({}),
) -> Refinement:
    """Return a space around the best points, narrower where they agree and wider where they crowd at an edge.

    A point with a score that is not finite counts as tried, and never as one of the best. Conditions and constraints
    do not change.

    Args:
        space: the space from which the points were sampled.
        points: the points of the previous sweep.
        scores: one score for each point.
        quantile: the share of the points that counts as best; the minimum is `FEWEST` points.
        mode: whether a larger score is better, or a smaller one.
        limits: (low, high) of parameters, the widest possible range. Without a limit a range keeps its sign, and a
            linear range within [0, 1] is never wider than [0, 1].

    Raises:
        SpaceError: fewer than 2 * `FEWEST` finite scores, a point outside the space, or not one score for each point.
        DomainError: the quantile is not in (0, 1].

    >>> from search_spaces import Float, SearchSpace
    >>> space = SearchSpace({"lr": Float(1e-5, 1.0, log=True), "seed": Float(0.0, 1.0)})
    >>> points = space.sample_many(100, seed=2)
    >>> refinement = refine(space, points, [-abs(math.log10(point["lr"]) + 2) for point in points])
    >>> print(refinement)
    from the 20 best points:
    lr: a float in [1e-05, 1], log -> a float in [0.0029, 0.033], log
    """
    _check(space, points, scores, quantile)
    sign = 1 if mode == "max" else -1
    order = sorted((i for i, score in enumerate(scores) if math.isfinite(score)), key=lambda i: -sign * scores[i])
    best = [points[i] for i in order[: max(FEWEST, math.ceil(quantile * len(order)))]]
    parameters: dict[str, Domain] = {}
    notes: list[str] = []
    for name, domain in space.parameters.items():
        seen = _Seen([p[name] for p in best if name in p], [p[name] for p in points if name in p])
        if len(seen.best) < FEWEST and not isinstance(domain, Fixed):
            parameters[name] = domain
            notes.append(f"{name}: left as it is, only {len(seen.best)} of the best points have it")
        else:
            parameters[name], remarks = _refined(domain, seen, limits.get(name))
            if parameters[name] != domain:
                notes.append(f"{name}: {domain.describe()} -> {parameters[name].describe()}")
            notes += [f"{name}: {remark}" for remark in remarks]
    return Refinement(
        SearchSpace(parameters, space.when, space.constraints), tuple(dict(point) for point in best), tuple(notes)
    )


def _check(
    space: SearchSpace, points: Sequence[Mapping[str, Scalar]], scores: Sequence[float], quantile: float
) -> None:
    if not (is_number(quantile) and 0 < quantile <= 1):
        raise broken("refine.quantile", f"must be in (0, 1], got {quoted(quantile)}")
    if len(points) != len(scores):
        raise SpaceError(Problem("refine.scores", f"must be one for each of {len(points)} points, got {len(scores)}"))
    raise_all(
        Problem(f"refine.scores.{index}", f"must be a number, nan for a point that diverged, got {quoted(score)}")
        for index, score in enumerate(scores)
        if not isinstance(score, int | float)
    )
    finite = sum(math.isfinite(score) for score in scores)
    if finite < 2 * FEWEST:
        requirement = f"must have at least {2 * FEWEST} finite scores, to be informative about a range"
        raise SpaceError(Problem("refine.scores", f"{requirement}, got {finite}"))
    raise_all(
        Problem(f"refine.points.{index}", f"{problem}; adopt() maps points into a changed space")
        for index, point in enumerate(points)
        for problem in point_problems(space, point)
    )


def _refined(domain: Domain, seen: _Seen, limits: Limits | None) -> tuple[Domain, list[str]]:
    match domain:
        case ZeroOr():
            return _refined_switch(domain, seen, limits)
        case Choice():
            return _refined_choice(domain, seen), []
        case Fixed():
            return domain, []
        case Float() | Int() | SymLog():
            return around(domain, [value for value in seen.best if is_number(value)], limits)
    raise AssertionError(domain)


def _refined_switch(domain: ZeroOr, seen: _Seen, limits: Limits | None) -> tuple[Domain, list[str]]:
    off, tried_off = (sum(value == 0 for value in values) for values in seen)
    if off == 0 and _absence(tried_off, seen) < LEVEL:
        return _refined(domain.domain, _Seen(seen.best, [value for value in seen.all if value != 0]), limits)
    if off == len(seen.best) and _absence(len(seen.all) - tried_off, seen) < LEVEL:
        return Fixed(domain.zero), []
    share = min(max(round(off / len(seen.best), 2), 0.1), 0.9)
    on = _Seen(*([value for value in values if value != 0] for values in seen))
    if len(on.best) < FEWEST:
        return ZeroOr(domain.domain, share), [f"its values left as they are, only {len(on.best)} best points have one"]
    inner, remarks = _refined(domain.domain, on, limits)
    return (inner if isinstance(inner, Fixed) and off == 0 else ZeroOr(inner, share)), remarks


def _refined_choice(domain: Choice, seen: _Seen) -> Domain:
    best = {identity(value) for value in seen.best}
    level = LEVEL / len(domain.options)
    kept = [
        option
        for option in domain.options
        if identity(option) in best or _absence(sum(identity(v) == identity(option) for v in seen.all), seen) >= level
    ]
    if domain.ordered:
        order = [identity(option) for option in domain.options]
        places = [order.index(identity(option)) for option in kept]
        kept = list(domain.options[min(places) : max(places) + 1])
    return Fixed(kept[0]) if len(kept) == 1 else Choice(kept, ordered=domain.ordered)


def _absence(tried: int, seen: _Seen) -> float:
    """Return the probability that none of the best points has a value that was tried so often, if it has no effect."""
    return math.comb(len(seen.all) - tried, len(seen.best)) / math.comb(len(seen.all), len(seen.best))
