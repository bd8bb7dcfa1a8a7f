"""Successive halving that needs no setting but its budget (Jamieson and Talwalkar 2016, made asynchronous).

Rungs double; at each, about two trials in five are kept; and the first rung is the one that makes the whole sweep cost
a given fraction of training every trial to its end. A trial is paused at a rung until no trial that is still to come
to it can take its place: so, unless trials diverge, the promoted trials are the same whatever the order in which trials
were started, the number of workers and their speed, and no slow learner is dropped for having met the wrong first
arrivals. The budget that is left at the end (what diverged trials did not use) goes to the best paused trials.

Reason for that first rung: with a budget given, a later first rung is paid for with a harsher cut. Where the
ranking at epoch s predicts that at epoch t with correlation exp(-c (1/s - 1/t)), which fits recorded curves, the best
choice hardly depends on how slowly trials learn (c): docs/scheduling.md.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.rungs import rungs, weights
from orchestrator.state.ranking import Ranking, is_finite

if TYPE_CHECKING:
    from orchestrator.scheduling.trial_views import TrialView, TrialViews
    from orchestrator.state.ranking import Measured

# The interval that holds the reduction factor is halved so many times: to the last bit of a float.
BISECTIONS = 60
SPACING = 2
CUT = 2.5
"""Each rung is twice the one before it, and two in five are kept: chosen on one recorded table, docs/scheduling.md."""


def cost(levels: tuple[int, ...], places: tuple[int, ...], num_trials: int, maximum: int) -> int:
    """Return the resource of a whole sweep in which ``places[k]`` trials advance from ``levels[k]``.

    >>> cost((3, 9), (3, 1), 9, 27)
    63
    """
    steps = zip((0, *levels), (*levels, maximum), (num_trials, *places), strict=True)
    return sum((end - start) * trials for start, end, trials in steps)


def places(
    levels: tuple[int, ...], num_trials: int, maximum: int, budget: float
) -> tuple[tuple[int, ...], float] | None:
    """Return the number of trials that advance from each rung, and the factor between them; None where none will do.

    The factor is the smallest that the budget allows; the budget that rounding leaves buys single places, at the
    first rungs first: a mistake at these is the likeliest.

    >>> places((2, 4, 8, 16), 64, 27, 346)[0]
    (32, 16, 7, 3)
    """

    def of(factor: float) -> tuple[int, ...]:
        return tuple(max(1, int(num_trials / factor**rung)) for rung in range(1, len(levels) + 1))

    if cost(levels, of(num_trials), num_trials, maximum) > budget:
        return None
    low, high = 1.0, float(num_trials)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(levels, of(middle), num_trials, maximum) > budget else (low, middle)
    bought = of(high)
    while (more := _one_more(levels, bought, num_trials, maximum, budget)) != bought:
        bought = more
    return bought, high


def _one_more(
    levels: tuple[int, ...], bought: tuple[int, ...], num_trials: int, maximum: int, budget: float
) -> tuple[int, ...]:
    """Return one place more at each rung where the budget and the places before it allow that."""
    counts = list(bought)
    for rung in range(len(levels)):
        counts[rung] += 1
        before = num_trials if rung == 0 else counts[rung - 1]
        if counts[rung] > before or cost(levels, tuple(counts), num_trials, maximum) > budget:
            counts[rung] -= 1
    return tuple(counts)


@dataclass(frozen=True)
class RungSchedule:
    """Rungs of a sweep, the number of ``num_trials`` trials that advance from each, and the resource that may cost.

    With several ``seeds``, trials are configurations, and all of their seeds are counted in the resource.
    """

    rungs: tuple[int, ...]
    places: tuple[int, ...]
    num_trials: int
    maximum: int
    budget: float
    seeds: int = 1

    @classmethod
    def within(
        cls,
        fraction: float,
        *,
        num_trials: int,
        maximum: int,
        spacing: int = SPACING,
        cut: float = CUT,
        seeds: int = 1,
    ) -> RungSchedule:
        """Return, of all schedules that cost ``fraction`` of training every trial, that which keeps about 1 in ``cut``.

        Each rung is ``spacing`` times the one before it.

        At least one trial is trained to its end: where the fraction is too small for that (few trials), the budget is
        the cost of the cheapest schedule.

        >>> RungSchedule.within(0.3, num_trials=64, maximum=27).rungs
        (4, 8, 16)
        >>> RungSchedule.within(0.3, num_trials=2, maximum=27)
        RungSchedule(rungs=(1, 2, 4, 8, 16), places=(1, 1, 1, 1, 1), num_trials=2, maximum=27, budget=28, seeds=1)
        """
        cheapest, full = weights(rungs(1, spacing, maximum), seeds), maximum * seeds
        least = cost(cheapest, (1,) * len(cheapest), num_trials, full)
        budget = max(fraction * num_trials * full, least)
        schedules = []
        for first in range(1, maximum + 1):
            levels = rungs(first, spacing, maximum)
            solved = places(weights(levels, seeds), num_trials, full, budget)
            if solved is not None:
                schedule = cls(levels, solved[0], num_trials, maximum, budget, seeds)
                schedules.append((abs(math.log(solved[1] / cut)), first, schedule))
        return min(schedules, key=lambda scored: scored[:2])[2]

    def extended(self, fraction: float, *, num_trials: int, maximum: int, spacing: int = SPACING) -> RungSchedule:
        """Return the schedule for other numbers whose rungs begin with these, so that earlier values still count.

        The sequence of the rungs continues up to the maximum. Places and budget are those of the new numbers; a budget
        that the first rung exceeds leaves one place at each.

        >>> RungSchedule.within(0.3, num_trials=64, maximum=27).extended(0.3, num_trials=96, maximum=81).places
        (67, 44, 29, 20, 13)
        """
        levels = rungs(self.rungs[0], spacing, maximum) if self.rungs else ()
        costs, full = weights(levels, self.seeds), maximum * self.seeds
        budget = max(fraction * num_trials * full, cost(costs, (1,) * len(levels), num_trials, full))
        solved = places(costs, num_trials, full, budget)
        assert solved is not None, "one place at each rung is within the budget"  # noqa: S101  our own arithmetic
        return RungSchedule(levels, solved[0], num_trials, maximum, budget, self.seeds)

    def step(self, rung: int) -> int:
        """Return the cost of training from a rung to the next one, or to the end."""
        after = (*self.rungs, self.maximum)[self.rungs.index(rung) + 1]
        return self.weight(after) - self.weight(rung)

    def weight(self, level: int) -> int:
        """Return the resource that a trial has used at a level: with several seeds, that of all which a rung needs."""
        if self.seeds == 1:
            return level
        return dict(zip(self.rungs, weights(self.rungs, self.seeds), strict=True)).get(level, level * self.seeds)


@dataclass(frozen=True)
class BudgetedAsha:
    """Budgeted ASHA. Exempt trials run to their end outside its places and its budget."""

    schedule: RungSchedule
    pauses: bool = True

    @property
    def rungs(self) -> tuple[int, ...]:
        """Rungs of the schedule."""
        return self.schedule.rungs

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Keep a trial at a rung if its place is certain; else it is paused."""
        if level not in self.rungs:
            return None
        index, at = views.index(PlaceIndex, self.schedule), self.rungs.index(level)
        to_come = index.to_come(max(0, self.schedule.num_trials - index.num_trials))
        rung = index.rungs[at]
        kept = views[trial].exempt or rung.is_certain(trial, to_come[at])
        return RungDecision(level, kept, rung.cutoff, len(rung.ranked))

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Promote the paused trial of the highest rung whose place is certain by now; in the end, a second chance."""
        index = views.index(PlaceIndex, self.schedule)
        to_come = index.to_come(unstarted)
        for rung, coming in zip(reversed(index.rungs), reversed(to_come), strict=True):
            trial = rung.best_paused
            if trial is not None and rung.is_certain(trial, coming):
                return trial
        return None if unstarted or any(to_come) else self._second_chance(index)

    def rival(self, views: TrialViews, view: TrialView, level: int) -> str | None:  # noqa: ARG002  no groups
        """Return the trial in the last place of a rung, once all of its places are taken."""
        rung = views.index(PlaceIndex, self.schedule).rungs[self.rungs.index(level)]
        return rung.ranked[rung.places - 1] if len(rung.ranked) >= rung.places else None

    def _second_chance(self, index: PlaceIndex) -> str | None:
        """Return the best of the highest rung that the rest of the budget takes a step further."""
        left = self.schedule.budget - index.used
        for rung in reversed(index.rungs):
            trial = rung.best_paused
            if trial is not None and (self.schedule.step(rung.level) <= left or not index.num_alive):
                return trial
        return None


@dataclass(slots=True)
class RungPlaces:
    """Competitors at one rung of a schedule: those that measured a finite value and were not lost at it."""

    level: int
    places: int
    ranked: Ranking = field(default_factory=Ranking)
    paused: Ranking = field(default_factory=Ranking)
    num_advanced: int = 0

    def is_certain(self, trial: str, to_come: int) -> bool:
        """Return True if a trial advances whatever the ``to_come`` trials measure that are still to come.

        At a rung whose places are taken, only a second chance leads further. Among several objectives one new trial may
        change the order of all: no place is certain before the last trial has come.
        """
        if self.num_advanced >= self.places or (to_come and not self.ranked.is_linear):
            return False
        return trial in self.ranked and self.ranked.place(trial) < self.places - to_come

    @property
    def best_paused(self) -> str | None:
        """Best of the paused trials."""
        return self.ranked.best_of(self.paused)

    @property
    def cutoff(self) -> Measured | None:
        """Value of the trial in the last place, once all places are taken."""
        full = len(self.ranked) >= self.places
        return self.ranked.values[self.ranked[self.places - 1]] if full else None

    def replace(self, old: TrialView | None, new: TrialView) -> None:
        """Replace what a view contributed."""
        before, after = None if old is None else self._value(old), self._value(new)
        if old is not None and before is not None:
            self.num_advanced -= old.advanced_from(self.level)
            if self._is_paused(old):
                self.paused.discard(new.trial)
        if before != after:
            if before is not None:
                self.ranked.discard(new.trial)
            if after is not None:
                self.ranked.add(new.trial, after)
        if after is not None:
            self.num_advanced += new.advanced_from(self.level)
            if self._is_paused(new):
                self.paused.add(new.trial, after)

    def _value(self, view: TrialView) -> Measured | None:
        competes = view.competes_at(self.level) and not view.was_lost_at(self.level)
        return view.values[self.level] if competes and is_finite(view.values[self.level]) else None

    def _is_paused(self, view: TrialView) -> bool:
        return view.state == "paused" and view.level == self.level


class PlaceIndex:
    """Competitors at each rung of a schedule, and the budget that all trials but the exempt ones use."""

    def __init__(self, schedule: RungSchedule) -> None:
        self.rungs = [RungPlaces(*rung) for rung in zip(schedule.rungs, schedule.places, strict=True)]
        self.num_trials = 0
        self.num_alive = 0
        """Trials that run or were trained to their end, but for the audit."""
        self.used = 0
        """Resource that was used, and that running trials will use if they are trained to their end."""
        self._schedule = schedule
        self._running = [0] * (len(schedule.rungs) + 1)

    def to_come(self, unstarted: int) -> list[int]:
        """Return the number of trials that may still come to each rung, lowest first."""
        counts, from_below = [], unstarted
        for rung, running in zip(self.rungs, self._running, strict=False):
            counts.append(running + from_below)
            from_below = max(0, min(rung.places - rung.num_advanced, len(rung.paused) + counts[-1]))
        return counts

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:  # noqa: ARG002  the protocol's
        """Replace what a view contributed."""
        if new.exempt:
            return
        for rung in self.rungs:
            rung.replace(old, new)
        for view, sign in ((old, -1), (new, 1)):
            if view is not None:
                self._count(view, sign)

    def _count(self, view: TrialView, sign: int) -> None:
        self.num_trials += sign
        self.num_alive += sign * (view.state in {"running", "completed"} and view.blind_from is None)
        weight = self._schedule.weight
        self.used += sign * weight(view.level if view.blind_from is None else view.blind_from)
        if view.is_running_below(self._schedule.maximum):
            self.used += sign * (weight(self._schedule.maximum) - weight(view.level))
            self._running[bisect_right(self._schedule.rungs, view.level)] += sign
