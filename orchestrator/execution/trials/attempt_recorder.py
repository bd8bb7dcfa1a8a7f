"""Recorder of attempts: append an event for whatever happens to a trial in a worker."""

from __future__ import annotations

import functools
import json
import logging
import time
from typing import TYPE_CHECKING, Any, ParamSpec

from orchestrator.decisions.retries import pause_of
from orchestrator.decisions.trial_views import values_at
from orchestrator.execution.trials.worker_error import WorkerError
from orchestrator.orders.acts import ordered_end, settle
from orchestrator.state.events import AttemptFailed, AttemptStarted, CheckpointSaved, TrialEnded, reported
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.trials.trial_queue import TrialQueue
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import TrialStatus
    from orchestrator.state.sweep_state import Trial

P = ParamSpec("P")
logger = logging.getLogger(__name__)


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """Wrap a hook so that its errors are logged, with traceback, and cannot kill the sweep."""

    @functools.wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            logger.exception("%s failed; the sweep continues", hook.__qualname__)

    return guard


class AttemptRecorder:
    """Recorder of attempts, named by their trials.

    Retries are decided here: a trial that may be retried returns to the head of the queue. Only an error in what was
    measured (``reported``), on which decisions rest, ends a sweep; any other is logged.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        queue: TrialQueue,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._store, self._queue, self._clock = decisions, store, queue, clock
        self._moving: dict[str, str] = {}
        self._ended: dict[str, dict[str, Any]] = {}

    @property
    def _plan(self) -> SweepPlan:
        """Plan in force: an order may have extended it."""
        return self._decisions.plan

    @guarded
    def started(self, name: str, *, host: str | None, batched: int | None = None) -> None:
        """Log the start of an attempt: a worker runs the trial, with up to ``batched`` trials as one program."""
        attempt = self._store.state.trials[name].attempts + 1
        started = AttemptStarted(time=self._clock(), trial=name, attempt=attempt, host=host, batched=batched)
        self._store.append(started)

    def reported(self, name: str, result: dict[str, Any]) -> Trial:
        """Log one result, unless its epoch is logged already, and return the trial as the sweep state has it."""
        recorded = self._store.state.trials[name]
        if "ended" in result:
            self._ended[name] = json.loads(result["ended"])
        if "event" in result and result["epoch"] not in recorded.epochs:
            event, body = reported(
                result["event"],
                time=self._clock(),
                trial=name,
                attempt=recorded.attempts,
                since_restore=result["iterations_since_restore"],
                host=result.get("hostname"),
                pid=result.get("pid"),
            )
            self._store.append(event, body)
        return recorded

    def diverge(self, name: str, reason: str) -> None:
        """Mark a trial: it ends as diverged when it leaves its worker."""
        self._ended[name] = {"status": "diverged", "reason": reason, "traceback": None}

    def move(self, name: str, reason: str) -> None:
        """Mark a trial: it goes on elsewhere when it has left its worker."""
        self._moving[name] = reason

    def is_leaving(self, name: str) -> bool:
        """Return True if a trial is about to leave its worker before its end, and has to be saved first."""
        return self._store.state.trials[name].rejected_at is not None or name in self._moving

    @guarded
    def saved(self, name: str, *, epoch: int, path: str, size_bytes: int | None) -> None:
        """Log a completed checkpoint; ``path`` is its folder, below that of the sweep."""
        saved = CheckpointSaved(time=self._clock(), trial=name, epoch=epoch, path=path, size_bytes=size_bytes)
        self._store.append(saved)

    @guarded
    def left(self, name: str, config: Mapping[str, Any]) -> None:
        """Log the end of a trial that left its worker: finished, rejected, diverged, stopped by order, or to move.

        ``config`` is the configuration that the attempt was started with.
        """
        reason, recorded = self._moving.pop(name, None), self._store.state.trials[name]
        if reason is not None and name not in self._store.state.to_stop:
            self._retry(name, WorkerError("preemption", reason, None))
            return
        ended = self._ended.pop(name, None)
        if ended is None and self._was_extended(recorded, trained=int(config["epochs"])):
            self._continue(recorded)
        else:
            self._leave(name, self._end(name, ended))

    @guarded
    def failed(
        self, name: str, error: WorkerError, *, leaving: str | None = None, shared_by: int | None = None
    ) -> None:
        """Log an error of the trial, or a lost worker; retry from the last checkpoint as often as ``failures`` says.

        The loss of a node that was announced is no failure, however often it happens: ``leaving`` is the reason. Nor
        is one that so many trials share, which go on with fewer of them together.
        """
        reason = self._moving.pop(name, None) or leaving
        if reason is not None and error.cause == "infrastructure":
            error = error._replace(cause="preemption", reason=f"{reason}: {error.reason}")
        recorded = self._store.state.trials[name]
        if recorded.rejected_at is not None or name in self._store.state.to_stop:
            # lost on its way out: the decision of the rung, or the order, is kept
            self._leave(name, self._end(name, None))
            return
        limits, failed = self._plan.spec.failures, recorded.failures_of(error.cause)
        limit = limits.user if error.cause == "user" else limits.infrastructure
        if failed < limit or error.cause == "preemption" or shared_by is not None:
            self._retry(name, error, shared_by=shared_by)
            self._say_pause(recorded)
            return
        if error.cause != "user":
            reason = f"lost its worker {failed + 1} times (failures.infrastructure: {limit}), last: {error.reason}"
            error = error._replace(reason=reason)
        self._leave(name, TrialEnded(time=self._clock(), trial=name, status="failed", **error._asdict()))

    def _was_extended(self, trial: Trial, *, trained: int) -> bool:
        """Return True if a trial has trained the epochs that it was started with, and an order gave it more since."""
        stops = trial.rejected_at is not None or trial.id in self._store.state.to_stop
        return not stops and trained <= trial.epoch < trial.budget

    def _continue(self, trial: Trial) -> None:
        """Decide at the rung that an extended trial has just reached; if it is kept, the next free worker has it."""
        continues = False
        try:
            continues = settle(self._store, self._decisions, trial, clock=self._clock)
            if continues:
                reason = f"continues to {trial.budget} epochs by order"
                end = TrialEnded(time=self._clock(), trial=trial.id, status="interrupted", reason=reason)
                self._store.append(end)
        finally:
            self._queue.over(trial.id, retry=continues)

    def _end(self, name: str, ended: dict[str, Any] | None) -> TrialEnded:
        now, trial = self._clock(), self._store.state.trials[name]
        if name in self._store.state.to_stop:
            return ordered_end(name, self._store.state.to_stop[name], now=now)
        if ended is not None:
            return TrialEnded(time=now, trial=name, **ended)
        if trial.rejected_at is not None:
            status: TrialStatus = "paused" if self._plan.pauses else "stopped"
            return TrialEnded(time=now, trial=name, status=status, rung=trial.rejected_at)
        if trial.epoch >= trial.budget:
            if not is_finite(values_at(trial, trial.epoch, self._plan.spec)):
                reason = f"{', '.join(self._plan.spec.objective.metrics)} not finite after epoch {trial.epoch}"
                return TrialEnded(time=now, trial=name, status="diverged", reason=reason)
            return TrialEnded(time=now, trial=name, status="completed")
        reason = f"left its worker after epoch {trial.epoch} of {trial.budget}"
        return TrialEnded(time=now, trial=name, status="interrupted", reason=reason)

    def _leave(self, name: str, end: TrialEnded) -> None:
        try:
            self._store.append(end)
        finally:
            self._queue.over(name)

    def _retry(self, name: str, error: WorkerError, *, shared_by: int | None = None) -> None:
        try:
            self.fail_attempt(name, error, shared_by=shared_by)
        finally:
            self._queue.over(name, retry=True)

    @staticmethod
    def _say_pause(trial: Trial) -> None:
        if pause := pause_of(trial):
            logger.warning("%s: %s; next attempt after %.0f s", trial.id, trial.failures[-1].reason, pause)

    def fail_attempt(self, name: str, error: WorkerError, *, shared_by: int | None = None) -> None:
        """Log the error of an attempt whose trial is restarted."""
        attempt, now = self._store.state.trials[name].attempts, self._clock()
        self._store.append(AttemptFailed(time=now, trial=name, attempt=attempt, shared_by=shared_by, **error._asdict()))
