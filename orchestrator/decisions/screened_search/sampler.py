"""Screened search, the sampler that ``auto`` chooses: random search first, then the best of several candidates.

It is made for sweeps whose trials are stopped early. All that is measured while most points are proposed are values of
the first rung, which say little about the end. So the first points are sampled at random, a part of the later ones
too, and the rest is screened: of many random points and some neighbours of the best trials, the one that is best in a
function sampled from a model of the order of all trials (Thompson 1933). The order never compares values of different
epochs, and a sampled function is far from the mean where trials are few: points that are proposed at the same time
differ, and how far the search is led by early values is bounded.

The mean cost of all points is kept near that of random ones, unless the budget counts epochs (``costs``).

A point is a function of the spec, the trials so far and a seed. Diverged and failed trials count as the worst, so that
their neighbourhood is avoided. No point is proposed twice while another is left.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from orchestrator.decisions.screened_search.costs import PointCosts
from orchestrator.decisions.screened_search.neighbours import neighbour
from orchestrator.decisions.screened_search.rows import Rows
from orchestrator.decisions.screened_search.trial_order import LOST, TrialOrder
from orchestrator.planning.choices import FEWEST_RANKED, SCREENED_SHARE, num_random
from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.sweep_state import SweepState

NUM_RANDOM, NUM_NEIGHBOURS, NUM_BEST = 150, 25, 5
"""Candidates that are sampled at random, candidates that are neighbours, and trials whose neighbours they are."""
MOST_MODELLED = 200
"""Trials in the model: of more, the better half of so many and as many of the rest, evenly."""
MOST_TRIES = 100
"""Points that are sampled for one that was not proposed before."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Constant part of a trial: the searched part of its point, and its row."""

    point: Point
    row: list[float]


@final
class ScreenedSearch:
    """Screened search of one sweep. It keeps rows and values of trials from ask to ask, which decides nothing."""

    def __init__(self, spec: SweepSpec, state: SweepState) -> None:
        self._spec, self._state = spec, state
        self._num_random = num_random(spec)
        self._order = TrialOrder(spec, state)
        self._rows = Rows(spec.space)
        self._costs = None if spec.scheduler.resource == "epochs" else PointCosts(spec)
        self._known: dict[str, _Known] = {}
        self._proposed: set[tuple[tuple[str, object], ...]] = set()

    def ask(self, seed: int) -> Point:
        """Return the next point under this seed.

        Raises:
            InfeasibleError: no point satisfies the constraints, of all that were tried.
            MissingExtraError: numpy is not installed.
        """
        self._update()
        rng = random.Random(seed)  # noqa: S311  no secret
        is_random = len(self._state.trials) < self._num_random or rng.random() >= SCREENED_SHARE
        ranked = [] if is_random else self._order.ranked()
        if len(ranked) < FEWEST_RANKED or self._state.trials[ranked[0]].status in LOST:
            return self._new(seed)
        candidates = list(self._candidates(ranked, seed, rng))
        if self._costs is not None:
            candidates = [candidates[index] for index in self._costs.affordable(candidates)]
        if not candidates:
            return self._new(seed)
        return candidates[self._best_of(candidates, _part(ranked), seed)]

    def _best_of(self, candidates: list[Point], ranked: list[str], seed: int) -> int:
        """Return the index of the candidate that is best in one function sampled from the posterior of the model."""
        try:
            from orchestrator.decisions.screened_search import gaussian_process  # noqa: PLC0415  imports numpy
        except ModuleNotFoundError as error:
            raise MissingExtraError("numpy", extra="tune") from error
        rows = [self._known[name].row for name in ranked]
        return gaussian_process.best_of(self._rows.of_all(candidates), rows, seed=seed)

    def _update(self) -> None:
        """Note the points of the trials that were created since the last ask."""
        for name, trial in self._state.trials.items():
            if name not in self._known:
                point = {key: value for key, value in trial.point.items() if key in self._spec.space.parameters}
                self._known[name] = _Known(point, self._rows.of(point))
                self._proposed.add(_identity(point))
                if self._costs is not None:
                    self._costs.add(point)

    def _new(self, seed: int) -> Point:
        """Return a random point that was not proposed before; a repeated one in a space that has hardly another."""
        if self._spec.space.parameters and _identity(point := self._spec.space.sample(seed)) not in self._proposed:
            return point
        points = self._spec.space.sample_many(MOST_TRIES, seed)
        return next((point for point in points if _identity(point) not in self._proposed), points[0])

    def _candidates(self, ranked: list[str], seed: int, rng: random.Random) -> Iterator[Point]:
        """Yield points of the space that were not proposed before: random ones, and neighbours of the best trials."""
        space, best = self._spec.space, [self._known[name].point for name in ranked[:NUM_BEST]]
        near = (neighbour(space, best[number % len(best)], rng) for number in range(NUM_NEIGHBOURS))
        for point in (*space.sample_many(NUM_RANDOM, seed), *near):
            is_point = all(constraint.holds(point) for constraint in space.constraints)
            if is_point and _identity(point) not in self._proposed:
                yield point


def _part(ranked: list[str]) -> list[str]:
    """Return the trials in the model, best first."""
    if len(ranked) <= MOST_MODELLED:
        return ranked
    half = MOST_MODELLED // 2
    step = (len(ranked) - half) / half
    return [*ranked[:half], *(ranked[half + int(number * step)] for number in range(half))]


def _identity(point: Point) -> tuple[tuple[str, object], ...]:
    """Return a key that is equal for equal points; 1, 1.0 and True differ."""
    return tuple((name, repr(point[name])) for name in sorted(point))
