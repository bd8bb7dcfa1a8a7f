"""Classifier in training: its epochs, and the state that a checkpoint keeps between them."""

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor

from trainables.attacks import overfitted, pgd_accuracy
from trainables.config.trial import TrialConfig
from trainables.data import Split, load_splits
from trainables.data.augmentation.augmentation import Augmentation, augment
from trainables.data.batching import class_balanced, shuffled
from trainables.data.class_names import class_names
from trainables.engine.checkpoint import Checkpoint
from trainables.engine.epoch_loop import EpochLoop
from trainables.engine.guards import LossMonitor
from trainables.engine.optimization.optimization import (
    WeightAverage,
    average_step,
    build_optimizer,
    clip_gradients,
    learning_rate,
    rate_shares,
    set_rate,
)
from trainables.engine.optimization.weight_perturbation import WeightPerturbation
from trainables.engine.padding_guard import guarding
from trainables.engine.placement import Placement, placement_of
from trainables.engine.resume import inherited, read_parent, read_trial
from trainables.errors import AttackOverfitted, ConfigError, DatasetDamaged, Diverged, Problem
from trainables.evaluation.core.own_metrics import own_metrics
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels, logits
from trainables.evaluation.core.validation import probe, validate
from trainables.models import TappedClassifier, build
from trainables.models.loading import check_weights
from trainables.regularizers.resolved_methods import Methods, draw
from trainables.regularizers.resolved_terms import check_first_step
from trainables.seeding import Streams, generator, global_streams
from trainables.tasks.classifier.objective import Loss, step_loss

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from trainables.regularizers.protocol import Memory

__all__ = ["ClassifierRun", "inherit", "restore", "start"]

Path = str | os.PathLike[str]
OVERFITTING_IMAGES = 256


