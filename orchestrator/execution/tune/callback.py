"""Tune callback: record in the event log what Tune's trials do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.result import SHOULD_CHECKPOINT

from orchestrator.execution.trainable import SIZE
from orchestrator.execution.trials.attempt_recorder import AttemptRecorder, guarded
from orchestrator.execution.trials.sweep_training import LEAVING
from orchestrator.execution.tune.placement import trial_name
from orchestrator.execution.tune.worker_errors import worker_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.trials.worker_error import WorkerError
    from orchestrator.execution.tune.searcher import LogSearcher
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import Trial


class TrialRecorder(Callback):
    """Trial recorder: pass whatever happens to a trial of Tune on to the recorder of attempts."""

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
        self._attempts = AttemptRecorder(decisions, store, searcher, clock=clock)
        self._host_of, self._leaving = host_of, leaving
        self._storage_root = f"{storage_path}/"
        self.diverge = self._attempts.diverge

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Trial:
        """Log one result, unless its epoch is logged already, and return the trial as the sweep state has it."""
        return self._attempts.reported(trial_name(trial), result)

    def moves(self, trial: TuneTrial, result: dict[str, Any]) -> bool:
        """Return True if a trial has to leave its worker: Tune saves and stops it, and it goes on elsewhere."""
        reason = self._leaving(trial) or result.get(LEAVING)
        if reason is not None:
            self._attempts.move(trial_name(trial), reason)
        return reason is not None

    @guarded
    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the start of an attempt: an actor runs the trial."""
        self._attempts.started(trial_name(trial), host=self._host_of(trial))

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
        if self._attempts.is_leaving(recorded.id):
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
        self._attempts.saved(trial_name(trial), epoch=epoch, path=path, size_bytes=getattr(checkpoint, SIZE, None))

    @guarded
    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the end of a trial that left its actor."""
        self._attempts.left(trial_name(trial), trial.config)

    @guarded
    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log the loss of a node that was announced; Tune counts no failure then and restarts the trial itself."""
        self._attempts.fail_attempt(trial_name(trial), _error_of(trial)._replace(cause="preemption"))

    @guarded
    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:  # noqa: ARG002
        """Log an error of the trial, or a lost actor."""
        self._attempts.failed(trial_name(trial), _error_of(trial), leaving=self._leaving(trial))


def _error_of(trial: TuneTrial) -> WorkerError:
    """Return the error of a trial; Tune's own reader of it reads the storage, which lacks the files yet."""
    return worker_error(trial.error_file, trial.pickled_error_file)
