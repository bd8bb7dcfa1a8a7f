"""Tune callback: record in the event log what Tune's trials do."""

from __future__ import annotations

import functools
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from ray.tune import Callback
from ray.tune.result import SHOULD_CHECKPOINT

from orchestrator.decisions.trial_views import values_at
from orchestrator.state.events import AttemptFailed, AttemptStarted, CheckpointSaved, TrialEnded, reported
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.execution.tune_searcher import LogSearcher
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import Cause, TrialStatus
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
        plan: SweepPlan,
        store: EventStore,
        searcher: LogSearcher,
        *,
        storage_path: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plan, self._store, self._searcher, self._clock = plan, store, searcher, clock
        self._storage_root = f"{storage_path}/"
        self._ended: dict[str, dict[str, Any]] = {}

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

    @guarded
    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the start of an attempt: an actor runs the trial."""
        name = trial_name(trial)
        attempt = self._store.state.trials[name].attempts + 1
        self._store.append(AttemptStarted(time=self._clock(), trial=name, attempt=attempt))

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
        if self.record(trial, result).rejected_at is not None:
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
        self._store.append(CheckpointSaved(time=self._clock(), trial=trial_name(trial), epoch=epoch, path=path))

    @guarded
    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the end or retry of a trial that left its actor: finished, rejected at a rung, diverged, or failed."""
        name = trial_name(trial)
        ended = self._ended.pop(name, None)
        if ended is None or ended["status"] != "failed":
            self._leave(name, self._end(name, ended))
        elif self._store.state.trials[name].failures_of("user") < self._plan.spec.failures.user:
            self._retry(name, "user", ended["reason"], ended["traceback"])
        else:
            self._leave(name, TrialEnded(time=self._clock(), trial=name, **ended))

    @guarded
    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the loss of a node that was announced; Tune counts no failure then and restarts the trial itself."""
        reason, traceback = _worker_error(trial)
        self._fail_attempt(trial_name(trial), "preemption", reason, traceback)

    @guarded
    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log a lost worker; retry the trial from its last checkpoint up to ``failures.infrastructure`` times."""
        name, (reason, traceback) = trial_name(trial), _worker_error(trial)
        if self._store.state.trials[name].rejected_at is not None:  # lost on its way out: the rung's decision is kept
            self._leave(name, self._end(name, None))
            return
        lost = self._store.state.trials[name].failures_of("infrastructure")
        limit = self._plan.spec.failures.infrastructure
        if lost < limit:
            self._retry(name, "infrastructure", reason, traceback)
            return
        reason = f"lost its worker {lost + 1} times (failures.infrastructure: {limit}), last: {reason}"
        end = TrialEnded(time=self._clock(), trial=name, status="failed", reason=reason, traceback=traceback)
        self._leave(name, end)

    def _end(self, name: str, ended: dict[str, Any] | None) -> TrialEnded:
        now, trial = self._clock(), self._store.state.trials[name]
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

    def _retry(self, name: str, cause: Cause, reason: str, traceback: str | None) -> None:
        try:
            self._fail_attempt(name, cause, reason, traceback)
        finally:
            self._searcher.over(name, retry=True)

    def _fail_attempt(self, name: str, cause: Cause, reason: str, traceback: str | None) -> None:
        self._store.append(
            AttemptFailed(
                time=self._clock(),
                trial=name,
                attempt=self._store.state.trials[name].attempts,
                cause=cause,
                reason=reason,
                traceback=traceback,
            )
        )


def trial_name(trial: TuneTrial) -> str:
    """Return the id of a trial in the sweep, which its configuration carries."""
    return str(trial.config["ravel.trial"])


def _worker_error(trial: TuneTrial) -> tuple[str, str | None]:
    """Read Tune's error file of a lost worker: return its first line and the whole text.

    Tune keeps the file in the driver's staging folder; ``trial.get_error`` reads the storage, which lacks it yet.
    """
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return "its worker died", None
    report = text.rpartition("Failure #")[2].splitlines()[1:]
    lines = [line.strip() for line in report if line.strip()]
    return (lines[0][:300] if lines else "its worker died"), "\n".join(report)
