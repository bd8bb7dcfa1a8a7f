"""One trial in progress: what an epoch does, and how it is saved and restored between epochs."""

import math
import os
import time
from typing import TYPE_CHECKING, Self, cast, final

from torch import Tensor

from trainables.attacks import overfitted, pgd_accuracy
from trainables.config.trial import TrialConfig
from trainables.data import Split, load_splits
from trainables.data.augmentation import Augmentation, augment
from trainables.data.batching import class_balanced, shuffled
from trainables.engine import checkpoint as state
from trainables.engine.device import resolve_device
from trainables.engine.epoch_report import EpochReport
from trainables.engine.guards import TermWatch, memory_guard
from trainables.engine.optimization import WeightAverage, build_optimizer, clip_gradients, learning_rate
from trainables.engine.precision import autocast, resolve_precision
from trainables.engine.resuming import check_same_trial
from trainables.errors import AttackOverfitted, ConfigError, DatasetDamaged, Diverged, Problem
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels
from trainables.evaluation.core.validation import probe, validate
from trainables.models import StagedClassifier, build
from trainables.models.loading import saved_config
from trainables.regularizers.methods import Methods, draw
from trainables.seeding import Streams, generator
from trainables.snnl import LearnedTemperature
from trainables.tasks.classifier.objective import step_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Run"]

Path = str | os.PathLike[str]
OVERFITTING_IMAGES = 256


