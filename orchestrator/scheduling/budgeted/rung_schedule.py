"""Rung schedule of a budget: the rungs, the trials that advance from each, and what the whole sweep may cost.

Each rung is some factor later than the one before it, the same share of trials is kept at each, and the first rung is
the one that makes the whole sweep cost a given fraction of training every trial to its end.

Reason for that first rung: with a budget given, a later first rung is paid for with a harsher cut. Where the
ranking at epoch s predicts that at epoch t with correlation exp(-c (1/s - 1/t)), which fits recorded curves, the best
choice hardly depends on how slowly trials learn (c): docs/decisions/012-rungs-from-the-budget.md.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.scheduling.rungs import spaced, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The interval that holds the reduction factor is halved so many times: to the last bit of a float.
BISECTIONS = 60


@dataclass(frozen=True)
class Design:
    """Numbers by which a schedule follows from a budget, chosen on recorded curves and never changed afterwards.

    Each rung is ``spacing`` times the one before it, one in ``cut`` is kept, no rung is later than the share
    ``highest`` of the epochs, and the share ``extrapolated`` of the places at a rung is for the best extrapolations.
    """

    spacing: float
    cut: float
    highest: float
    extrapolated: float


DESIGNS: Mapping[int, Design] = MappingProxyType(
    {1: Design(2, 2.5, 1.0, 0.0), 2: Design(1.5, 1.6, 0.9, 0.25), 3: Design(1.5, 1.6, 0.9, 0.25)}
)
"""Designs by number: a sweep continues by the one that it began with. docs/decisions/012, 123 and 146 have the reasons.

