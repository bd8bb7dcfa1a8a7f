"""Epoch loop that all tasks share: train, evaluate, count, time, save and resume."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, final

from trainables.config.sections import DataConfig
from trainables.engine import checkpoint as state
from trainables.engine.checkpoint import Checkpoint
from trainables.engine.epoch_report import EpochReport
from trainables.engine.guards import memory_guard
from trainables.engine.placement import Placement

__all__ = ["EpochLoop", "TrialRun", "TrialSettings"]

Path = str | os.PathLike[str]


class TrialSettings(Protocol):
    """Part of a trial's configuration that does not depend on the task."""

    @property
    def epochs(self) -> int:
        """Number of epochs to train."""

    @property
    def device(self) -> str:
        """Name of the device: auto, cpu or cuda."""

    def model_dump_json(self) -> str:
        """Return the configuration as JSON."""


class TrialRun(Protocol):
    """Task's part of a trial in progress: model, optimizer, data and random streams, but no count of epochs."""

    @property
    def config(self) -> TrialSettings:
        """Configuration that the trial started with."""

    @property
    def placement(self) -> Placement:
        """Device of the model and the data, precision, and share of each batch."""

    @property
    def data(self) -> DataConfig | None:
        """Data set to train on; None where the task reads its own."""

    @property
    def batch_size(self) -> int | None:
        """Number of images in a training step; None where the task knows no batches."""

    @property
    def evaluation_batch_size(self) -> int | None:
        """Number of images in an evaluation step; None where the task knows no batches."""

    def train_epoch(self, epoch: int) -> Mapping[str, float]:
        """Train epoch number `epoch`, counted from 1, and return its metrics."""

    def evaluate_epoch(self, epoch: int) -> Mapping[str, float]:
        """Evaluate the model after epoch number `epoch` and return its metrics."""

    def state(self) -> Mapping[str, Any]:
        """Return the fields of a `Checkpoint`, without `config` and `epoch`."""

    def load(self, checkpoint: Checkpoint, /) -> None:
        """Continue from the state in a checkpoint."""


R = TypeVar("R", bound=TrialRun)


@final
class EpochLoop(Generic[R]):
    """Trial in progress: between epochs it can be saved, and restored elsewhere.

    `epoch` counts the complete epochs.
    """

    def __init__(self, run: R, *, checkpoint: Checkpoint | None = None) -> None:
        self.run = run
        self.epoch = 0
        if checkpoint is not None:
            run.load(checkpoint)
            self.epoch = checkpoint.epoch

    @property
    def config(self) -> TrialSettings:
        """Configuration that the trial started with."""
        return self.run.config

    @property
    def finished(self) -> bool:
        """Return True if every epoch is complete."""
        return self.epoch >= self.config.epochs

    def run_epoch(self) -> EpochReport:
        """Train one epoch and evaluate it; of several processes that train one trial, the first one evaluates.

        Raises:
            Diverged: a term of the loss, or a metric that must be finite, is not finite.
            OutOfMemory: a step, or its evaluation, did not fit.
            PeerLost: another process that trains the same trial does not answer.
            AttackOverfitted: accuracy under PGD fell by more than the trial allows.
            ValueError: the trial is finished.
        """
        if self.finished:
            raise ValueError(f"epoch: all {self.config.epochs} epochs are complete; start a new trial")
        started, epoch = time.perf_counter(), self.epoch + 1
        device, share = self.run.placement.device, self.run.placement.share
        with memory_guard("training", self.run.batch_size, device=device):
            trained = self.run.train_epoch(epoch)
        evaluated: Mapping[str, float] = {}
        if share.rank == 0:
            with memory_guard("evaluation", self.run.evaluation_batch_size, device=device):
                evaluated = self.run.evaluate_epoch(epoch)
        return self.count({**trained, **evaluated}, epoch_s=time.perf_counter() - started)

    def count(self, metrics: Mapping[str, float], *, epoch_s: float) -> EpochReport:
        """Count an epoch that was trained and evaluated in so many seconds, and return its report with its cost."""
        self.epoch += 1
        placement = self.run.placement
        gpu_s = epoch_s * placement.share.world_size if placement.device.type == "cuda" else 0.0
        return EpochReport(self.epoch, {**metrics, "time/epoch_s": epoch_s, "cost/gpu_s": gpu_s})

    def run_all(
        self, *, report: Callable[[EpochReport], None] | None = None, checkpoint: Path | None = None
    ) -> tuple[EpochReport, ...]:
        """Train the remaining epochs; after each one, save to the directory `checkpoint`, then call `report`."""
        reports = []
        while not self.finished:
            reports.append(self.run_epoch())
            if checkpoint is not None:
                self.save(checkpoint)
            if report is not None:
                report(reports[-1])
        return tuple(reports)

    def save(self, directory: Path) -> None:
        """Write a checkpoint of the complete epochs into `directory`."""
        config = self.config.model_dump_json()
        state.save(directory, Checkpoint(config=config, epoch=self.epoch, **self.run.state()))
