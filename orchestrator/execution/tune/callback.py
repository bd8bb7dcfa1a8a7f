"""Tune callback: record in the event log what Tune's trials do."""

from __future__ import annotations

import functools
import json
import logging
import time
from typing import TYPE_CHECKING, Any, ParamSpec

from ray.tune import Callback
from ray.tune.result import SHOULD_CHECKPOINT

from orchestrator.decisions.retries import pause_s
from orchestrator.decisions.trial_views import values_at
from orchestrator.execution.trainable import LEAVING, SIZE
from orchestrator.execution.tune.placement import trial_name
from orchestrator.execution.tune.worker_errors import WorkerError, worker_error
from orchestrator.orders.acts import ordered_end, settle
from orchestrator.state.events import AttemptFailed, AttemptStarted, CheckpointSaved, TrialEnded, reported
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.tune.searcher import LogSearcher
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import TrialStatus
    from orchestrator.state.sweep_state import Trial

P = ParamSpec("P")
logger = logging.getLogger(__name__)


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """Wrap a hook of a Tune callback so that its errors are logged, with traceback, and cannot kill the sweep."""

    @functools.wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            logger.exception("%s failed; the sweep continues", hook.__qualname__)

    return guard


class TrialRecorder(Callback):
    """Trial recorder: append an event for whatever happens to a trial of Tune.

    Retries are decided here: a trial that may be retried returns to the head of the searcher's queue.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        searcher: LogSearcher,
        *,
        storage_path: str,
        host_of: Callable[[TuneTrial], str | None] = lambda _: None,
        leaving: Callable[[TuneTrial], str | None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._store, self._searcher, self._clock = decisions, store, searcher, clock
        self._host_of, self._leaving = host_of, leaving
        self._moving: dict[str, str] = {}
        self._storage_root = f"{storage_path}/"
        self._ended: dict[str, dict[str, Any]] = {}

    @property
    def _plan(self) -> SweepPlan:
        """Plan in force: an order may have extended it."""
        return self._decisions.plan

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Trial:
        """Log one result, unless its epoch is logged already, and return the trial as the sweep state has it."""
        recorded = self._store.state.trials[trial_name(trial)]
        if "ended" in result:
            self._ended[recorded.id] = json.loads(result["ended"])
        if "event" in result and result["epoch"] not in recorded.epochs:
            event, body = reported(
                result["event"],
                time=self._clock(),
                trial=recorded.id,
                attempt=recorded.attempts,
                since_restore=result["iterations_since_restore"],
                host=result.get("hostname"),
                pid=result.get("pid"),
            )
            self._store.append(event, body)
        return recorded

    def diverge(self, trial: str, reason: str) -> None:
        """Mark a trial: it ends as diverged when it leaves its worker."""
        self._ended[trial] = {"status": "diverged", "reason": reason, "traceback": None}

    def moves(self, trial: TuneTrial, result: dict[str, Any]) -> bool:
        """Return True if a trial has to leave its worker: Tune saves and stops it, and it goes on elsewhere."""
        reason = self._leaving(trial) or result.get(LEAVING)
        if reason is not None:
            self._moving[trial_name(trial)] = reason
        return reason is not None

    @guarded
    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the start of an attempt: an actor runs the trial."""
        name = trial_name(trial)
        attempt = self._store.state.trials[name].attempts + 1
        host = self._host_of(trial)
        self._store.append(AttemptStarted(time=self._clock(), trial=name, attempt=attempt, host=host))

    @guarded
    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[TuneTrial],  # noqa: ARG002
        trial: TuneTrial,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Log a result; the last one of a trial arrives here only, since Tune does not pass it to its scheduler."""
        recorded = self.record(trial, result)
        if recorded.rejected_at is not None or recorded.id in self._moving:
            result[SHOULD_CHECKPOINT] = True  # Tune saves it before it stops the trial

    @guarded
    def on_checkpoint(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[TuneTrial],  # noqa: ARG002
        trial: TuneTrial,
        checkpoint: Checkpoint,
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Log a completed checkpoint folder."""
        path, epoch = checkpoint.path.removeprefix(self._storage_root), int(trial.last_result["epoch"])
        size = getattr(checkpoint, SIZE, None)
        saved = CheckpointSaved(time=self._clock(), trial=trial_name(trial), epoch=epoch, path=path, size_bytes=size)
        self._store.append(saved)

    @guarded
    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the end of a trial that left its actor: finished, rejected, diverged, stopped by order, or to move."""
        name = trial_name(trial)
        reason, recorded = self._moving.pop(name, None), self._store.state.trials[name]
        if reason is not None and name not in self._store.state.to_stop:
            self._retry(name, WorkerError("preemption", reason, None))
            return
        ended = self._ended.pop(name, None)
        if ended is None and self._was_extended(recorded, trained=int(trial.config["epochs"])):
            self._continue(recorded)
        else:
            self._leave(name, self._end(name, ended))

    @guarded
    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the loss of a node that was announced; Tune counts no failure then and restarts the trial itself."""
        error = _error_of(trial)
        self._fail_attempt(trial_name(trial), error._replace(cause="preemption"))

    @guarded
    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log an error of the trial, or a lost worker; retry from the last checkpoint as often as ``failures`` says.

        The loss of a node that was announced is no failure, however often it happens.
        """
        name, error = trial_name(trial), _error_of(trial)
        reason = self._moving.pop(name, None) or self._leaving(trial)
        if reason is not None and error.cause == "infrastructure":
            error = error._replace(cause="preemption", reason=f"{reason}: {error.reason}")
        recorded = self._store.state.trials[name]
        if recorded.rejected_at is not None or name in self._store.state.to_stop:
            # lost on its way out: the decision of the rung, or the order, is kept
            self._leave(name, self._end(name, None))
            return
        limits, failed = self._plan.spec.failures, recorded.failures_of(error.cause)
        limit = limits.user if error.cause == "user" else limits.infrastructure
        if failed < limit or error.cause == "preemption":
            self._retry(name, error)
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
            self._searcher.over(trial.id, retry=continues)

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
            self._searcher.over(name)

    def _retry(self, name: str, error: WorkerError) -> None:
        try:
            self._fail_attempt(name, error)
        finally:
            self._searcher.over(name, retry=True)

    @staticmethod
    def _say_pause(trial: Trial) -> None:
        last = trial.failures[-1]
        pause = pause_s(trial.failures_of("infrastructure")) if last.cause == "infrastructure" else 0.0
        if pause:
            logger.warning("%s: %s; next attempt after %.0f s", trial.id, last.reason, pause)

    def _fail_attempt(self, name: str, error: WorkerError) -> None:
        attempt = self._store.state.trials[name].attempts
        self._store.append(AttemptFailed(time=self._clock(), trial=name, attempt=attempt, **error._asdict()))


def _error_of(trial: TuneTrial) -> WorkerError:
    """Return the error of a trial; Tune's own reader of it reads the storage, which lacks the files yet."""
    return worker_error(trial.error_file, trial.pickled_error_file)
