"""The median stopping rule (Golovin et al. 2017, section 3.2.1, of Google Vizier)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from orchestrator.scheduling.protocol import RungDecision

if TYPE_CHECKING:
    from orchestrator.scheduling.protocol import TrialView, TrialViews


@dataclass(frozen=True)
class Median:
    """A trial is stopped when the best it has measured is worse than the median of the others' averages so far.

    It is looked at after every level from ``grace_period`` on, once ``min_competitors`` others have come as far. One
    objective.
    """

    grace_period: int
    min_competitors: int = 3
    pauses: bool = False
    rungs: tuple[int, ...] | None = None

    def judge(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """StopSignals, or go on."""
        if level < self.grace_period:
            return None
        view = views.views[trial]
        others = [
            _average(each, level)
            for each in views.views.values()
            if each.trial != trial and each.group == view.group and each.competes_at(level)
        ]
        if len(others) < self.min_competitors:
            return None
        cutoff = median(others)
        best = max(value[0] for at, value in view.values.items() if at <= level)
        told = (cutoff,) if math.isfinite(cutoff) else None
        return RungDecision(level, best >= cutoff or view.exempt, told, len(others) + 1)

    def resume(self, views: TrialViews, *, unstarted: int) -> str | None:  # noqa: ARG002  the protocol's
        """Nobody waits."""
        return None


def _average(view: TrialView, level: int) -> float:
    values = [value[0] for at, value in view.values.items() if at <= level]
    return fmean(values) if all(map(math.isfinite, values)) else -math.inf
