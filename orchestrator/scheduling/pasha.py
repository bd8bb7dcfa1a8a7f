"""PASHA (Bohdal et al. 2023, arXiv 2207.06940): the maximum grows only while the ranking of the leaders is unstable.

Promotion as in ASHA, but no trial is promoted beyond the ceiling, at first the second rung. Whenever a trial arrives at
the ceiling, its ranking is compared with the same trials' ranking one rung lower; where they differ by more than
noise, the ceiling rises by a rung. Noise is the 90th percentile of the differences between trials whose curves crossed
each other and crossed back. In the end the best trial at the ceiling is trained to its end.

Unlike all other decisions, that comparison costs O(m log m) for the m trials at the ceiling: it is about all of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestrator.scheduling.asha import best_paused, first_paused, placement
from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.trial_views import RungIndex
from orchestrator.state.ranking import is_finite, order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.scheduling.trial_views import TrialView, TrialViews
    from orchestrator.state.ranking import Measured

NOISE_PERCENTILE = 0.9
FIRST_CEILING = 2


@dataclass(frozen=True)
class Pasha:
    """Scheduler of one objective and one bracket."""

    rungs: tuple[int, ...]
    reduction_factor: int
    pauses: bool = True

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Keep a trial at a rung in force if it is promotable by now, and below the ceiling."""
        view, rungs = views[trial], self._in_force(views)
        if level not in rungs:
            return None
        ranking = views.index(RungIndex, self.rungs).at(level, view.group).ranked
        if level == rungs[-1] and not _is_stable(views, self.rungs, rungs):
            rungs = self.rungs[: len(rungs) + 1]
        below = level < rungs[-1] or len(rungs) == len(self.rungs)
        kept = below and placement(ranking, trial, reduction_factor=self.reduction_factor, at_least=0).kept
        return RungDecision(level, kept or view.exempt, competitors=len(ranking), rungs=rungs)

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Promote as ASHA below the ceiling; in the end the best at the ceiling, if no competing trial has ended."""
        index, rungs = views.index(RungIndex, self.rungs), self._in_force(views)
        below = rungs if len(rungs) == len(self.rungs) else rungs[:-1]
        trial = best_paused(index, below, self.reduction_factor)
        if trial is not None or unstarted or not views.is_quiet:
            return trial
        trial = best_paused(index, below, self.reduction_factor, at_least=1)
        return trial if trial is not None or views.any_completed else first_paused(index, rungs)

    def _in_force(self, views: TrialViews) -> tuple[int, ...]:
        """Return the rungs up to the ceiling: the most that any decision so far has seen."""
        return self.rungs[: max(FIRST_CEILING, views.index(CeilingIndex).highest)]


def _is_stable(views: TrialViews, all_rungs: tuple[int, ...], rungs: tuple[int, ...]) -> bool:
    """Return True if the trials at the last of these rungs rank as they did one rung lower, but for noise."""
    if len(rungs) < FIRST_CEILING:
        return True
    index, (below, top) = views.index(RungIndex, all_rungs), rungs[-2:]
    before = index.values_at(below)
    now = {trial: value for trial, value in index.values_at(top).items() if trial in before and is_finite(value)}
    before = {trial: before[trial] for trial in now}
    shifts = (abs(before[one][0] - before[other][0]) for one, other in zip(order(now), order(before), strict=True))
    noise = views.index(NoiseIndex, rungs).noise if len(rungs) > FIRST_CEILING else 0.0  # two rungs see one crossing
    return all(shift <= noise for shift in shifts)


class CeilingIndex:
    """Number of rungs in force that decisions have seen."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    @property
    def highest(self) -> int:
        """Highest of them; 0 before the first decision."""
        return max(self._counts, default=0)

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:  # noqa: ARG002  the protocol's
        """Replace what a view contributed."""
        if old is not None and old.decisions == new.decisions:
            return
        self._counts.update(_ceilings(new))
        if old is not None:
            self._counts.subtract(_ceilings(old))
            self._counts = +self._counts


def _ceilings(view: TrialView) -> Counter[int]:
    return Counter(len(decision.rungs) for decision in view.decisions.values())


class NoiseIndex:
    """Distances at the last of some rungs between trials whose curves have crossed at least twice on the way to it."""

    def __init__(self, rungs: tuple[int, ...]) -> None:
        self._rungs = rungs
        self._curves: dict[str, dict[int, Measured]] = {}
        self._distances: list[float] = []

    @property
    def noise(self) -> float:
        """90th percentile of the distances."""
        count = len(self._distances)
        return self._distances[math.ceil(NOISE_PERCENTILE * count) - 1] if count else 0.0

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:  # noqa: ARG002  the protocol's
        """Replace what a view contributed: its distances from all other trials."""
        before, after = None if old is None else self._curve(old), self._curve(new)
        if before == after:
            return
        if before is not None:
            del self._curves[new.trial]
            for distance in self._distances_from(before):
                del self._distances[bisect_left(self._distances, distance)]
        if after is not None:
            for distance in self._distances_from(after):
                insort(self._distances, distance)
            self._curves[new.trial] = after

    def _curve(self, view: TrialView) -> dict[int, Measured] | None:
        """Return the values at the rungs, of a trial that competes with a finite value at the last two of them."""
        competes = all(view.competes_at(rung) for rung in self._rungs[-2:])
        if not competes or not is_finite(view.values[self._rungs[-1]]):
            return None
        return {rung: view.values[rung] for rung in self._rungs if rung in view.values}

    def _distances_from(self, curve: Mapping[int, Measured]) -> Iterator[float]:
        top = self._rungs[-1]
        for other in self._curves.values():
            if _crossings(curve, other) > 1:
                yield abs(curve[top][0] - other[top][0])


def _crossings(one: Mapping[int, Measured], other: Mapping[int, Measured]) -> int:
    """Return the number of times that two curves change places from rung to rung."""
    leads = [one[rung] > other[rung] for rung in one if rung in other and one[rung] != other[rung]]
    return sum(before != after for before, after in pairwise(leads))
