"""Successive halving by percentile, as a scheduler of one's own: keep a trial above a percentile of those before it.

At each rung a trial is compared with the values that all trials have measured there so far. It continues if its own is
at least their `percentile`; with `pauses` a trial below it waits, and resumes once later trials have moved the
percentile under its value. Rungs are `factor` times apart.

    scheduler: {name: "percentile_halving:PercentileHalving", args: {percentile: 60, factor: 3}}

Of `max_epochs`, `num_trials` and `pauses`, a scheduler gets those that it takes; `pauses` is what `scheduler.kind`
says. It is frozen, and every answer is a function of the views alone: so a resumed sweep, a replay and a forecast
decide as the live sweep did.
"""

import math
from dataclasses import dataclass

from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.trial_views import TrialView, TrialViews


@dataclass(frozen=True)
class PercentileHalving:
    """Scheduler that keeps a trial whose value is at least a percentile of those at its rung; one objective."""

    max_epochs: int
    pauses: bool = False
    percentile: float = 50.0
    factor: int = 3
    at_least: int = 3
    """Trials at a rung before any is rejected."""

    def __post_init__(self) -> None:
        """Refuse settings that compare nothing."""
        if not (0 < self.percentile < 100 and self.factor >= 2 and self.at_least >= 1):
            raise ValueError("must be 0 < percentile < 100, factor >= 2 and at_least >= 1")

    @property
    def rungs(self) -> tuple[int, ...]:
        """Levels at which trials are compared.

        >>> PercentileHalving(max_epochs=27).rungs
        (1, 3, 9)
        """
        levels = [1]
        while levels[-1] * self.factor < self.max_epochs:
            levels.append(levels[-1] * self.factor)
        return tuple(level for level in levels if level < self.max_epochs)

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision:
        """Keep a trial that is at least at the percentile of all that measured this level."""
        cutoff, competitors = self._cutoff(views, level)
        kept = cutoff is None or views[trial].values[level][0] >= cutoff
        return RungDecision(level, kept, None if cutoff is None else (cutoff,), competitors)

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:  # noqa: ARG002  the protocol's
        """Promote the best paused trial that is at the percentile by now, from the highest rung that has one."""
        paused = [view for view in views.values() if view.state == "paused"]
        ready = [view for view in paused if self._is_ready(views, view)]
        if not ready:
            return None
        return max(ready, key=lambda view: (view.level, view.values[view.level][0])).trial

    def _is_ready(self, views: TrialViews, view: TrialView) -> bool:
        cutoff, _ = self._cutoff(views, view.level)
        return cutoff is not None and view.values[view.level][0] >= cutoff

    def _cutoff(self, views: TrialViews, level: int) -> tuple[float | None, int]:
        """Return the value at the percentile of a level, and the number of trials that it is of."""
        values = sorted(view.values[level][0] for view in views.values() if view.competes_at(level))
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < self.at_least:
            return None, max(1, len(values))
        return finite[min(len(finite) - 1, math.ceil(len(finite) * self.percentile / 100) - 1)], len(values)