Design 3 is design 2 with a budget of gradient evaluations that is fixed beforehand, in the place of one that follows
the mean cost of the points that the sweep proposes."""
NEWEST = max(DESIGNS)
FIXED = 3
"""First design whose budget of gradient evaluations is fixed."""


def cost(levels: tuple[int, ...], places: tuple[int, ...], num_trials: int, maximum: int) -> int:
    """Return the resource of a whole sweep in which ``places[k]`` trials advance from ``levels[k]``.

    >>> cost((3, 9), (3, 1), 9, 27)
    63
    """
    steps = zip((0, *levels), (*levels, maximum), (num_trials, *places), strict=True)
    return sum((end - start) * trials for start, end, trials in steps)


def places(
    levels: tuple[int, ...], num_trials: int, maximum: int, budget: float, *, least: int = 1
) -> tuple[tuple[int, ...], float] | None:
    """Return the number of trials that advance from each rung, and the factor between them; None where none will do.

    The factor is the smallest that the budget allows; the budget that rounding leaves buys single places, at the
    first rungs first: a mistake at these is the likeliest. At least ``least`` trials advance from each rung.

    >>> places((2, 4, 8, 16), 64, 27, 346)[0]
    (32, 16, 7, 3)
    """
    fewest = min(least, num_trials)

    def of(factor: float) -> tuple[int, ...]:
        return tuple(max(fewest, int(num_trials / factor**rung)) for rung in range(1, len(levels) + 1))

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

    With several ``seeds``, trials are configurations, and all of their seeds are counted in the resource. Where
    ``resource`` is ``gradient_evaluations``, all numbers are of trials of mean cost, none of which has more than
    ``most_passes`` in an epoch. Since design 3 the budget is of trials of ``mean_passes``, the mean of random points,
    and the places share what is left of it; before, a place was worth the mean passes of the sweep's own trials.
    """

    rungs: tuple[int, ...]
    places: tuple[int, ...]
    num_trials: int
    maximum: int
    budget: float
    seeds: int = 1
    design: int = 1
    resource: Literal["epochs", "gradient_evaluations"] = "epochs"
    most_passes: int = 1
    mean_passes: float | None = None

    @classmethod
    def within(
        cls,
        fraction: float,
        *,
        num_trials: int,
        maximum: int,
        design: int = NEWEST,
        factor: int | None = None,
        seeds: int = 1,
        least: int = 1,
    ) -> RungSchedule:
        """Return, of all schedules that cost ``fraction`` of training every trial, that which cuts as its design says.

        ``factor`` replaces both the design's spacing and its cut. ``least`` trials end, as far as the budget allows.

        At least one trial is trained to its end: where the fraction is too small for that (few trials), the budget is
        the cost of the cheapest schedule.

        >>> RungSchedule.within(0.3, num_trials=64, maximum=27).rungs
        (3, 4, 7, 10, 15, 23)
        >>> RungSchedule.within(0.3, num_trials=64, maximum=27, design=1).rungs
        (4, 8, 16)
        >>> few = RungSchedule.within(0.3, num_trials=2, maximum=27)
        >>> few.rungs, few.places, few.budget
        ((1, 2, 3, 5, 8, 11, 17), (1, 1, 1, 1, 1, 1, 1), 28)
        """
        cut = DESIGNS[design].cut if factor is None else float(factor)
        cheapest, full = weights(_levels(design, factor, 1, maximum), seeds), maximum * seeds
        budget = max(fraction * num_trials * full, cost(cheapest, (1,) * len(cheapest), num_trials, full))
        for fewest in range(least, 0, -1):
            scored = [
                (abs(math.log(solved[1] / cut)), levels, solved[0])
                for levels in _sequences(design, factor, maximum)
                if (solved := places(weights(levels, seeds), num_trials, full, budget, least=fewest)) is not None
            ]
            if scored:
                _, levels, counts = min(scored, key=lambda one: one[0])
                return cls(levels, counts, num_trials, maximum, budget, seeds, design)
        raise AssertionError("the cheapest schedule is within the budget")

    def extended(
        self, fraction: float, *, num_trials: int, maximum: int, factor: int | None = None, least: int = 1
    ) -> RungSchedule:
        """Return the schedule for other numbers whose rungs begin with these, so that earlier values still count.

        The sequence of the rungs continues up to the maximum. Places and budget are those of the new numbers; a budget
        that the first rung exceeds leaves one place at each.

        >>> first = RungSchedule.within(0.3, num_trials=64, maximum=27, design=1)
        >>> first.extended(0.3, num_trials=96, maximum=81).places
        (67, 44, 29, 20, 13)
        """
        levels = _levels(self.design, factor, self.rungs[0], maximum) if self.rungs else ()
        costs, full = weights(levels, self.seeds), maximum * self.seeds
        budget = max(fraction * num_trials * full, cost(costs, (1,) * len(levels), num_trials, full))
        tried = (places(costs, num_trials, full, budget, least=fewest) for fewest in range(least, 0, -1))
        solved = next(counts for counts in tried if counts is not None)
        return replace(self, rungs=levels, places=solved[0], num_trials=num_trials, maximum=maximum, budget=budget)

    @property
    def is_priced(self) -> bool:
        """Return True if a place costs more for a trial whose epochs have more gradient evaluations."""
        return self.resource == "gradient_evaluations"

    @property
    def passes(self) -> int | None:
        """Gradient evaluations of each image that all trials may use, or None where the number is not fixed.

        >>> RungSchedule((3, 9), (4, 1), 9, 27, 60.0, 1, 3, "gradient_evaluations", 8, 2.5).passes
        150
        """
        return None if self.mean_passes is None else int(self.budget * self.mean_passes)

    @property
    def extrapolated(self) -> tuple[int, ...]:
        """Places of each rung that are taken by extrapolation; the first rung has no earlier value and none.

        >>> RungSchedule.within(0.3, num_trials=64, maximum=27).extrapolated
        (0, 7, 4, 3, 2, 1)
        """
        share = DESIGNS[self.design].extrapolated
        before = zip(self.places, self.places[1:], strict=False)
        return (0, *(int(share * after) if after < count else 0 for count, after in before))[: len(self.places)]

    def base_of(self, index: int) -> int:
        """Return the earlier rung nearest to half the epochs of a rung: extrapolation begins there.

        >>> RungSchedule.within(0.3, num_trials=64, maximum=27).base_of(3)
        4
        """
        return min(self.rungs[:index], key=lambda rung: abs(2 * rung - self.rungs[index]))

    def step(self, rung: int) -> int:
        """Return the cost of training from a rung to the next one, or to the end."""
        after = (*self.rungs, self.maximum)[self.rungs.index(rung) + 1]
        return self.weight(after) - self.weight(rung)

    def to_end(self, rung: int) -> int | None:
        """Return the cost of training from a rung to the end, where a fixed budget must pay for that; else None."""
        return None if self.mean_passes is None else self.weight(self.maximum) - self.weight(rung)

    def weight(self, level: int) -> int:
        """Return the resource that a trial has used at a level: with several seeds, that of all which a rung needs."""
        if self.seeds == 1:
            return level
        return dict(zip(self.rungs, weights(self.rungs, self.seeds), strict=True)).get(level, level * self.seeds)


def unusual(schedule: RungSchedule) -> dict[str, Any]:
    """Return the fields of a schedule that the first version did not have, where they are not as if they were absent.

    >>> unusual(RungSchedule((3, 9), (4, 1), 9, 27, 60.0, design=2))
    {'design': 2}
    """
    later = (item for item in fields(schedule) if item.default is not MISSING)
    return {item.name: value for item in later if (value := getattr(schedule, item.name)) != item.default}


def _sequences(design: int, factor: int | None, maximum: int) -> Iterator[tuple[int, ...]]:
    """Yield the rungs that follow from each first one, and none at all."""
    seen = set[tuple[int, ...]]()
    for first in range(1, maximum + 1):
        levels = _levels(design, factor, first, maximum)
        if levels not in seen:
            seen.add(levels)
            yield levels


def _levels(design: int, factor: int | None, first: int, maximum: int) -> tuple[int, ...]:
    chosen = DESIGNS[design]
    return spaced(first, chosen.spacing if factor is None else factor, maximum, highest=chosen.highest)
