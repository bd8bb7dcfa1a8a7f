"""Training one trial, on one page.

>>> from trainables.config import TrialConfig
>>> result = train(TrialConfig.from_point({"epochs": 1, "model.width": 0.5}))
>>> result.reports[-1].epoch, result.metrics["val/accuracy"] > 0.3
(1, True)
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
from pydantic import ValidationError
from torch import Tensor

from trainables import state
from trainables.config import OptimizerConfig, TrialConfig
from trainables.data import load_splits, shape_of
from trainables.errors import CheckpointError, Diverged
from trainables.evaluation.prediction import as_pixels
from trainables.evaluation.validation import probe, validate
from trainables.models import StagedClassifier, build
from trainables.objective import Methods, draw, step_loss
from trainables.seeding import Streams

__all__ = ["EpochReport", "Run", "TrialResult", "learning_rate", "load_model", "train"]

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What one epoch measured, under the names of `trainables.metrics`; epochs count from 1."""

    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The trained model, and a report for each epoch that this call trained."""

    model: StagedClassifier
    reports: tuple[EpochReport, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Those of the last epoch; empty if there was none left to train."""
        return self.reports[-1].metrics if self.reports else {}


def train(
    config: TrialConfig,
    *,
    report: Callable[[EpochReport], None] | None = None,
    resume: Path | None = None,
    checkpoint: Path | None = None,
) -> TrialResult:
    """Train to the last epoch; call `report` after each, and save to the directory `checkpoint` before.

    With `resume`, continue from that checkpoint directory: on CPU, with as many threads, the result
    is bit for bit that of a trial that was never interrupted.

    Raises:
        ConfigError: a layer that the model does not have.
        DatasetMissing: the data set is not on this machine.
        Diverged: a loss stopped being finite.
        CheckpointError: `resume` cannot be read or belongs to another trial.
    """
    run = Run(config) if resume is None else Run.restore(resume, config=config)
    reports = []
    while not run.finished:
        reports.append(run.run_epoch())
        if checkpoint is not None:
            run.save(checkpoint)
        if report is not None:
            report(reports[-1])
    return TrialResult(run.model, tuple(reports))


