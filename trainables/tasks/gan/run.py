"""Generative adversarial network in training: its epochs, the state in a checkpoint, and `train_gan`.

>>> result = train_gan(GanConfig.from_point({"epochs": 1, "evaluation.images": 100}))
>>> 0 <= result.metrics["val/real_fake_entanglement"] <= result.metrics["val/real_fake_chance"]
True
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from trainables.attacks import evaluating
from trainables.data import load_splits, shape_of
from trainables.data.augmentation.augmentation import Augmentation, augment
from trainables.data.batching import shuffled
from trainables.engine import checkpoint as state
from trainables.engine.checkpoint import Checkpoint
from trainables.engine.epoch_loop import EpochLoop
from trainables.engine.epoch_report import EpochReport
from trainables.engine.guards import LossMonitor
from trainables.engine.placement import Placement, placement_of
from trainables.engine.resume import read_trial, saved_config
from trainables.errors import ConfigError, Problem
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels, balanced_subset
from trainables.seeding import generator
from trainables.tasks.gan.classifier import classifier_of
from trainables.tasks.gan.config import LEAST_IMAGES, GanConfig
from trainables.tasks.gan.feature_space import FeatureSpace
from trainables.tasks.gan.figures import entanglement_by_epoch, sheet_of_images
from trainables.tasks.gan.measures import modes, predicted_classes, real_fake_entanglement
from trainables.tasks.gan.networks import Generator, build_networks
from trainables.tasks.gan.step import Optimizers, gan_step
from trainables.tasks.gan.streams import GanStreams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["GanResult", "GanRun", "load_generator", "synthetic_images", "train_gan"]

Path = str | os.PathLike[str]


@final
class GanRun:
    """Generator and discriminator in training, with their optimizers, data and random streams.

    Evaluation draws from random streams of its own, the same in every epoch, so it changes no weight.
    """

    evaluation_batch_size = BATCH_SIZE

    def __init__(self, config: GanConfig, placement: Placement) -> None:
        splits = load_splits(config.data)
        self.config, self.placement, device = config, placement, placement.device
        self.data, self.batch_size = config.data, config.batch_size
        self.image_shape, self.num_classes = splits.image_shape, splits.num_classes
        self.train_split = splits.train.to(device)
        self.networks = build_networks(config.gan, image_shape=self.image_shape, seed=config.seed, device=device)
        self.optimizers = Optimizers(
            _adam(self.networks.generator, config.gan.generator_lr, beta_1=config.gan.beta_1),
            _adam(self.networks.discriminator, config.gan.discriminator_lr, beta_1=config.gan.beta_1),
        )
        self.augmentation = Augmentation.from_config(config.data)
        self.streams = GanStreams.from_seed(config.seed)
        self.classifier = classifier_of(config, placement)
        # Equally many of both: each subset is balanced over the classes, and n is the smaller size.
        val, other = (balanced_subset(split, size=config.evaluation.images) for split in (splits.val, splits.train))
        n = min(len(val), len(other))
        if n < LEAST_IMAGES:
            reason = (
                f"must leave at least {LEAST_IMAGES} class-balanced images to compare, got {n} of {config.data.name}"
            )
            raise ConfigError([Problem("evaluation.images", f"{reason}; use a data set with more of the rarest class")])
        self.real_NCHW, other_NCHW = (as_pixels(split.images_NCHW[:n]).to(device) for split in (val, other))
        distance = config.evaluation.distance
        self.ceiling = real_fake_entanglement(self.real_NCHW, other_NCHW, distance).value
        self.feature_space = (
            FeatureSpace.of(self.classifier, self.real_NCHW, other_NCHW, distance)
            if config.evaluation.feature_space == "classifier"
            else None
        )

    def synthetic_images(self, count: int) -> Tensor:
        """Return the images (N, C, H, W) in [0, 1] for evaluation, from the same noise in every epoch."""
        return synthetic_images(self.networks.generator, count, seed=self.config.seed)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch and return the means of its loss terms.

        Raises:
            Diverged: a loss is not finite.
        """
        started = time.perf_counter()
        size = min(self.config.batch_size, len(self.train_split))
        order_SB = shuffled(len(self.train_split), size, generator=self.streams.order).to(self.placement.device)
        monitor = LossMonitor(epoch)
        for network in self.networks:
            network.train()
        for indices_B in order_SB:
            monitor.record(self._step(indices_B))
        metrics = {f"gan/{term}": value for term, value in monitor.means().items()}
        return metrics | {"time/images_per_s": order_SB.numel() / (time.perf_counter() - started)}

    def _step(self, indices_B: Tensor) -> dict[str, Tensor]:
        x_BCHW = as_pixels(self.train_split.images_NCHW.index_select(0, indices_B))
        x_BCHW = augment(x_BCHW, settings=self.augmentation, generator=self.streams.augmentation)
        shape = len(indices_B), self.config.gan.latent_dim
        latents_BZ = torch.randn(shape, generator=self.streams.noise).to(self.placement.device)
        return gan_step(
            self.networks, x_BCHW, latents_BZ=latents_BZ, optimizers=self.optimizers, settings=self.config.gan
        )

    def evaluate_epoch(self, _epoch: int) -> dict[str, float]:
        """Compare the synthetic images with the validation split."""
        settings = self.config.evaluation
        fake_NCHW = self.synthetic_images(max(len(self.real_NCHW), settings.mode_images))
        as_many_NCHW = fake_NCHW[: len(self.real_NCHW)]
        quality = real_fake_entanglement(self.real_NCHW, as_many_NCHW, settings.distance)
        in_features = {} if self.feature_space is None else self.feature_space.metrics(as_many_NCHW)
        classes_N = predicted_classes(self.classifier, fake_NCHW[: settings.mode_images])
        spread = modes(classes_N, num_classes=self.num_classes, share=settings.mode_share)
        return {
            "val/real_fake_entanglement": quality.value,
            "val/real_anchors_entanglement": quality.real_anchors,
            "val/fake_anchors_entanglement": quality.fake_anchors,
            "val/real_fake_recall": quality.recall,
            "val/real_fake_precision": quality.precision,
            "val/real_fake_nn_accuracy": quality.nn_accuracy,
            "val/real_anchors_nn_accuracy": quality.real_nn,
            "val/fake_anchors_nn_accuracy": quality.fake_nn,
            "val/real_fake_chance": quality.chance,
            "val/real_fake_ceiling": self.ceiling,
            "val/mode_kl": spread.kl,
            "val/modes_covered": float(spread.covered),
            **in_features,
        }

    def sheet(self) -> "Figure":
        """Show the synthetic images of the evaluation, a row for each class."""
        images_NCHW = self.synthetic_images(self.config.evaluation.mode_images)
        classes_N = predicted_classes(self.classifier, images_NCHW)
        return sheet_of_images(images_NCHW, classes_N, num_classes=self.num_classes)

    def state(self) -> dict[str, Any]:
        """Return the fields of a checkpoint."""
        return {
            "model": {name: network.state_dict() for name, network in self.networks._asdict().items()},
            "optimizer": {name: optimizer.state_dict() for name, optimizer in self.optimizers._asdict().items()},
            "streams": self.streams.state(),
            "image_shape": self.image_shape,
            "num_classes": self.num_classes,
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue from the state in a checkpoint."""
        for name, network in self.networks._asdict().items():
            network.load_state_dict(checkpoint.model[name])
        for name, optimizer in self.optimizers._asdict().items():
            optimizer.load_state_dict(checkpoint.optimizer[name])
        self.streams.restore(checkpoint.streams)


def start(config: GanConfig, *, placement: Placement | None = None) -> EpochLoop[GanRun]:
    """Return a trial before its first epoch; without a `placement`, on the device that it names."""
    return EpochLoop(GanRun(config, placement or placement_of(config)))


def restore(
    directory: Path, *, config: GanConfig | None = None, placement: Placement | None = None
) -> EpochLoop[GanRun]:
    """Return a trial that continues from a checkpoint.

    `config`, if present, must describe the same trial; the place of the data and the device may differ.

    Raises:
        CheckpointError: the checkpoint cannot be read, or belongs to another trial.
    """
    checkpoint, config = read_trial(GanConfig, directory, config=config)
    return EpochLoop(GanRun(config, placement or placement_of(config)), checkpoint=checkpoint)


@dataclass(frozen=True, slots=True)
class GanResult:
    """Run after its last epoch, and a report for each epoch that this call trained."""

    run: GanRun
    reports: tuple[EpochReport, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the last epoch; empty if no epoch was left to train."""
        return self.reports[-1].metrics if self.reports else {}

    def figures(self) -> dict[str, "Figure"]:
        """Return the figures 'entanglement', by epoch, and 'sheet', of synthetic images."""
        return {"entanglement": entanglement_by_epoch(self.reports), "sheet": self.run.sheet()}


def train_gan(
    config: GanConfig,
    *,
    report: Callable[[EpochReport], None] | None = None,
    resume: Path | None = None,
    checkpoint: Path | None = None,
) -> GanResult:
    """Train to the last epoch; call `report` after each, and save to the directory `checkpoint` before.

    With `resume`, continue from that checkpoint directory: on CPU, with as many threads, the result
    is bit for bit that of a trial that was never interrupted.

    Raises:
        ConfigError: images that the networks cannot make, or no classifier of them in `gan.classifier`.
        DatasetMissing: the data set is not on this machine.
        DatasetDamaged: the data set is damaged.
        Diverged: a loss is not finite.
        OutOfMemory: a step did not fit into the device's memory.
        CheckpointError: `resume` cannot be read or belongs to another trial.
    """
    loop = start(config) if resume is None else restore(resume, config=config)
    return GanResult(loop.run, loop.run_all(report=report, checkpoint=checkpoint))


@torch.no_grad()
def synthetic_images(network: Generator, count: int, *, seed: int) -> Tensor:
    """Generate images (N, C, H, W) in [0, 1] in eval mode; equal seeds give equal noise."""
    latents_NZ = torch.randn(count, network.latent_dim, generator=generator(seed, "gan evaluation"))
    device = network.seed.weight.device
    with evaluating(network):
        return torch.cat([network(latents_BZ.to(device)) for latents_BZ in torch.split(latents_NZ, BATCH_SIZE)])


def load_generator(directory: Path, *, device: torch.device | str = "cpu") -> Generator:
    """Return the generator of a checkpoint, in eval mode; only the folder of an image_folder may be read.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    checkpoint = state.load(directory)
    config = saved_config(GanConfig, directory, checkpoint)
    channels, height, width = checkpoint.image_shape or shape_of(config.data)[0]
    networks = build_networks(config.gan, image_shape=(channels, height, width))
    networks.generator.load_state_dict(checkpoint.model["generator"])
    return networks.generator.to(device).eval()


def _adam(network: torch.nn.Module, lr: float, *, beta_1: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=lr, betas=(beta_1, 0.999), fused=True)
