"""Successive halving that needs no setting but its budget (Jamieson and Talwalkar 2016, made asynchronous).

Rungs double; at each, about two trials in five go on; and the first rung is the one that makes the whole sweep cost a
given fraction of training every trial to its end. A trial waits at a rung until nobody who is still to come there can
take its place: so, unless trials diverge, the trials that go on are the same whatever the order in which trials were
started, the number of workers and their speed, and no slow learner is thrown out by whoever happened to be there first.
What is left of the budget at the end (what trials that diverged did not use) goes to the best of those that still wait.

Why that first rung: with a budget given, a later first rung is paid for with a harsher cut. Where the
ranking at epoch s predicts that at epoch t with correlation exp(-c (1/s - 1/t)), which fits recorded curves, the best
choice hardly depends on how slowly trials learn (c): docs/scheduling.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.scheduling.protocol import RungDecision
from orchestrator.scheduling.rungs import rungs
from orchestrator.state.ranking import Measured, is_finite, order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.scheduling.protocol import TrialViews

# How often the interval that holds the reduction factor is halved: to the last bit of a float.
BISECTIONS = 60
SPACING = 2
CUT = 2.5
"""Each rung is twice the one before it, and two in five go on: chosen on one recorded table, docs/scheduling.md."""


def cost(levels: tuple[int, ...], places: tuple[int, ...], num_trials: int, maximum: int) -> int:
    """The resource of a whole sweep in which ``places[k]`` trials go on behind ``levels[k]``.

    >>> cost((3, 9), (3, 1), 9, 27)
    63
    """
    steps = zip((0, *levels), (*levels, maximum), (num_trials, *places), strict=True)
    return sum((end - start) * trials for start, end, trials in steps)


def places(
    levels: tuple[int, ...], num_trials: int, maximum: int, budget: float
) -> tuple[tuple[int, ...], float] | None:
    """How many trials go on behind each rung, and the factor by which they become fewer; None where no factor will do.

    The factor is the smallest that the budget allows; what rounding leaves of the budget buys single places, at the
    first rungs first: a mistake there is the likeliest.

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
    """One place more at each rung where the budget and the places before it allow that."""
    found = list(bought)
    for rung in range(len(levels)):
        found[rung] += 1
        before = num_trials if rung == 0 else found[rung - 1]
        if found[rung] > before or cost(levels, tuple(found), num_trials, maximum) > budget:
            found[rung] -= 1
    return tuple(found)


@dataclass(frozen=True)
class RungSchedule:
    """The rungs of a sweep, how many of ``num_trials`` trials go on behind each, and the resource all that may cost."""

    rungs: tuple[int, ...]
    places: tuple[int, ...]
    num_trials: int
    maximum: int
    budget: float

    @classmethod
    def within(
        cls, fraction: float, *, num_trials: int, maximum: int, spacing: int = SPACING, cut: float = CUT
    ) -> RungSchedule:
        """Of all ladders that cost ``fraction`` of training every trial, that on which about one in ``cut`` goes on.

        Each rung is ``spacing`` times the one before it.

        At least one trial is trained to its end: where the fraction is too small for that (few trials), the budget is
        what the cheapest ladder costs.

        >>> RungSchedule.within(0.3, num_trials=64, maximum=27).rungs
        (4, 8, 16)
        >>> RungSchedule.within(0.3, num_trials=2, maximum=27)
        RungSchedule(rungs=(1, 2, 4, 8, 16), places=(1, 1, 1, 1, 1), num_trials=2, maximum=27, budget=28)
        """
        cheapest = rungs(1, spacing, maximum)
        least = cost(cheapest, (1,) * len(cheapest), num_trials, maximum)
        budget = max(fraction * num_trials * maximum, least)
        found = []
        for first in range(1, maximum + 1):
            levels = rungs(first, spacing, maximum)
            solved = places(levels, num_trials, maximum, budget)
            if solved is not None:
                ladder = cls(levels, solved[0], num_trials, maximum, budget)
                found.append((abs(math.log(solved[1] / cut)), first, ladder))
        return min(found, key=lambda each: each[:2])[2]

    def step(self, rung: int) -> int:
        """What going on from a rung to the next one, or to the end, costs."""
        return (*self.rungs, self.maximum)[self.rungs.index(rung) + 1] - rung