@final
class Run:
    """One trial in progress: between epochs it can be saved, and restored elsewhere.

    `epoch` counts the epochs that are complete. Data live on the device; a batch is an index_select.
    """

    def __init__(self, config: TrialConfig) -> None:
        splits = load_splits(config.data)
        mean, std = splits.train.pixel_statistics()
        self.config = config
        self.epoch = 0
        self.device = resolve_device(config.device)
        self.num_classes = splits.num_classes
        self.train_split, self.val_split = splits.train.to(self.device), splits.val.to(self.device)
        self.model = build(
            config.model,
            image_shape=splits.image_shape,
            num_classes=splits.num_classes,
            seed=config.seed,
            mean=mean,
            std=std,
            device=self.device,
        )
        self.methods = Methods.resolve(config, self.model)
        self.optimizer = _optimizer(config.optimizer, self.model)
        self.streams = Streams.from_seed(config.seed, device=self.device)

    @property
    def finished(self) -> bool:
        """Whether every epoch is complete."""
        return self.epoch >= self.config.epochs

    @property
    def batches_per_epoch(self) -> int:
        """Full batches only: the images left over are others in every epoch."""
        return max(1, len(self.train_split) // self.config.batch_size)

    def run_epoch(self) -> EpochReport:
        """Train one epoch and measure it.

        Raises:
            Diverged: a term of the loss, or the validation likelihood, is not finite.
            ValueError: the run is finished.
        """
        if self.finished:
            raise ValueError(f"run: all {self.config.epochs} epochs are complete; start a new Run")
        started = time.perf_counter()
        metrics = self._train_epoch()
        metrics |= validate(self.model, self.val_split)
        if not math.isfinite(metrics["val/nll"]):
            raise Diverged(self.epoch + 1, self.batches_per_epoch, "val/nll")
        self.epoch += 1
        if self.finished or self.epoch in self.config.evaluation.epochs:
            metrics |= probe(self.model, self.val_split, settings=self.config.evaluation, snnl=self.config.snnl)
        epoch_s = time.perf_counter() - started
        gpu_s = epoch_s if self.device.type == "cuda" else 0.0
        return EpochReport(self.epoch, metrics | {"time/epoch_s": epoch_s, "cost/gpu_s": gpu_s})

    def _train_epoch(self) -> dict[str, float]:
        started = time.perf_counter()
        self.model.train()
        size = min(self.config.batch_size, len(self.train_split))
        order_N = torch.randperm(len(self.train_split), generator=self.streams.order).to(self.device)
        history = [
            self._step(order_N[i * size : (i + 1) * size], step=self.epoch * self.batches_per_epoch + i)
            for i in range(self.batches_per_epoch)
        ]
        # The one place of the epoch where the host waits for the device.
        means = _means(history, epoch=self.epoch + 1)
        images_per_s = len(history) * size / (time.perf_counter() - started)
        return {f"train/{term}": value for term, value in means.items()} | {"time/images_per_s": images_per_s}

    def _step(self, indices_B: Tensor, *, step: int) -> dict[str, Tensor]:
        x_BCHW = as_pixels(self.train_split.images_NCHW.index_select(0, indices_B))
        y_B = self.train_split.labels_N.index_select(0, indices_B)
        draws = draw(x_BCHW, methods=self.methods, streams=self.streams)
        loss = step_loss(self.model, x_BCHW, y_B, num_classes=self.num_classes, methods=self.methods, draws=draws)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                self.config.optimizer, step, total_steps=self.config.epochs * self.batches_per_epoch
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return {term: value.detach() for term, value in {**loss.terms, "loss": loss.total}.items()}

    def save(self, directory: Path) -> None:
        """Write a checkpoint of the complete epochs into `directory`."""
        checkpoint = state.Checkpoint(
            config=self.config.model_dump_json(),
            epoch=self.epoch,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            streams=self.streams.state(),
        )
        state.save(directory, checkpoint)

    @classmethod
    def restore(cls, directory: Path, *, config: TrialConfig | None = None) -> Self:
        """Continue from a checkpoint.

        `config`, if given, must describe the same trial; where the data lie and the device may differ.

        Raises:
            CheckpointError: the checkpoint cannot be read, or belongs to another trial.
        """
        checkpoint = state.load(directory)
        saved = _saved_config(directory, checkpoint)
        if config is not None:
            _check_same_trial(directory, saved=saved, given=config)
        run = cls(saved if config is None else config)
        run.model.load_state_dict(checkpoint.model)
        run.optimizer.load_state_dict(dict(checkpoint.optimizer))
        run.streams.restore(dict(checkpoint.streams))
        run.epoch = checkpoint.epoch
        return run


def load_model(directory: Path, *, device: torch.device | str = "cpu") -> StagedClassifier:
    """The model of a checkpoint, in eval mode; no data set is read.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    checkpoint = state.load(directory)
    config = _saved_config(directory, checkpoint)
    image_shape, num_classes = shape_of(config.data)
    model = build(config.model, image_shape=image_shape, num_classes=num_classes)
    model.load_state_dict(checkpoint.model)
    return model.to(device).eval()


def learning_rate(optimizer: OptimizerConfig, step: int, *, total_steps: int) -> float:
    """The rate of this step, counted from 0; cosine falls from lr towards 0 without a restart.

    >>> [round(learning_rate(OptimizerConfig(lr=0.1), step, total_steps=4), 3) for step in range(4)]
    [0.1, 0.085, 0.05, 0.015]
    """
    if optimizer.schedule == "constant":
        return optimizer.lr
    return optimizer.lr * (1 + math.cos(math.pi * step / total_steps)) / 2


def resolve_device(name: str) -> torch.device:
    """The device of a name; 'auto' is the first GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _optimizer(config: OptimizerConfig, model: StagedClassifier) -> torch.optim.Optimizer:
    if config.name == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _means(history: list[dict[str, Tensor]], *, epoch: int) -> dict[str, float]:
    """Mean of each term over the steps.

    Raises:
        Diverged: at the first step with a term that is not finite.
    """
    terms = list(history[0])
    values_ST = torch.stack([torch.stack(list(step.values())) for step in history]).cpu()
    broken_ST = ~values_ST.isfinite()
    if broken_ST.any():
        step, term = broken_ST.nonzero()[0].tolist()
        raise Diverged(epoch, step + 1, terms[term])
    return dict(zip(terms, values_ST.double().mean(0).tolist(), strict=True))


def _saved_config(directory: Path, checkpoint: state.Checkpoint) -> TrialConfig:
    try:
        return TrialConfig.model_validate_json(checkpoint.config)
    except ValidationError as error:
        raise CheckpointError(
            str(directory), f"describes no valid trial ({error})", "read it with the version that wrote it"
        ) from error


def _check_same_trial(directory: Path, *, saved: TrialConfig, given: TrialConfig) -> None:
    place = {"data.root", "device"}
    before, now = saved.to_point(), given.to_point()
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in place]
    if changed:
        names = ", ".join(f"{name} ({before.get(name)} there, {now.get(name)} here)" for name in changed)
        raise CheckpointError(str(directory), f"belongs to another trial: {names}", "resume it with its own parameters")
