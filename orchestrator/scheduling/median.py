"""The median stopping rule (Golovin et al. 2017, section 3.2.1, of Google Vizier)."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.scheduling.rung_decision import RungDecision

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from orchestrator.scheduling.trial_views import TrialView, TrialViews


@dataclass(frozen=True)
class Median:
    """Scheduler that stops a trial whose best value is worse than the median of the others' averages so far.

    It decides after every level from ``grace_period`` on, once ``min_competitors`` other trials have come as far. One
    objective.
    """

    grace_period: int
    min_competitors: int = 3
    pauses: bool = False
    rungs: tuple[int, ...] | None = None

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Keep a trial whose best value is at least the median."""
        if level < self.grace_period:
            return None
        view = views[trial]
        others = views.index(AverageIndex).others(view, level)
        if len(others) < self.min_competitors:
            return None
        cutoff = others.median()
        best = max(value[0] for at, value in view.values.items() if at <= level)
        shown = (cutoff,) if math.isfinite(cutoff) else None
        return RungDecision(level, best >= cutoff or view.exempt, shown, len(others) + 1)

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:  # noqa: ARG002  the protocol's
        """Promote none: no trial is ever paused."""
        return None


@dataclass(frozen=True, slots=True)
class Others:
    """Averages in order, but the one at ``without``; None leaves out none."""

    averages: Sequence[float]
    without: int | None

    def __len__(self) -> int:
        """Return the number of averages."""
        return len(self.averages) - (self.without is not None)

    def median(self) -> float:
        """Return their median, as ``statistics.median`` does.

        >>> Others([1.0, 2.0, 4.0, 9.0], without=1).median()
        4.0
        """
        half = len(self) // 2
        return self._at(half) if len(self) % 2 else (self._at(half - 1) + self._at(half)) / 2

    def _at(self, place: int) -> float:
        return self.averages[place + (self.without is not None and place >= self.without)]


class AverageIndex:
    """Average of what each trial measured up to each level, in order for each group and level."""

    def __init__(self) -> None:
        self._ordered: defaultdict[tuple[Hashable, int], list[float]] = defaultdict(list)
        self._averages: defaultdict[str, dict[int, float]] = defaultdict(dict)

    def others(self, view: TrialView, level: int) -> Others:
        """Return the averages of a trial's group at a level, without its own."""
        ordered, own = self._ordered[view.group, level], self._averages[view.trial].get(level)
        return Others(ordered, None if own is None else bisect_left(ordered, own))

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:  # noqa: ARG002  the protocol's
        """Replace what a view contributed: the averages from the first level on that changed."""
        first, averages = _first_change(old, new), self._averages[new.trial]
        if old is not None:
            for level in [level for level in averages if level >= first]:
                ordered = self._ordered[old.group, level]
                del ordered[bisect_left(ordered, averages.pop(level))]
        for level in new.values:
            if level >= first and new.competes_at(level):
                averages[level] = _average(new, level)
                insort(self._ordered[new.group, level], averages[level])


def _first_change(old: TrialView | None, new: TrialView) -> float:
    """Return the lowest level from which on two views of a trial contribute other averages."""
    if old is None or (old.group, old.blind_from) != (new.group, new.blind_from):
        return 0
    return min(_changed(old, new), default=math.inf)


def _changed(old: TrialView, new: TrialView) -> Iterator[int]:
    return (at for at in old.values.keys() | new.values.keys() if old.values.get(at) != new.values.get(at))


def _average(view: TrialView, level: int) -> float:
    values = [value[0] for at, value in view.values.items() if at <= level]
    return fmean(values) if all(map(math.isfinite, values)) else -math.inf
