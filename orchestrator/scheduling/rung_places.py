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
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.state.ranking import Ranking, is_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.scheduling.rung_schedule import RungSchedule
    from orchestrator.scheduling.trial_views import TrialView
    from orchestrator.state.ranking import Measured


class Price(NamedTuple):
    """Mean cost of a trial of the sweep, as a fraction of whole numbers: exact on every machine."""

    total: int = 1
    num_trials: int = 1

    def affords(self, places: int, cost: int) -> bool:
        """Return True if so many places have room for a cost.

        >>> Price(12, 4).affords(2, 6), Price(12, 4).affords(2, 7)
        (True, False)
        """
        return cost * self.num_trials <= places * self.total


@dataclass(slots=True)
class RungPlaces:
    """Competitors at one rung of a schedule: those that measured a finite value and were not lost at it.

    ``base`` is the earlier rung from which values are extrapolated.
    """

    level: int
    places: int
    extrapolated: int = 0
    base: int | None = None
    is_priced: bool = False
    ranked: Ranking = field(default_factory=Ranking)
    projected: Ranking = field(default_factory=Ranking)
    paused: Ranking = field(default_factory=Ranking)
    costs: dict[str, int] = field(default_factory=dict)
    num_advanced: int = 0
    cost_advanced: int = 0
    cost_paused: int = 0
    _certain: dict[tuple[int, Price], list[str]] = field(default_factory=dict)
    """Last result of ``certain``, until a view changes."""

    @property
    def is_plain(self) -> bool:
        """Return True if a place is one trial, whatever its cost, and none is taken by extrapolation."""
        return not self.is_priced and not self.extrapolated

    @property
    def best_paused(self) -> str | None:
        """Best of the paused trials."""
        return self.ranked.best_of(self.paused)

    def is_certain(self, trial: str, to_come: int, price: Price) -> bool:
        """Return True if a trial advances whatever the trials measure that are still to come, of cost ``to_come``.

        At a rung whose places are taken, only a second chance leads further. Among several objectives one new trial may
        change the order of all: no place is certain before the last trial has come.
        """
        if trial not in self.ranked or (to_come and not self.ranked.is_linear):
            return False
        if self.is_plain:
            return self.num_advanced < self.places and self.ranked.place(trial) < self.places - to_come
        return self._has_room(self.costs[trial], price) and trial in self.certain(to_come, price)

    def best_certain(self, to_come: int, price: Price) -> str | None:
        """Return the best of the paused trials whose place is certain."""
        if self.is_plain:
            trial = self.best_paused
            return trial if trial is not None and self.is_certain(trial, to_come, price) else None
        if not self.paused or (to_come and not self.ranked.is_linear):
            return None
        return next((trial for trial in self.certain(to_come, price) if self._may_resume(trial, price)), None)

    def certain(self, to_come: int, price: Price) -> list[str]:
        """Return the trials that are certain to advance: the best by value, then the best by extrapolation."""
        key = (to_come, price)
        if key not in self._certain:
            by_value = self._by_value(to_come, price)
            self._certain = {key: by_value if to_come else [*by_value, *self._by_extrapolation(by_value, price)]}
        return self._certain[key]

    def _by_value(self, to_come: int, price: Price) -> list[str]:
        used, chosen = to_come, list[str]()
        for trial in self.ranked:
            used += self.costs[trial]
            is_sure = not chosen and not to_come  # one advances, whatever it costs
            if not is_sure and not price.affords(self.places - self.extrapolated, used):
                break
            chosen.append(trial)
        return chosen

    def _by_extrapolation(self, by_value: Sequence[str], price: Price) -> Iterator[str]:
        if not self.extrapolated:
            return
        chosen, used = frozenset(by_value), sum(self.costs[trial] for trial in by_value)
        for trial in self.projected:
            if trial not in chosen:
                used += self.costs[trial]
                if not price.affords(self.places, used):
                    return
                yield trial

    def leaving(self, to_come: int, price: Price) -> int:
        """Return the most places of the rung above that trials may yet take which advance from here.

        ``price`` is the highest that the trials to come may lead to. Once all have come, the number is exact.
        """
        if self.is_plain:
            return max(0, min(self.places - self.num_advanced, len(self.paused) + to_come))
        if not to_come:
            return self._cost_leaving(price)
        most = self.cost_paused + to_come
        room = self.places * price.total // price.num_trials - self.cost_advanced
        return max(0, min(room, most)) if self.num_advanced else most

    def _cost_leaving(self, price: Price) -> int:
        cost, count = self.cost_advanced, self.num_advanced
        for trial in self.certain(0, price):
            after = cost + self.costs[trial]
            if trial in self.paused and (not count or price.affords(self.places, after)):
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
            kept = self._by_value(0, price)
            return kept[-1] if len(kept) < len(self.ranked) else None
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
        self.rungs = [RungPlaces(*rung, is_priced=schedule.is_priced) for rung in rungs]
        self.num_trials = 0
        self.num_alive = 0
        """Trials that run or were trained to their end, but for the audit."""
        self.used = 0
        """Resource that was used, and that running trials will use if they are trained to their end."""
        self.committed = 0
        """Resource that was used, and that running trials will use up to the next rung."""
        self._schedule = schedule
        self._running = [0] * (len(schedule.rungs) + 1)
        self._total = 0

    def price(self, unstarted: int, cost: int = 1) -> Price:
        """Return the mean cost of a trial, if each of the unstarted ones has this cost."""
        count = self.num_trials + unstarted
        return Price(self._total + unstarted * cost, count) if self._schedule.is_priced and count else Price()

    def to_come(self, unstarted: int) -> list[int]:
        """Return the cost of the trials that may still come to each rung at most, lowest first."""
        most = self._schedule.most_passes
        highest = self.price(unstarted, most)
        costs, from_below = [], unstarted * most
        for rung, running in zip(self.rungs, self._running, strict=False):
            costs.append(running + from_below)
            from_below = rung.leaving(costs[-1], highest)
        return costs

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
