"""PASHA (Bohdal et al. 2023, arXiv 2207.06940): the maximum grows only while the ranking of the leaders is unstable.

Promotion as in ASHA, but nobody is promoted beyond the ceiling, at first the second rung. Whenever a trial arrives at
the ceiling, the ranking there is compared with the same trials' ranking one rung lower; where they differ by more than
noise, the ceiling rises by a rung. Noise is the 90th percentile of the differences between trials whose curves crossed
each other and crossed back. In the end the best trial at the ceiling is trained to its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from orchestrator.scheduling.asha import best_waiting, first_waiting, promotable
from orchestrator.scheduling.protocol import RungDecision
from orchestrator.state.ranking import is_finite, order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.scheduling.protocol import TrialView, TrialViews
    from orchestrator.state.ranking import Measured

NOISE_PERCENTILE = 0.9
FIRST_CEILING = 2


@dataclass(frozen=True)
class Pasha:
    """The rule: one objective, one bracket."""

    rungs: tuple[int, ...]
    reduction_factor: int
    pauses: bool = True

    def judge(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """At a rung in force: on if it is promotable by now, and below the ceiling."""
        view, rungs = views.views[trial], self._in_force(views)
        if level not in rungs:
            return None
        values = views.at(level, view.group)
        if level == rungs[-1] and not _is_stable(views, rungs):
            rungs = self.rungs[: len(rungs) + 1]
        below = level < rungs[-1] or len(rungs) == len(self.rungs)
        kept = below and promotable(values, {trial}, reduction_factor=self.reduction_factor) == trial
        return RungDecision(level, kept or view.exempt, competitors=len(values), rungs=rungs)

    def resume(self, views: TrialViews, *, unstarted: int) -> str | None:
        """As ASHA below the ceiling; in the end the best at the ceiling, if no trial that competes has ended."""
        rungs = self._in_force(views)
        below = rungs if len(rungs) == len(self.rungs) else rungs[:-1]
        found = best_waiting(views, below, self.reduction_factor)
        if found is not None or unstarted or not views.is_quiet():
            return found
        found = best_waiting(views, below, self.reduction_factor, at_least=1)
        return found if found is not None or views.somebody_completed() else first_waiting(views, rungs)

    def _in_force(self, views: TrialViews) -> tuple[int, ...]:
        """The rungs up to the ceiling: the most that any decision so far has seen."""
        seen = (len(each.rungs) for view in views.views.values() for each in view.decisions.values())
        return self.rungs[: max(FIRST_CEILING, max(seen, default=0))]


def _is_stable(views: TrialViews, rungs: tuple[int, ...]) -> bool:
    """Whether the trials at the last of these rungs rank as they did one rung lower, but for noise."""
    if len(rungs) < FIRST_CEILING:
        return True
    below, top = rungs[-2:]
    trials = [each for each in views.views.values() if each.competes_at(top) and each.competes_at(below)]
    now = {each.trial: each.values[top] for each in trials if is_finite(each.values[top])}
    before = {trial: views.views[trial].values[below] for trial in now}
    noise = _noise([each for each in trials if each.trial in now], rungs)
    return all(
        abs(before[one][0] - before[other][0]) <= noise for one, other in zip(order(now), order(before), strict=True)
    )


def _noise(trials: Iterable[TrialView], rungs: Sequence[int]) -> float:
    """How far apart trials are at the last rung whose curves have crossed at least twice on the way there."""
    top = rungs[-1]
    apart = sorted(
        abs(one.values[top][0] - other.values[top][0])
        for one, other in combinations(trials, 2)
        if _crossings(one.values, other.values, rungs) > 1
    )
    return apart[math.ceil(NOISE_PERCENTILE * len(apart)) - 1] if apart else 0.0


def _crossings(one: Mapping[int, Measured], other: Mapping[int, Measured], rungs: Sequence[int]) -> int:
    """How often two curves change places from rung to rung."""
    leads = [one[rung] > other[rung] for rung in rungs if rung in one and rung in other and one[rung] != other[rung]]
    return sum(before != after for before, after in pairwise(leads))
