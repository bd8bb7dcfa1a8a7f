"""Places at the rungs of a schedule: the trials that advance whatever those measure that are still to come.

A trial takes ``TrialView.cost`` of the places of a rung, in units of the mean over all trials of the sweep: without
prices each has cost 1, so a place is one trial. The best by value advance, as many as their share of the places has
room for, and at least one. Once all have come, the best of the remaining trials by extrapolation take the rest of the
places.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.state.ranking import Ranking, is_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
    from orchestrator.scheduling.trial_views import TrialView
    from orchestrator.state.ranking import Measured


class Price(NamedTuple):
    """Cost that a place is worth, as a fraction of whole numbers: exact on every machine."""

    total: int = 1
    num_trials: int = 1

    def affords(self, places: int, cost: int) -> bool:
        """Return True if so many places have room for a cost.

        >>> Price(12, 4).affords(2, 6), Price(12, 4).affords(2, 7)
        (True, False)
        """
        return cost * self.num_trials <= places * self.total


class Outlook(NamedTuple):
    """Bounds at a rung: a cost of ``to_come`` may yet come at most, and a place is worth ``price`` at least.

    Where ``is_complete``, no trial is to come any more, and the price is exact.
    """

    to_come: int = 0
    price: Price = Price()
    is_complete: bool = True


@dataclass(slots=True)
class RungPlaces:
    """Competitors at one rung of a schedule: those that measured a finite value and were not lost at it.

    ``base`` is the earlier rung from which values are extrapolated. ``to_end`` is the resource from here to the end,
    where the budget is fixed: a trial that the rest of it does not take to its end takes no place.
    """

    level: int
    places: int
    extrapolated: int = 0
    base: int | None = None
    is_priced: bool = False
    to_end: int | None = None
    ranked: Ranking = field(default_factory=Ranking)
    projected: Ranking = field(default_factory=Ranking)
    paused: Ranking = field(default_factory=Ranking)
    costs: dict[str, int] = field(default_factory=dict)
    num_advanced: int = 0
    cost_advanced: int = 0
    cost_paused: int = 0
    _certain: dict[Outlook, list[str]] = field(default_factory=dict)
    """Last result of ``certain``, until a view changes."""

    @property
    def is_plain(self) -> bool:
        """Return True if a place is one trial, whatever its cost, and none is taken by extrapolation."""
        return not self.is_priced and not self.extrapolated

    @property
    def best_paused(self) -> str | None:
        """Best of the paused trials."""
        return self.ranked.best_of(self.paused)

    def is_certain(self, trial: str, outlook: Outlook) -> bool:
        """Return True if a trial advances whatever the trials measure that are still to come.

        At a rung whose places are taken, only a second chance leads further. Among several objectives one new trial may
        change the order of all: no place is certain before the last trial has come.
        """
        if trial not in self.ranked or (outlook.to_come and not self.ranked.is_linear):
            return False
        if self.is_plain:
            return self.num_advanced < self.places and self.ranked.place(trial) < self.places - outlook.to_come
        return self._has_room(self.costs[trial], outlook.price) and trial in self.certain(outlook)

    def best_certain(self, outlook: Outlook) -> str | None:
        """Return the best of the paused trials whose place is certain."""
        if self.is_plain:
            trial = self.best_paused
            return trial if trial is not None and self.is_certain(trial, outlook) else None
        if not self.paused or (outlook.to_come and not self.ranked.is_linear):
            return None
        return next((trial for trial in self.certain(outlook) if self._may_resume(trial, outlook.price)), None)

    def certain(self, outlook: Outlook) -> list[str]:
        """Return the trials that are certain to advance: the best by value, then the best by extrapolation."""
        if outlook not in self._certain:
            by_value = self._by_value(outlook)
            others = self._by_extrapolation(by_value, outlook.price) if outlook.is_complete else ()
            self._certain = {outlook: [*by_value, *others]}
        return self._certain[outlook]

    def _by_value(self, outlook: Outlook) -> list[str]:
        to_come, price, is_complete = outlook
        used, chosen = to_come, list[str]()
        for trial in self.ranked:
            cost = self.costs[trial]
            if not self._is_payable(cost, price):
                used += 0 if is_complete else cost  # it may yet turn out to be payable, and take its place
                continue
            used += cost
            is_sure = not chosen and is_complete  # one advances, whatever it costs
            if not is_sure and not price.affords(self.places - self.extrapolated, used):
                break
            chosen.append(trial)
        return chosen

    def _by_extrapolation(self, by_value: Sequence[str], price: Price) -> Iterator[str]:
        if not self.extrapolated:
            return
        chosen, used = frozenset(by_value), sum(self.costs[trial] for trial in by_value)
        for trial in self.projected:
            if trial not in chosen and self._is_payable(self.costs[trial], price):
                used += self.costs[trial]
                if not price.affords(self.places, used):
                    return
                yield trial

    def _is_payable(self, cost: int, price: Price) -> bool:
        """Return True if what is left of a fixed budget takes a trial of this cost from here to its end."""
        return self.to_end is None or cost * self.to_end <= price.total

    def leaving(self, outlook: Outlook, highest: Price) -> int:
        """Return the most places of the rung above that trials may yet take which advance from here.

        ``highest`` is the most that a place may be worth. Once the rung is complete, the number is exact.
        """
        if self.is_plain:
            return max(0, min(self.places - self.num_advanced, len(self.paused) + outlook.to_come))
        if outlook.is_complete:
            return self._cost_leaving(outlook)
        most = self.cost_paused + outlook.to_come
        room = self.places * highest.total // highest.num_trials - self.cost_advanced
        return max(0, min(room, most)) if self.num_advanced else most

    def _cost_leaving(self, outlook: Outlook) -> int:
        cost, count = self.cost_advanced, self.num_advanced
        for trial in self.certain(outlook):
            after = cost + self.costs[trial]
            if trial in self.paused and (not count or outlook.price.affords(self.places, after)):
                cost, count = after, count + 1
        return cost - self.cost_advanced

    def _may_resume(self, trial: str, price: Price) -> bool:
        return trial in self.paused and self._has_room(self.costs[trial], price)

    def _has_room(self, cost: int, price: Price) -> bool:
        """Return True unless second chances have taken the places of the trials that lead now."""
        return not self.num_advanced or price.affords(self.places, self.cost_advanced + cost)

    def last(self, price: Price) -> str | None:
        """Return the trial in the last place that is taken by value, once all of these are taken."""
        if self.is_priced:
            kept = self._by_value(Outlook(0, price, is_complete=True))
            return kept[-1] if kept and len(kept) < len(self.ranked) else None
        count = self.places - self.extrapolated
        return self.ranked[count - 1] if len(self.ranked) >= count else None

    def replace(self, old: TrialView | None, new: TrialView) -> None:
        """Replace what a view contributed."""
        before, after = None if old is None else self._value(old), self._value(new)
        self._certain = {}
        if old is not None and before is not None:
            advanced = old.advanced_from(self.level)
            self.num_advanced -= advanced
            self.cost_advanced -= advanced * old.cost
            if self._is_paused(old):
                self.paused.discard(new.trial)
                self.cost_paused -= old.cost
        if before is not None and before != after:
            self.ranked.discard(new.trial)
        if after is not None and before != after:
            self.ranked.add(new.trial, after)
        if after is not None:
            self.costs[new.trial] = new.cost
            advanced = new.advanced_from(self.level)
            self.num_advanced += advanced
            self.cost_advanced += advanced * new.cost
            if self._is_paused(new):
                self.paused.add(new.trial, after)
                self.cost_paused += new.cost
        if self.extrapolated:
            self._project(new)

    def _project(self, view: TrialView) -> None:
        here, value = self.ranked.values.get(view.trial), None
        if here is not None:
            value = extrapolated(view.values.get(self.base or 0, here), here)
        if value == self.projected.values.get(view.trial):
            return
        if view.trial in self.projected:
            self.projected.discard(view.trial)
        if value is not None:
            self.projected.add(view.trial, value)

    def _value(self, view: TrialView) -> Measured | None:
        competes = view.competes_at(self.level) and not view.was_lost_at(self.level)
        return view.values[self.level] if competes and is_finite(view.values[self.level]) else None

    def _is_paused(self, view: TrialView) -> bool:
        return view.state == "paused" and view.level == self.level


def extrapolated(before: Measured, here: Measured) -> Measured:
    """Return values extrapolated by the change so far: y + (y - y'), objective by objective.

    >>> extrapolated((0.5, -1.0), (0.75, -0.5))
    (1.0, 0.0)
    """
    return tuple(now + (now - then) if math.isfinite(then) else now for then, now in zip(before, here, strict=True))


class PlaceIndex:
    """Competitors at each rung of a schedule, and the budget that all trials but the exempt ones use."""

    def __init__(self, schedule: RungSchedule) -> None:
        bases = (None, *(schedule.base_of(index) for index in range(1, len(schedule.rungs))))
        rungs = zip(schedule.rungs, schedule.places, schedule.extrapolated, bases, strict=False)
        self.rungs = [
            RungPlaces(*rung, is_priced=schedule.is_priced, to_end=schedule.to_end(rung[0])) for rung in rungs
        ]
        self.num_trials = 0
        self.num_alive = 0
        """Trials that run or were trained to their end, but for the audit."""
        self.used = 0
        """Resource that was used, and that running trials will use if they are trained to their end."""
        self.committed = 0
        """Resource that was used, and that running trials will use up to the next rung."""
        self._schedule, self._fixed = schedule, schedule.passes
        self._steps = [schedule.step(rung) for rung in schedule.rungs]
        self._running = [0] * (len(schedule.rungs) + 1)
        self._total = 0

    def budget(self, unstarted: int) -> float:
        """Return the resource that all trials may use: a fixed number, or one that follows from their mean cost."""
        price = self._mean_cost(unstarted)
        return self._schedule.budget * price.total / price.num_trials if self._fixed is None else self._fixed

    def outlooks(self, unstarted: int) -> list[Outlook]:
        """Return what may yet come to each rung, lowest first, if so many trials are to start."""
        most = self._schedule.most_passes
        from_below, is_known = unstarted * most, not unstarted
        lowest, highest = self._mean_cost(unstarted), self._mean_cost(unstarted, most)
        first = self._schedule.weight(self.rungs[0].level) if self.rungs else 0
        least_spent, most_spent = first * (self._total + unstarted), first * (self._total + from_below)
        outlooks = []
        for index, (rung, running) in enumerate(zip(self.rungs, self._running, strict=False)):
            to_come = running + from_below
            is_known = not to_come and (is_known or self._fixed is None)
            if self._fixed is not None:
                lowest, highest = self._share(index, most_spent), self._share(index, least_spent)
            outlooks.append(Outlook(to_come, lowest, is_known))
            from_below = rung.leaving(outlooks[-1], highest)
            least_spent += self._steps[index] * rung.cost_advanced
            most_spent += self._steps[index] * (rung.cost_advanced + from_below)
        return outlooks

    def _share(self, index: int, spent: int) -> Price:
        """Return what a place at a rung is worth if so much is spent below: places share what is left of the budget."""
        left = max(0, (self._fixed or 0) - spent)
        return Price(left, sum(map(mul, self._steps[index:], self._schedule.places[index:])))

    def _mean_cost(self, unstarted: int, cost: int = 1) -> Price:
        """Return the mean cost of a trial, if each of the unstarted ones has this cost."""
        count = self.num_trials + unstarted
        return Price(self._total + unstarted * cost, count) if self._schedule.is_priced and count else Price()

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
        self._total += sign * view.cost
        self.num_alive += sign * (view.state in {"running", "completed"} and view.blind_from is None)
        weight = self._schedule.weight
        self.used += sign * view.cost * weight(view.level if view.blind_from is None else view.blind_from)
        self.committed += sign * view.cost * weight(view.level if view.blind_from is None else view.blind_from)
        if view.is_running_below(self._schedule.maximum):
            self.used += sign * view.cost * (weight(self._schedule.maximum) - weight(view.level))
            rung = bisect_right(self._schedule.rungs, view.level)
            after = (*self._schedule.rungs, self._schedule.maximum)[rung]
            self.committed += sign * view.cost * (weight(after) - weight(view.level))
            self._running[rung] += sign * view.cost
