"""Successive halving that needs no setting but its budget (Jamieson and Talwalkar 2016, made asynchronous).

A trial is paused at a rung until no trial that is still to come to it can take its place: so, unless trials diverge,
the promoted trials are the same whatever the order in which trials were started, the number of workers and their speed,
and no slow learner is dropped for having met the wrong first arrivals. Once all have come, a part of the places is for
the trials whose values rise fastest. The budget that is left at the end (what diverged trials did not use) promotes the
best paused trials. ``rung_schedule`` has the rungs and places of a budget, ``rung_places`` who takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.scheduling.budgeted.rung_places import PlaceIndex
from orchestrator.scheduling.rung_decision import RungDecision

if TYPE_CHECKING:
    from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
    from orchestrator.scheduling.trial_views import TrialView, TrialViews

UNBOUNDED_DESIGN = 1
"""In sweeps of this design, second chances after the loss of every leader know no bound: these are continued so."""


@dataclass(frozen=True)
class BudgetedAsha:
    """Budgeted ASHA. Exempt trials run to their end outside its places and its budget.

    All trials together, second chances too, cost at most the budget and one full trial: that one where every trial that
    was to run to its end was lost, or where a single trial costs more than a rung has places for.
    """

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
        unstarted = max(0, self.schedule.num_trials - index.num_trials)
        rung, outlook = index.rungs[at], index.outlooks(unstarted)[at]
        kept = views[trial].exempt or (
            rung.is_certain(trial, outlook) and self._is_paid(index, unstarted, views[trial].cost)
        )
        last = rung.last(outlook.price)
        return RungDecision(level, kept, None if last is None else rung.ranked.values[last], len(rung.ranked))

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Promote the paused trial of the highest rung whose place is certain by now; in the end, a second chance."""
        index = views.index(PlaceIndex, self.schedule)
        outlooks = index.outlooks(unstarted)
        for rung, outlook in zip(reversed(index.rungs), reversed(outlooks), strict=True):
            trial = rung.best_certain(outlook)
            if trial is None:
                continue
            cost = rung.costs[trial]
            if self._is_paid(index, unstarted, cost, more=cost * self.schedule.step(rung.level)):
                return trial
        return None if unstarted or any(outlook.to_come for outlook in outlooks) else self._second_chance(index)

    def rival(self, views: TrialViews, view: TrialView, level: int) -> str | None:  # noqa: ARG002  no groups
        """Return the trial in the last place of a rung, once all of its places are taken."""
        index = views.index(PlaceIndex, self.schedule)
        at = self.rungs.index(level)
        return index.rungs[at].last(index.outlooks(0)[at].price)

    def _is_paid(self, index: PlaceIndex, unstarted: int, cost: int, *, more: int = 0) -> bool:
        """Return True if a step keeps the sweep within its budget and one full trial, as without losses it always does.

        A trial that came to a rung by a second chance may find a place there, which the budget has not foreseen.
        """
        schedule = self.schedule
        most = index.budget(unstarted) + cost * schedule.weight(schedule.maximum)
        return schedule.design == UNBOUNDED_DESIGN or index.committed + more <= most

    def _second_chance(self, index: PlaceIndex) -> str | None:
        """Return the best of the highest rung that the rest of the budget takes a step further.

        Where no trial is left that runs or has ended, one may go on to its end for a full trial more than the budget.
        """
        schedule = self.schedule
        left = index.budget(0) - index.used
        for rung in reversed(index.rungs):
            trial = rung.best_paused
            if trial is None:
                continue
            cost, used = rung.costs[trial], schedule.weight(rung.level)
            is_last_hope = not index.num_alive and (schedule.design == UNBOUNDED_DESIGN or cost * -used <= left)
            if cost * schedule.step(rung.level) <= left or is_last_hope:
                return trial
        return None
