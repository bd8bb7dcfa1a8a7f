"""Adapter of Tune's scheduler: record the result of a trial, then decide from the state alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.execution.trials.rung_check import continues_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import Trial


class Recorder(Protocol):
    """Trial recorder: append the results of trials to the event log, and their ends."""

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Trial:
        """Append one result, once, and return the trial as the state has it."""

    def diverge(self, trial: str, reason: str) -> None:
        """Have the trial end as diverged when it leaves its worker."""

    def moves(self, trial: TuneTrial, result: dict[str, Any]) -> bool:
        """Return True if the trial has to leave its worker, and have it go on elsewhere when it has."""


class LogScheduler(FIFOScheduler):
    """Scheduler for Tune: start trials in order, and stop those that a rung rejects; the plan says if they are paused.

    One decision for each (trial, rung), taken from the value measured at exactly that rung. Tune asks its scheduler
    before it notifies its callbacks, and no decision may rest on something the log does not hold, so the ``recorder``
    appends the result first.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        recorder: Recorder,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._decisions, self._store, self._recorder, self._clock = decisions, store, recorder, clock
        self.controller: Any = None
        """Tune's controller, once it has added a trial."""

    def on_trial_add(self, tune_controller: object, trial: TuneTrial) -> None:
        """Keep the controller, by which orders reach trials."""
        self.controller = tune_controller
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: object, trial: TuneTrial, result: dict[str, Any]) -> str:  # noqa: ARG002  Tune's signature
        """Return CONTINUE, or STOP if a rung rejects the trial, its node is drained or its worker ends.

        Raises:
            OrchestratorError: the epoch did not measure what the decision rests on.
        """
        continues = continues_after(
            self._recorder.record(trial, result),
            int(result["epoch"]),
            decisions=self._decisions,
            store=self._store,
            diverge=self._recorder.diverge,
            clock=self._clock,
        )
        continues = continues and not self._recorder.moves(trial, result)
        return str(TrialScheduler.CONTINUE if continues else TrialScheduler.STOP)
