"""Tune's callback: write down what trials do."""

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
from orchestrator.storage import s3

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.execution.tune_searcher import LogSearcher
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import Cause, TrialStatus
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial

P = ParamSpec("P")
logger = logging.getLogger(__name__)


def tune_storage(folder: SweepFolder) -> tuple[Any, str]:
    """The file system that Tune keeps checkpoints on, None for this machine's, and the sweep's place there."""
    if folder.remote is None:
        return None, str(folder.path.resolve())
    return s3.filesystem(folder.remote.location, folder.remote.settings)


def guarded(hook: Callable[P, None]) -> Callable[P, None]:
    """A Tune callback that cannot kill a sweep: what goes wrong inside is logged, with its traceback."""

    @functools.wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            logger.exception("%s failed; the sweep goes on", hook.__qualname__)

    return guard


class TrialRecorder(Callback):
    """Writes down what Tune's trials do."""

    def __init__(
        self,
        plan: SweepPlan,
        store: EventStore,
        folder: SweepFolder,
        searcher: LogSearcher,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plan, self._store, self._folder, self._searcher, self._clock = (
            plan,
            store,
            folder,
            searcher,
            clock,
        )
        self._root = f"{tune_storage(folder)[1]}/"
        self._ended: dict[str, dict[str, Any]] = {}

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Trial:
        """Write down one result, once, and return the trial as our state has it."""
        ours = self._store.state.trials[trial_name(trial)]
        if "ended" in result:
            self._ended[ours.id] = json.loads(result["ended"])
        if "event" in result and result["epoch"] not in ours.epochs:
            event, line = reported(
                result["event"],
                time=self._clock(),
                trial=ours.id,
                attempt=ours.attempts,
                since_restore=result["iterations_since_restore"],
                host=result.get("hostname"),
                pid=result.get("pid"),
            )
            self._store.append(event, line)
        return ours

    def diverge(self, trial: str, reason: str) -> None:
        """Have the trial end as diverged when it leaves its worker."""
        self._ended[trial] = {"status": "diverged", "reason": reason, "traceback": None}

    @guarded
    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """An actor was given the trial."""
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
        """The last result of a trial comes here alone: Tune does not show it to its scheduler."""
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
        """A checkpoint folder is complete."""
        path, epoch = checkpoint.path.removeprefix(self._root), int(trial.last_result["epoch"])
        self._store.append(CheckpointSaved(time=self._clock(), trial=trial_name(trial), epoch=epoch, path=path))

    @guarded
    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """The trial left its actor: finished, stopped at a rung, diverged, or broken by an error of its own."""
        name = trial_name(trial)
        ended = self._ended.pop(name, None)
        if ended is None or ended["status"] != "failed":
            self._leave(name, self._end(name, ended))
        elif self._store.state.trials[name].failures_of("user") < self._plan.spec.failures.user:
            self._try_again(name, "user", ended["reason"], ended["traceback"])
        else:
            self._leave(name, TrialEnded(time=self._clock(), trial=name, **ended))

    @guarded
    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """The node was taken away with notice; Tune, which counts no failure then, starts the trial again by itself."""
        reason, traceback = _loss(trial)
        self._fail_attempt(trial_name(trial), "preemption", reason, traceback)

    @guarded
    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """The worker was lost: the trial is tried again from its last checkpoint, unless that was once too often."""
        name, (reason, traceback) = trial_name(trial), _loss(trial)
        if self._store.state.trials[name].rejected_at is not None:  # lost on its way out: what was decided stands
            self._leave(name, self._end(name, None))
            return
        lost, limit = (
            self._store.state.trials[name].failures_of("infrastructure"),
            self._plan.spec.failures.infrastructure,
        )
        if lost < limit:
            self._try_again(name, "infrastructure", reason, traceback)
            return
        told = f"lost its worker {lost + 1} times (failures.infrastructure: {limit}), last: {reason}"
        self._leave(name, TrialEnded(time=self._clock(), trial=name, status="failed", reason=told, traceback=traceback))

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

    def _try_again(self, name: str, cause: Cause, reason: str, traceback: str | None) -> None:
        try:
            self._fail_attempt(name, cause, reason, traceback)
        finally:
            self._searcher.over(name, again=True)

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
    """Return the id that the sweep gave a trial, which is in its configuration."""
    return str(trial.config["ravel.trial"])


def _loss(trial: TuneTrial) -> tuple[str, str | None]:
    """What Tune wrote down about the loss of a worker: a line, and the whole.

    Tune keeps it in the driver's own staging folder: ``trial.get_error`` looks in the storage, where it is not yet.
    """
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return "its worker died", None
    told = text.rpartition("Failure #")[2].splitlines()[1:]
    lines = [line.strip() for line in told if line.strip()]
    return (lines[0][:300] if lines else "its worker died"), "\n".join(told)
