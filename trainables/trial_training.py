"""Training of one trial after another in one process, an epoch for each step; the caller decides about the next one.

`trainables.tune` makes it a trainable of Ray Tune, the orchestrator's worker processes call it themselves.

The configuration is a flat point of its task (`trainables.tasks.registry.task_of`); None means absent. Keys that start
with `ravel.` belong to the orchestrator:

    ravel.objectives         names of metrics; if present, a result has these, `epoch` and one JSON `event`
    ravel.checkpoint         directory of a checkpoint to start from, or None
    ravel.parent             of a descendant without a checkpoint of its own: `checkpoint` of the trial whose training
                             it continues, and `changed`, the parameters in which it differs from that one
    ravel.checkpoint_epochs  epochs after which a result requests a checkpoint

A loss that diverges is an outcome: it ends the trial with a result that names it. Every other error is raised, and a
process in which one was raised is not given another trial:

    TrialFailed      the trial's own error: a wrong configuration, a bug, a batch that does not fit a GPU of its own
    WorkerUnusable   an error of the process, device or machine (`trainables.engine.faults`), or of memory that other
                     trials share; a retry in another process may succeed
    CheckpointError  the checkpoint to start from cannot be read
"""

import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from trainables.config.own_metrics import is_own, labels_among
from trainables.data import digest_of
from trainables.engine.epoch_loop import EpochLoop, TrialRun
from trainables.engine.epoch_report import EpochReport
from trainables.engine.faults import fault_of, first_line
from trainables.engine.placement import placement_of
from trainables.engine.raised_errors import classified
from trainables.engine.share import WHOLE, Share
from trainables.errors import (
    CheckpointError,
    ConfigError,
    Diverged,
    TrialFailed,
    WorkerUnusable,
    shortened,
)
from trainables.tasks.registry import task_of

__all__ = ["CHECKPOINT_INTERVAL_S", "DONE", "SHOULD_CHECKPOINT", "TrialTraining", "open_trial"]

T = TypeVar("T")
logger = logging.getLogger(__name__)
DONE, SHOULD_CHECKPOINT = "done", "should_checkpoint"
"""Keys of a result, as Ray Tune reads them: no epoch is left to train; the trial is to be saved."""
CHECKPOINT_INTERVAL_S = 30.0
ENDED_FILE_NAME = "ended.json"
_PREFIX = "ravel."


@dataclass(frozen=True, slots=True)
class _Ended:
    """End of a trial before its last epoch; `reason` is one line. Failed ones are read from older checkpoints only."""

    status: Literal["diverged", "failed"]
    reason: str
    traceback: str


@dataclass(frozen=True, slots=True)
class _SweepSettings:
    """Orchestrator's part of the configuration; `objectives` is None in plain use of Tune."""

    objectives: tuple[str, ...] | None
    checkpoint: str | None
    checkpoint_epochs: frozenset[int]
    parent: Mapping[str, Any] | None

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        objectives = config.get("ravel.objectives")
        return cls(
            objectives=None if objectives is None else tuple(objectives),
            checkpoint=config.get("ravel.checkpoint"),
            checkpoint_epochs=frozenset(config.get("ravel.checkpoint_epochs") or ()),
            parent=config.get("ravel.parent"),
        )


