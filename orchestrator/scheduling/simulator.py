"""Simulator: a sweep on recorded curves in virtual time, under any scheduler and any number of workers."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.state.ranking import Measured


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """One trial as it would run to its end: the value and the seconds of each level.

    ``maximum`` is the level of a full run, where the record is shorter; by default the record's own end. ``end`` says
    how a shorter record ended; at the levels in ``unmeasured`` the value is unknown. ``cost`` is that of the
    trial's view: the passes of an epoch.
    """

    values: Sequence[Measured]
    seconds: Sequence[float]
    maximum: int | None = None
    bracket: int = 0
    stratum: Hashable = ()
    exempt: bool = False
    unmeasured: frozenset[int] = frozenset()
    end: Literal["unknown", "diverged"] = "unknown"
    cost: int = 1


@dataclass(slots=True)
class Outcome:
    """A simulated sweep: the final views, the time of its end, and the time at which each trial was complete."""

    views: TrialViews = field(default_factory=TrialViews)
    spent: int = 0
    ended_at: float = 0.0
    completed_at: dict[str, float] = field(default_factory=dict)
    decisions: list[tuple[float, str, str, int]] = field(default_factory=list)
    """(virtual time, trial, action, level), in order: started, resumed, kept, paused, stopped, diverged, completed, or
    unknown where the record of a trial ends before the trial would have."""


def simulate(
    curves: Mapping[str, LearningCurve], scheduler: Scheduler, *, workers: int, leaps: bool = False
) -> Outcome:
    """Run ``curves`` in their order on so many workers, each free one as the scheduler says.

    With ``leaps`` a trial moves from rung to rung at once, and the views have its values at rungs alone: much faster,
    and the same but for the order of events at one instant.

    >>> from orchestrator.scheduling.asha import NoStopping
    >>> simulate({"a": LearningCurve([(0.5,), (0.6,)], [1.0, 1.0])}, NoStopping(), workers=1).completed_at
    {'a': 2.0}
    """
    return _Simulation(curves, scheduler, workers, leaps=leaps).run()


class _Simulation:
    def __init__(self, curves: Mapping[str, LearningCurve], scheduler: Scheduler, workers: int, *, leaps: bool) -> None:
        self._curves, self._scheduler, self._idle = curves, scheduler, workers
        self._rungs, self._leaps = scheduler.rungs, leaps and scheduler.rungs is not None
        self._unstarted = deque(curves)
        self._running: list[tuple[float, int, str]] = []
        self._count = 0
        self._out = Outcome()
        self._views = self._out.views

    def run(self) -> Outcome:
        self._fill(0.0)
        while self._running:
            now, _, trial = heapq.heappop(self._running)
            self._out.ended_at = now
            if self._report(self._views[trial], now):
                self._push(trial, now)
            else:
                self._idle += 1
            self._fill(now)
        return self._out

    def _fill(self, now: float) -> None:
        while self._idle and (trial := self._next(now)) is not None:
            self._idle -= 1
            self._push(trial, now)

    def _next(self, now: float) -> str | None:
        unstarted = len(self._unstarted)
        trial = self._scheduler.promote(self._views, unstarted=unstarted) if self._scheduler.pauses else None
        if trial is not None:
            view = self._views[trial]
            view = replace(view, state="running", promoted=view.promoted | {view.level})
            self._views.put(view)
            self._note(now, view, "resumed")
            return trial if self._is_recorded(view, now) else self._next(now)
        if not self._unstarted:
            return None
        trial = self._unstarted.popleft()
        curve = self._curves[trial]
        maximum = len(curve.values) if curve.maximum is None else curve.maximum
        view = TrialView(trial, maximum, curve.bracket, curve.stratum, curve.exempt, cost=curve.cost)
        self._views.put(view)
        self._note(now, view, "started")
        return trial

    def _push(self, trial: str, now: float) -> None:
        view, curve = self._views[trial], self._curves[trial]
        ends = self._next_level(view, curve)
        self._count += 1
        heapq.heappush(self._running, (now + sum(curve.seconds[view.level : ends]), self._count, trial))

    def _next_level(self, view: TrialView, curve: LearningCurve) -> int:
        """Return the level after this one; when leaping, the next at which something may be decided."""
        if not self._leaps:
            return view.level + 1
        return next((rung for rung in self._rungs or () if view.level < rung < len(curve.values)), len(curve.values))

    def _report(self, view: TrialView, now: float) -> bool:
        """Take in one level; return True if the trial continues at once."""
        curve = self._curves[view.trial]
        level = self._next_level(view, curve)
        self._out.spent += level - view.level
        if level in curve.unmeasured:
            return self._without_value(replace(view, level=level), now)
        value = curve.values[level - 1]
        view = replace(view, level=level, values={**view.values, level: value})
        if not is_finite(value):
            return self._end(view, now, "diverged")
        if level == view.maximum:
            self._out.completed_at[view.trial] = now
            return self._end(view, now, "completed")
        self._views.put(view)
        return self._continues(view, now)

    def _continues(self, view: TrialView, now: float) -> bool:
        """Have the scheduler decide; return True if the trial continues at once."""
        decision, pauses = self._scheduler.decide(self._views, view.trial, view.level), self._scheduler.pauses
        if decision is None:
            return self._is_recorded(view, now)
        view = replace(view, decisions={**view.decisions, decision.rung: decision})
        self._note(now, view, "kept" if decision.kept else "paused" if pauses else "stopped")
        if decision.kept:
            self._views.put(view)
            return self._is_recorded(view, now)
        self._views.put(replace(view, state="paused" if pauses else "over"))
        return False

    def _without_value(self, view: TrialView, now: float) -> bool:
        """Continue where nothing is decided; at a rung, and at the end, the decision is unknown."""
        if self._rungs is not None and view.level not in self._rungs and view.level < view.maximum:
            self._views.put(view)
            return self._is_recorded(view, now)
        return self._end(view, now, "unknown")

    def _is_recorded(self, view: TrialView, now: float) -> bool:
        """Return True if the record continues; else the next value of the trial is unknown."""
        curve = self._curves[view.trial]
        return view.level < len(curve.values) or self._end(view, now, curve.end)

    def _end(self, view: TrialView, now: float, action: str) -> bool:
        self._views.put(replace(view, state="completed" if action == "completed" else "over"))
        self._note(now, view, action)
        return False

    def _note(self, now: float, view: TrialView, action: str) -> None:
        self._out.decisions.append((now, view.trial, action, view.level))