@final
class ClassifierRun:
    """Classifier in training, with its optimizer, data and random streams.

    The data stay on the device; a batch is an index_select.
    """

    evaluation_batch_size = BATCH_SIZE

    def __init__(self, config: TrialConfig, placement: Placement) -> None:
        splits = load_splits(config.data)
        mean, std = _pixel_statistics(splits.train, config.data.name)
        self.config, self.placement, device = config, placement, placement.device
        self.data, self.batch_size = config.data, config.batch_size
        self.image_shape, self.num_classes = splits.image_shape, splits.num_classes
        self.class_names = class_names(config.data)
        self.labels_N = splits.train.labels_N
        self.train_split, self.val_split = splits.train.to(device), splits.val.to(device)
        self.model = build(
            config.model,
            image_shape=splits.image_shape,
            num_classes=splits.num_classes,
            seed=config.seed,
            mean=mean,
            std=std,
            device=device,
        )
        self.methods = Methods.resolve(config, self.model, num_classes=splits.num_classes)
        self.own_metrics = own_metrics(config.metrics, num_classes=splits.num_classes)
        self.augmentation = Augmentation.from_config(config.data)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.rate_shares = rate_shares(self.optimizer, config.optimizer)
        self.perturbation = WeightPerturbation.of(config)
        decay = config.optimizer.ema_decay
        self.average = WeightAverage(self.model, decay=decay) if decay else None
        self.streams = Streams.from_seed(config.seed, device=device)
        self.memory: Mapping[str, Memory] | None = None  # before the first step
        self.pgd_accuracy: float | None = None
        if device.type == "cpu" and placement.precision == torch.bfloat16:
            with guarding(self.model), torch.no_grad():
                self.model.eval()(as_pixels(self.train_split.images_NCHW[:1]))
        if config.compile:
            for part in self.model.chain().values():
                part.compile()

    @property
    def evaluated_model(self) -> TappedClassifier:
        """Model with the averaged weights if the trial averages, else the trained model."""
        return self.model if self.average is None else cast("TappedClassifier", self.average.model)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches; all are full, and the images left out differ from epoch to epoch."""
        return max(1, len(self.train_split) // self.config.batch_size)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return the means of its loss terms.

        Raises:
            Diverged: a term of the loss is not finite.
            AttackOverfitted: accuracy under PGD fell by more than the trial allows.
            PeerLost: another process that trains the same trial does not answer.
        """
        started, share = time.perf_counter(), self.placement.share
        # Unless they are synchronised, statistics of a batch normalisation are each process's own within an epoch.
        share.copy_from_first(chain(self.model.parameters(), self.model.buffers()))
        self.model.train()
        order_SB = self.order().to(self.placement.device)
        monitor = LossMonitor(epoch)
        with self._global_streams(f"training rank {share.rank}" if share.rank else "training", epoch):
            for step, indices_B in enumerate(order_SB, start=(epoch - 1) * self.batches_per_epoch):
                monitor.record(self._step(indices_B, step=step))
            means = monitor.means()
            images_per_s = order_SB.numel() / (time.perf_counter() - started)
            metrics = {f"train/{term}": value for term, value in means.items()} | {"time/images_per_s": images_per_s}
            return metrics | self._attack_overfitting(order_SB.flatten()[:OVERFITTING_IMAGES], epoch=epoch)

    def evaluate_epoch(self, epoch: int) -> dict[str, float]:
        """Evaluate the model on the validation split.

        Raises:
            Diverged: the likelihood is not finite.
            ConfigError: a user's own metric raises, or returns what is no number.
        """
        with self._global_streams("evaluation", epoch):
            return self.evaluate_logits(logits(self.evaluated_model, self.val_split), epoch=epoch)

    def evaluate_logits(self, logits_NK: Tensor, *, epoch: int) -> dict[str, float]:
        """Evaluate the logits of the evaluated model on the validation split, and the model itself where it is due.

        Raises:
            Diverged, ConfigError: as `evaluate_epoch`.
        """
        settings, labels_N = self.config.evaluation, self.val_split.labels_N
        metrics = validate(logits_NK, labels_N)
        if not math.isfinite(metrics["val/nll"]):
            raise Diverged(epoch, self.batches_per_epoch, "val/nll")
        for metric in self.own_metrics:
            metrics |= metric.measure(logits_NK, labels_N, seed=self.config.seed, epoch=epoch)
        if epoch == self.config.epochs or epoch in settings.epochs:
            metrics |= probe(self.evaluated_model, self.val_split, settings=settings, snnl=self.config.snnl)
        return metrics

    def _global_streams(self, phase: str, epoch: int) -> AbstractContextManager[None]:
        """Seed the global generators, from which dropout and a user's code draw, so an epoch depends on no other."""
        model = self.config.model
        if not (model.is_own or model.dropout or self.config.has_user_terms):
            return nullcontext()
        return global_streams(self.config.seed, f"{phase} {epoch}", device=self.placement.device)

    def order(self) -> Tensor:
        """Sample the indices of each batch of the next epoch, (steps, B), on the host.

        Raises:
            ConfigError: a batch that the images or the workers cannot make.
        """
        classes, size = self.config.classes_per_batch, min(self.config.batch_size, len(self.train_split))
        if size % self.placement.share.world_size:
            raise ConfigError([_indivisible(size, self.placement.share.world_size)])
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

    def _step(self, indices_B: Tensor, *, step: int) -> "Mapping[str, Tensor]":
        x_BCHW, y_B = self._images(indices_B)
        x_BCHW = augment(x_BCHW, settings=self.augmentation, generator=self.streams.augmentation)
        draws = draw(x_BCHW, methods=self.methods, streams=self.streams)
        loss_of = partial(
            step_loss,
            self.model,
            x_BCHW,
            y_B,
            num_classes=self.num_classes,
            methods=self.methods,
            draws=draws,
            memory=self.memory,
            seed=self.config.seed,
            step=step,
            share=self.placement.share,
        )
        buffers = [] if self.perturbation is None else [buffer.clone() for buffer in self.model.buffers()]
        with self.placement.autocast():
            loss = loss_of()
        if self.memory is None:
            check_first_step(self.methods.terms, loss.terms, self.model)
        if self.perturbation is None:
            terms = self._differentiate(loss)
        else:
            with self.perturbation.applied(self.model, loss.total, share=self.placement.share):
                for buffer, value in zip(self.model.buffers(), buffers, strict=True):
                    buffer.copy_(value)
                with self.placement.autocast():
                    loss = loss_of(x_adversarial=loss.x_adversarial)
                terms = self._differentiate(loss)
        self._descend(step=step)
        self.memory = loss.memory
        return terms

    def _differentiate(self, loss: Loss) -> "Mapping[str, Tensor]":
        """Compute gradients, and return the terms of the loss; the means of both, where processes share the batch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        return average_step(self.model, {**loss.terms, "loss": loss.total}, share=self.placement.share)

    def _descend(self, *, step: int) -> None:
        """Take one step down the gradient."""
        settings, steps = self.config.optimizer, self.batches_per_epoch
        rate = learning_rate(settings, step, total_steps=self.config.epochs * steps, steps_per_epoch=steps)
        set_rate(self.optimizer, rate, shares=self.rate_shares)
        clip_gradients(self.model, settings)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)

    def _attack_overfitting(self, indices_B: Tensor, *, epoch: int) -> dict[str, float]:
        """Return the accuracy under PGD on one batch of training images, if the training is adversarial; at rank 0."""
        settings = self.config.adversarial
        if not self.methods.attacking or self.placement.share.rank:
            return {}
        x_BCHW, y_B = self._images(indices_B)
        noise = generator(self.config.seed, f"overfitting {epoch - 1}", device=self.placement.device)
        now = float(
            pgd_accuracy(self.model, x_BCHW, y_B, epsilon=settings.epsilon, norm=settings.norm, generator=noise)
        )
        return self.check_attack(now, epoch=epoch)

    def check_attack(self, now: float, *, epoch: int) -> dict[str, float]:
        """Remember the accuracy under PGD after an epoch, and return it as a metric.

        Raises:
            AttackOverfitted: it fell by more than the trial allows.
        """
        before, self.pgd_accuracy = self.pgd_accuracy, now
        limit = self.config.adversarial.max_robust_drop
        if before is not None and limit is not None and overfitted(before, now, drop=limit):
            raise AttackOverfitted(epoch, before, now)
        return {"train/pgd_accuracy": now}

    def state(self) -> dict[str, Any]:
        """Return the fields of a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "average": {} if self.average is None else self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "streams": self.streams.state(),
            "memory": dict(self.memory or {}),
            "pgd_accuracy": self.pgd_accuracy,
            "image_shape": self.image_shape,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from the state in a checkpoint."""
        self.model.load_state_dict(checkpoint.model)
        if self.average is not None:
            self.average.restore(checkpoint.average)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.streams.restore(dict(checkpoint.streams))
        self.memory = {
            place: {name: value.to(self.placement.device) for name, value in memory.items()}
            for place, memory in checkpoint.memory.items()
        }
        self.pgd_accuracy = checkpoint.pgd_accuracy


def start(config: TrialConfig, *, placement: Placement | None = None) -> EpochLoop[ClassifierRun]:
    """Return a trial before its first epoch; without a `placement`, on the device that it names."""
    return EpochLoop(ClassifierRun(config, placement or placement_of(config)))


def restore(
    directory: Path, *, config: TrialConfig | None = None, placement: Placement | None = None
) -> EpochLoop[ClassifierRun]:
    """Return a trial that continues from a checkpoint.

    `config`, if present, must describe the same trial; the place of the data and the device may differ.

    Raises:
        CheckpointError: the checkpoint cannot be read, or belongs to another trial.
    """
    checkpoint, config = read_trial(TrialConfig, directory, config=config)
    run = ClassifierRun(config, placement or placement_of(config))
    check_weights(run.model, checkpoint.model, name=config.model.name, directory=directory)
    return EpochLoop(run, checkpoint=checkpoint)


def inherit(
    directory: Path, *, config: TrialConfig, changed: "Collection[str]", placement: Placement | None = None
) -> EpochLoop[ClassifierRun]:
    """Return a trial that continues another one's training with its own settings; see `trainables.engine.resume`.

    Raises:
        CheckpointError: the checkpoint cannot be read, or its trial differs in more than its seed and ``changed``.
    """
    parent = read_parent(TrialConfig, directory, config=config, changed=changed)
    run = ClassifierRun(config, placement or placement_of(config))
    check_weights(run.model, parent.model, name=config.model.name, directory=directory)
    return EpochLoop(run, checkpoint=inherited(parent, run.state(), keeps_groups=config.optimizer.is_own))


def _indivisible(size: int, workers: int) -> Problem:
    requirement = f"must be a multiple of the {workers} workers of a trial, as each trains an equal share, got {size}"
    return Problem("batch_size", f"{requirement}; choose another, or other resources.workers")


def _pixel_statistics(train: Split, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std = train.pixel_statistics()
    if 0 in std:
        reason = f"all training images have one value in channel {std.index(0)}"
        raise DatasetDamaged(name, reason, "check the files, as no image carries information in it")
    return mean, std