@final
class Run:
    """One trial in progress: between epochs it can be saved, and restored elsewhere.

    `epoch` counts the epochs that are complete. Data live on the device; a batch is an index_select.
    """

    def __init__(self, config: TrialConfig) -> None:
        splits = load_splits(config.data)
        mean, std = _pixel_statistics(splits.train, config.data.name)
        self.config = config
        self.epoch = 0
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.image_shape, self.num_classes = splits.image_shape, splits.num_classes
        self.labels_N = splits.train.labels_N
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
        self.augmentation = Augmentation.from_config(config.data)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        decay = config.optimizer.ema_decay
        self.average = WeightAverage(self.model, decay=decay) if decay else None
        self.streams = Streams.from_seed(config.seed, device=self.device)
        self.learned: Mapping[str, LearnedTemperature] = {}
        self.pgd_accuracy: float | None = None
        if config.compile:
            for stage in (*self.model.stages.values(), self.model.head):
                stage.compile()

    @property
    def finished(self) -> bool:
        """Whether every epoch is complete."""
        return self.epoch >= self.config.epochs

    @property
    def evaluated_model(self) -> StagedClassifier:
        """The averaged weights if there are any, else those that are trained."""
        return self.model if self.average is None else cast("StagedClassifier", self.average.model)

    @property
    def batches_per_epoch(self) -> int:
        """Full batches only: the images left over are others in every epoch."""
        return max(1, len(self.train_split) // self.config.batch_size)

    def run_epoch(self) -> EpochReport:
        """Train one epoch and measure it.

        Raises:
            Diverged: a term of the loss, or the validation likelihood, is not finite.
            OutOfMemory: a step, or its evaluation, did not fit.
            AttackOverfitted: accuracy under PGD fell by more than the trial allows.
            ValueError: the run is finished.
        """
        if self.finished:
            raise ValueError(f"run: all {self.config.epochs} epochs are complete; start a new Run")
        started = time.perf_counter()
        with memory_guard("training", self.config.batch_size, device=self.device):
            metrics = self._train_epoch()
        with memory_guard("evaluation", BATCH_SIZE, device=self.device):
            metrics |= self._evaluate_epoch()
        self.epoch += 1
        epoch_s = time.perf_counter() - started
        gpu_s = epoch_s if self.device.type == "cuda" else 0.0
        return EpochReport(self.epoch, metrics | {"time/epoch_s": epoch_s, "cost/gpu_s": gpu_s})

    def _evaluate_epoch(self) -> dict[str, float]:
        settings, epoch, model = self.config.evaluation, self.epoch + 1, self.evaluated_model
        metrics = validate(model, self.val_split)
        if not math.isfinite(metrics["val/nll"]):
            raise Diverged(epoch, self.batches_per_epoch, "val/nll")
        if epoch == self.config.epochs or epoch in settings.epochs:
            metrics |= probe(model, self.val_split, settings=settings, snnl=self.config.snnl)
        return metrics

    def _train_epoch(self) -> dict[str, float]:
        started = time.perf_counter()
        self.model.train()
        order_SB = self._order().to(self.device)
        watch = TermWatch(self.epoch + 1)
        for i, indices_B in enumerate(order_SB):
            watch.see(self._step(indices_B, step=self.epoch * self.batches_per_epoch + i))
        means = watch.means()
        images_per_s = order_SB.numel() / (time.perf_counter() - started)
        metrics = {f"train/{term}": value for term, value in means.items()} | {"time/images_per_s": images_per_s}
        return metrics | self._attack_overfitting(order_SB.flatten()[:OVERFITTING_IMAGES])

    def _order(self) -> Tensor:
        """The indices of each batch of an epoch, (steps, B)."""
        classes, size = self.config.classes_per_batch, min(self.config.batch_size, len(self.train_split))
        if classes is None:
            return shuffled(len(self.train_split), size, generator=self.streams.order)
        try:
            return class_balanced(
                self.labels_N,
                classes_per_batch=classes,
                images_per_class=self.config.batch_size // classes,
                generator=self.streams.order,
            )
        except ValueError as error:
            name = "classes_per_batch"
            raise ConfigError([Problem(name, str(error).removeprefix(f"{name}: "))]) from error

    def _images(self, indices_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BCHW = as_pixels(self.train_split.images_NCHW.index_select(0, indices_B))
        return x_BCHW, self.train_split.labels_N.index_select(0, indices_B)

    def _step(self, indices_B: Tensor, *, step: int) -> dict[str, Tensor]:
        x_BCHW, y_B = self._images(indices_B)
        x_BCHW = augment(x_BCHW, settings=self.augmentation, generator=self.streams.augmentation)
        draws = draw(x_BCHW, methods=self.methods, streams=self.streams)
        with autocast(self.precision, self.device):
            loss = step_loss(
                self.model,
                x_BCHW,
                y_B,
                num_classes=self.num_classes,
                methods=self.methods,
                draws=draws,
                learned=self.learned,
            )
        self._descend(loss.total, step=step)
        self.learned = loss.learned
        return {**loss.terms, "loss": loss.total}

    def _descend(self, total: Tensor, *, step: int) -> None:
        settings, steps = self.config.optimizer, self.batches_per_epoch
        rate = learning_rate(settings, step, total_steps=self.config.epochs * steps, steps_per_epoch=steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.model, settings)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)

    def _attack_overfitting(self, indices_B: Tensor) -> dict[str, float]:
        """Accuracy under PGD of an adversarially trained model on one batch of its training images."""
        settings = self.config.adversarial
        if not self.methods.attacking:
            return {}
        x_BCHW, y_B = self._images(indices_B)
        noise = generator(self.config.seed, f"overfitting {self.epoch}", device=self.device)
        now = float(
            pgd_accuracy(self.model, x_BCHW, y_B, epsilon=settings.epsilon, norm=settings.norm, generator=noise)
        )
        before, self.pgd_accuracy = self.pgd_accuracy, now
        limit = settings.max_robust_drop
        if before is not None and limit is not None and overfitted(before, now, drop=limit):
            raise AttackOverfitted(self.epoch + 1, before, now)
        return {"train/pgd_accuracy": now}

    def save(self, directory: Path) -> None:
        """Write a checkpoint of the complete epochs into `directory`."""
        checkpoint = state.Checkpoint(
            config=self.config.model_dump_json(),
            epoch=self.epoch,
            model=self.model.state_dict(),
            average={} if self.average is None else self.average.state(),
            optimizer=self.optimizer.state_dict(),
            streams=self.streams.state(),
            temperatures={tap: [value.log_beta, value.origin] for tap, value in self.learned.items()},
            pgd_accuracy=self.pgd_accuracy,
            image_shape=self.image_shape,
            num_classes=self.num_classes,
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
        saved = saved_config(directory, checkpoint)
        if config is not None:
            check_same_trial(directory, saved=saved, given=config)
        run = cls(saved if config is None else config)
        run.model.load_state_dict(checkpoint.model)
        if run.average is not None:
            run.average.restore(checkpoint.average)
        run.optimizer.load_state_dict(dict(checkpoint.optimizer))
        run.streams.restore(dict(checkpoint.streams))
        run.learned = {
            tap: LearnedTemperature(*(value.to(run.device) for value in pair))
            for tap, pair in checkpoint.temperatures.items()
        }
        run.pgd_accuracy = checkpoint.pgd_accuracy
        run.epoch = checkpoint.epoch
        return run


def _pixel_statistics(train: Split, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = train.pixel_statistics()
    if 0 in std:
        reason = f"all training images have one value in channel {std.index(0)}"
        raise DatasetDamaged(name, reason, "there is nothing to learn from; look at the files")
    return mean, std