@dataclass(frozen=True)
class BudgetedAsha:
    """The rule. Exempt trials run to their end outside its places and its budget."""

    ladder: RungSchedule
    pauses: bool = True

    @property
    def rungs(self) -> tuple[int, ...]:
        """Those of the ladder."""
        return self.ladder.rungs

    def judge(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """At a rung: on at once if the trial's place is certain, else it waits."""
        if level not in self.ladder.rungs:
            return None
        unstarted = self.ladder.num_trials - sum(not each.exempt for each in views.views.values())
        field = self._fields(views, max(0, unstarted))[self.ladder.rungs.index(level)]
        kept = views.views[trial].exempt or trial in field.certain
        cutoff = views.views[field.last].values[level] if field.last is not None else None
        return RungDecision(level, kept, cutoff, len(field.ranked))

    def resume(self, views: TrialViews, *, unstarted: int) -> str | None:
        """The waiting trial of the highest rung whose place is certain by now; in the end, a second chance."""
        fields = self._fields(views, unstarted)
        for field in reversed(fields):
            if (found := next((trial for trial in field.certain if trial in field.waiting), None)) is not None:
                return found
        if unstarted or any(field.to_come for field in fields):
            return None
        return self._second_chance(views, fields)

    def _fields(self, views: TrialViews, unstarted: int) -> list[_Field]:
        """The state of each rung, lowest first: who may still come to one depends on the one below."""
        competitors = [each for each in views.views.values() if not each.exempt]
        fields: list[_Field] = []
        below, from_below = 0, unstarted
        for rung, places in zip(self.ladder.rungs, self.ladder.places, strict=True):
            values, waiting, running, gone_on = dict[str, Measured](), set[str](), 0, 0
            for each in competitors:
                if each.competes_at(rung) and is_finite(each.values[rung]) and not each.was_lost_at(rung):
                    values[each.trial] = each.values[rung]
                    gone_on += each.went_on(rung)
                    if each.state == "paused" and each.level == rung:
                        waiting.add(each.trial)
                elif each.is_running_between(below, rung):
                    running += 1
            to_come = running + from_below
            fields.append(_Field(rung, places, order(values), waiting, to_come, gone_on, is_linear=_is_linear(values)))
            below, from_below = rung, max(0, min(places - gone_on, len(waiting) + to_come))
        return fields

    def _second_chance(self, views: TrialViews, fields: list[_Field]) -> str | None:
        """The best of the highest rung that what is left of the budget takes a step further."""
        trials = [each for each in views.views.values() if not each.exempt]
        used = sum(each.level if each.blind_from is None else each.blind_from for each in trials)
        used += sum(
            self.ladder.maximum - each.level for each in trials if each.is_running_between(0, self.ladder.maximum)
        )
        nobody_ends = not any(each.state in {"running", "completed"} and each.blind_from is None for each in trials)
        for field in reversed(fields):
            affordable = self.ladder.step(field.rung) <= self.ladder.budget - used
            if field.waiting and (affordable or nobody_ends):
                return next(trial for trial in field.ranked if trial in field.waiting)
        return None


def _is_linear(values: Mapping[str, Measured]) -> bool:
    """Whether two trials keep their order whoever else comes: with one objective they do."""
    return len(next(iter(values.values()), (0.0,))) == 1


@dataclass(frozen=True, slots=True)
class _Field:
    """One rung: who came, best first, who of them waits, and how many may still come."""

    rung: int
    places: int
    ranked: list[str]
    waiting: set[str]
    to_come: int
    gone_on: int
    is_linear: bool

    @property
    def certain(self) -> list[str]:
        """Who goes on whatever those measure that are still to come, best first.

        Behind a rung whose places are taken, only a second chance leads. Among several objectives one newcomer may
        change the order of all others: nobody is certain before the last has come.
        """
        if self.gone_on >= self.places or (self.to_come and not self.is_linear):
            return []
        return self.ranked[: max(0, self.places - self.to_come)]

    @property
    def last(self) -> str | None:
        """The trial in the last place, once all places are taken."""
        return self.ranked[self.places - 1] if len(self.ranked) >= self.places else None
