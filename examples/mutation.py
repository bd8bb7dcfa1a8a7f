"""Local random mutation, as a sampler of one's own that learns: change the best trials so far a little.

A (mu + 1) evolution strategy without recombination (Rechenberg 1973): a parent is sampled from the best `parents`
trials, and each coordinate moves, with probability `rate`, by a normal step of width `spread` in the unit interval of
its domain. A trial that is not better than its parent is simply never a parent.

    search: {sampler: "mutation:Mutation", args: {spread: 0.15}, num_trials: 64}

Ravel makes a new object for each point, so it can remember nothing: everything comes from the arguments, the trials
so far and the seed.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

from orchestrator.decisions.own_sampler import PastTrial
from search_spaces import SearchSpace

MOST_TRIED = 100
Point = dict[str, Any]


class Mutation:
    """Sampler that changes the best trials so far a little; the first ``random`` points are sampled from the space."""

    def __init__(self, spread: float = 0.1, rate: float = 0.5, parents: int = 3, random: int = 6) -> None:
        if not (spread > 0 and 0 < rate <= 1 and parents >= 1 and random >= 1):
            raise ValueError("must be spread > 0, 0 < rate <= 1, parents >= 1 and random >= 1")
        self.spread, self.rate, self.parents, self.random = spread, rate, parents, random

    def propose(self, space: SearchSpace, trials: Sequence[PastTrial], index: int, seed: int) -> Point:
        """Return the mutation of one of the best trials.

        Trials are compared at the highest epoch that enough of them have measured: values of different epochs say
        nothing about each other.
        """
        known = [trial for trial in trials if trial.values and space.contains(trial.point)]
        if index < self.random or not known:
            return dict(space.sample(seed))
        rng = random.Random(seed)
        best = self._best(known)
        for _ in range(MOST_TRIED):
            point = self._mutated(dict(rng.choice(best).point), space, rng)
            if space.contains(point):
                return point
        return dict(space.sample(seed))

    def _best(self, trials: Sequence[PastTrial]) -> list[PastTrial]:
        enough = min(self.parents, len(trials))
        epochs = {epoch for trial in trials for epoch in trial.values}
        level = max(epoch for epoch in epochs if sum(epoch in trial.values for trial in trials) >= enough)
        measured = [trial for trial in trials if level in trial.values and math.isfinite(trial.values[level][0])]
        ordered = sorted(measured, key=lambda trial: (-trial.values[level][0], trial.trial))
        return ordered[: self.parents] or list(trials)

    def _mutated(self, parent: Point, space: SearchSpace, rng: random.Random) -> Point:
        point: Point = {}
        for name, domain in space.parameters.items():
            if name not in space.active(point):
                continue
            unit = domain.to_unit(parent[name]) if name in parent else rng.random()
            if name in parent and rng.random() >= self.rate:
                point[name] = parent[name]
            else:
                point[name] = domain.from_unit(min(1.0, max(0.0, unit + rng.gauss(0.0, self.spread))))
        return point