class TrialTraining:
    """Training of one trial; the process can train another one after it."""

    shares_gpu: bool = False
    """True if the process has a part of a GPU, whose memory other trials use too."""

    def begin(self, config: Mapping[str, Any]) -> None:
        """Release the last trial's tensors and store a configuration.

        The first step validates it, so that its errors are the trial's own.
        """
        self._settings = _SweepSettings.read(config)
        self._point = {name: value for name, value in config.items() if not name.startswith(_PREFIX)}
        self._loop: EpochLoop[TrialRun] | None = None
        self._ended: _Ended | None = None
        self._data_reported = False
        self._saved_at_s = time.monotonic()

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it; a finished or ended trial reports that it is done.

        Raises:
            TrialFailed: the trial has an error of its own.
            WorkerUnusable: the process, its device or its machine has one.
            CheckpointError: the checkpoint to start from cannot be read.
        """
        loop = self.opened()
        return self.reported(lambda: None if loop is None else self._trained(loop))

    def opened(self) -> EpochLoop[TrialRun] | None:
        """Return the trial between two epochs, so that another one may train it; None if no epoch is left.

        Raises:
            TrialFailed, WorkerUnusable, CheckpointError: as in `step`.
        """
        loop = None if self._ended is not None else self._guarded(self._current_loop)
        return None if loop is None or loop.finished else loop

    def reported(self, epoch: Callable[[], EpochReport | None]) -> dict[str, Any]:
        """Return the result of an epoch: `epoch` returns its report, None if none was left, or raises its error.

        Raises:
            TrialFailed, WorkerUnusable: as in `step`.
        """
        result = self._guarded(lambda: self._result(self._checked(epoch())))
        return self._result(None) if result is None else result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the complete epochs, or only the end of a trial that ended early: its weights belong to no epoch."""
        if self._ended is None:
            self._current_loop().save(checkpoint_dir)
        else:
            Path(checkpoint_dir, ENDED_FILE_NAME).write_text(json.dumps(asdict(self._ended)))
        self._saved_at_s = time.monotonic()

    def load_checkpoint(self, checkpoint: str) -> None:
        """Continue from a checkpoint directory; the next step trains the epoch after it.

        Raises:
            CheckpointError: it cannot be read, or belongs to another trial.
            TrialFailed, WorkerUnusable: as in `step`.
        """
        ended = Path(checkpoint, ENDED_FILE_NAME)
        if ended.exists():
            self._ended = _Ended(**json.loads(ended.read_text()))
            return
        self._loop = self._guarded(lambda: self._opened(checkpoint))

    def cleanup(self) -> None:
        """Release the trial's tensors."""
        self._loop = None

    def _checked(self, report: EpochReport | None) -> EpochReport | None:
        """Return a report, which must have the objectives that a user's own code measures."""
        if report is not None:
            _require_measured(self._own_objectives(), report, remedy=task_of(self._point).remedy)
        return report

    def _own_objectives(self) -> list[str]:
        """Return the objectives that a user's own code measures."""
        objectives, labels = self._settings.objectives or (), labels_among(self._point)
        any_metric = task_of(self._point).any_metric
        return [metric for metric in objectives if any_metric or is_own(metric, labels)]

    def _guarded(self, work: Callable[[], T]) -> T | None:
        """Return what `work` returns, or None if the trial diverges; raise other errors as whose fault they are."""
        try:
            return work()
        except (CheckpointError, TrialFailed, WorkerUnusable):
            raise
        except Exception as error:  # noqa: BLE001 - classified and raised
            fault = fault_of(error)
            if fault == "trial" and isinstance(error, Diverged):
                self._ended = _Ended("diverged", first_line(error), "".join(traceback.format_exception(error)))
                return None
            if fault in {"device memory", "host memory"}:
                self._loop = None
            raise classified(error, shares_gpu=self.shares_gpu) from None

    def _current_loop(self) -> EpochLoop[TrialRun]:
        if self._loop is None:
            settings = self._settings
            inherits = settings.checkpoint is None and settings.parent is not None
            self._loop = self._inherited(settings.parent or {}) if inherits else self._opened(settings.checkpoint)
        return self._loop

    def _inherited(self, parent: Mapping[str, Any]) -> EpochLoop[TrialRun]:
        """Return the trial as it continues from the checkpoint of its parent."""
        task = task_of(self._point)
        config = task.from_point(self._point)
        placement = placement_of(config, share=WHOLE)
        return task.inherit(parent["checkpoint"], config=config, changed=parent["changed"], placement=placement)

    def _opened(self, checkpoint: str | None) -> EpochLoop[TrialRun]:
        """Return the trial before its first epoch, or as the checkpoint has it."""
        return open_trial(self._point, checkpoint)

    def _trained(self, loop: EpochLoop[TrialRun]) -> EpochReport:
        """Train one epoch."""
        return loop.run_epoch()

    def _result(self, report: EpochReport | None) -> dict[str, Any]:
        """Return the result of a step, of the epoch in `report` if any."""
        epoch = self._epoch() if report is None else report.epoch
        metrics = {} if report is None else dict(report.metrics)
        done = self._ended is not None or self._loop is None or self._loop.finished
        ended = {} if self._ended is None else {"ended": json.dumps(asdict(self._ended))}
        if self._settings.objectives is None:
            return {**metrics, **ended, "epoch": epoch, DONE: done}
        event = {} if report is None else {"event": _event(epoch, metrics, data=self._data_digest())}
        return {
            **{name: metrics.get(name, math.nan) for name in self._settings.objectives},
            **event,
            **ended,
            "epoch": epoch,
            DONE: done,
            SHOULD_CHECKPOINT: report is not None and self._checkpoint_due(epoch, done=done),
        }

    def _data_digest(self) -> str | None:
        """Return the digest of the data set once in an attempt; a failure is logged, and does not cost the epoch."""
        if self._data_reported or self._loop is None or (data := self._loop.run.data) is None:
            return None
        self._data_reported = True
        try:
            return digest_of(data)
        except Exception as error:  # noqa: BLE001 - the files may be gone, but the epoch is complete
            logger.warning(
                "digest of the data set unavailable (%s: %s); continuing without it", type(error).__name__, error
            )
            return None

    def _epoch(self) -> int:
        """Return the epoch for a result without a report: the epoch in which the trial ended, or the last one."""
        complete = 0 if self._loop is None else self._loop.epoch
        return complete if self._loop is None or self._ended is None else complete + 1

    def _checkpoint_due(self, epoch: int, *, done: bool) -> bool:
        overdue = time.monotonic() - self._saved_at_s >= CHECKPOINT_INTERVAL_S
        return done or overdue or epoch in self._settings.checkpoint_epochs


def open_trial(point: Mapping[str, Any], checkpoint: str | None, *, share: Share = WHOLE) -> EpochLoop[TrialRun]:
    """Return a trial before its first epoch, or as the checkpoint has it, to train a share of each batch.

    Raises:
        TrainableError: the point is wrong, or the data, the device or the checkpoint cannot be used.
    """
    task = task_of(point)
    config = task.from_point(point)
    placement = placement_of(config, share=share)
    if checkpoint is None:
        return task.start(config, placement=placement)
    return task.restore(checkpoint, config=config, placement=placement)


def _require_measured(objectives: Iterable[str], report: EpochReport, *, remedy: str) -> None:
    """Require the objectives that a user's own code measures among the metrics of an epoch.

    Raises:
        ConfigError: one is missing.
    """
    missing = [metric for metric in objectives if metric not in report.metrics]
    if missing:
        reported = shortened(
            ", ".join(metric for metric in report.metrics if not metric.startswith(("time/", "cost/")))
        )
        message = f"epoch {report.epoch} must report {', '.join(missing)}, it reported {reported}; {remedy}"
        raise ConfigError.at("objective.metric", message)


def _event(epoch: int, metrics: Mapping[str, float], *, data: str | None) -> str:
    """Return the full record of an epoch, as strict JSON: a metric that is not finite is null."""
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    return json.dumps({"epoch": epoch, "metrics": finite, "data": data}, allow_nan=False)
