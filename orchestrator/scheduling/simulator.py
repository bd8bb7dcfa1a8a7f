"""A sweep on recorded curves, in virtual time: any rule, any number of workers, thousands of times faster than life."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from orchestrator.scheduling.protocol import TrialView, TrialViews
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.state.ranking import Measured


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """One trial as it would run to its end: what each level measures, and how long each takes.

    ``maximum`` is the level of a full run, where the record is shorter; by default the record's own end. ``end`` says
    how a shorter record ended, and ``unmeasured`` at which levels nobody knows the value.
    """

    values: Sequence[Measured]
    seconds: Sequence[float]
    maximum: int | None = None
    bracket: int = 0
    stratum: Hashable = ()
    exempt: bool = False
    unmeasured: frozenset[int] = frozenset()
    end: Literal["unknown", "diverged"] = "unknown"


@dataclass(slots=True)
class Outcome:
    """A simulated sweep: the final views, when it ended, and when each trial reached its full budget."""

    views: TrialViews = field(default_factory=TrialViews)
    spent: int = 0
    ended_at: float = 0.0
    completed_at: dict[str, float] = field(default_factory=dict)
    decisions: list[tuple[float, str, str, int]] = field(default_factory=list)
    """(virtual time, trial, what happened, level), in order: started, resumed, kept, paused, stopped, diverged,
    completed, or unknown where the record of a trial ends before the trial would have."""


def simulate(curves: Mapping[str, LearningCurve], rule: Scheduler, *, workers: int, leaps: bool = False) -> Outcome:
    """Run ``curves`` in their order on so many workers, each free one as ``rule`` says.

    With ``leaps`` a trial goes from rung to rung at once, and the views has its values there alone: much faster, and
    the same but for the order of what happens at one instant.

    >>> from orchestrator.scheduling.asha import NoStopping
    >>> simulate({"a": LearningCurve([(0.5,), (0.6,)], [1.0, 1.0])}, NoStopping(), workers=1).completed_at
    {'a': 2.0}
    """
    return _Simulation(curves, rule, workers, leaps=leaps).run()


class _Simulation:
    def __init__(self, curves: Mapping[str, LearningCurve], rule: Scheduler, workers: int, *, leaps: bool) -> None:
        self._curves, self._rule, self._idle, self._leaps = curves, rule, workers, leaps
        self._waiting = deque(curves)
        self._running: list[tuple[float, int, str]] = []
        self._count = 0
        self._out = Outcome()

    def run(self) -> Outcome:
        self._fill(0.0)
        while self._running:
            now, _, trial = heapq.heappop(self._running)
            self._out.ended_at = now
            if self._report(trial, now):
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
        views = self._out.views
        trial = self._rule.resume(views, unstarted=len(self._waiting)) if self._rule.pauses else None
        if trial is not None:
            view = views.views[trial]
            view.state, view.promoted = "running", view.promoted | {view.level}
            self._note(now, trial, "resumed")
            return trial if self._is_recorded(view, now) else self._next(now)
        if not self._waiting:
            return None
        trial = self._waiting.popleft()
        curve = self._curves[trial]
        maximum = len(curve.values) if curve.maximum is None else curve.maximum
        views.views[trial] = TrialView(trial, maximum, curve.bracket, curve.stratum, curve.exempt)
        self._note(now, trial, "started")
        return trial

    def _push(self, trial: str, now: float) -> None:
        view, curve = self._out.views.views[trial], self._curves[trial]
        ends = self._next_level(view, curve)
        self._count += 1
        heapq.heappush(self._running, (now + sum(curve.seconds[view.level : ends]), self._count, trial))

    def _next_level(self, view: TrialView, curve: LearningCurve) -> int:
        """The level after this one; when leaping, the next at which something may be decided."""
        if self._rule.rungs is None or not self._leaps:
            return view.level + 1
        return next((rung for rung in self._rule.rungs if view.level < rung < len(curve.values)), len(curve.values))

    def _report(self, trial: str, now: float) -> bool:
        """Take in one level; whether the trial goes on at once."""
        views = self._out.views
        view = views.views[trial]
        ends = self._next_level(view, self._curves[trial])
        self._out.spent += ends - view.level
        view.level = ends
        value = self._curves[trial].values[view.level - 1]
        view.values[view.level] = value
        if view.level in self._curves[trial].unmeasured:
            return self._without_value(view, now)
        if not is_finite(value):
            view.state = "over"
            self._note(now, trial, "diverged")
            return False
        if view.level == view.maximum:
            view.state = "completed"
            self._out.completed_at[trial] = now
            self._note(now, trial, "completed")
            return False
        decision = self._rule.judge(views, trial, view.level)
        if decision is not None:
            view.decisions[decision.rung] = decision
            self._note(now, trial, "kept" if decision.kept else "paused" if self._rule.pauses else "stopped")
        if decision is None or decision.kept:
            return self._is_recorded(view, now)
        view.state = "paused" if self._rule.pauses else "over"
        return False

    def _without_value(self, view: TrialView, now: float) -> bool:
        """On where nothing is decided; at a rung, or at the end, nobody knows."""
        del view.values[view.level]
        rungs = self._rule.rungs
        if rungs is not None and view.level not in rungs and view.level < view.maximum:
            return self._is_recorded(view, now)
        view.state = "over"
        self._note(now, view.trial, "unknown")
        return False

    def _is_recorded(self, view: TrialView, now: float) -> bool:
        """Whether the record goes on; else nobody knows what the trial would have measured next."""
        if view.level < len(self._curves[view.trial].values):
            return True
        view.state = "over"
        self._note(now, view.trial, self._curves[view.trial].end)
        return False

    def _note(self, now: float, trial: str, what: str) -> None:
        self._out.decisions.append((now, trial, what, self._out.views.views[trial].level))
