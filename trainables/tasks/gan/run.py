"""One trial of a generative adversarial network: what an epoch does, how it is saved, and how all are run.

>>> result = train_gan(GanConfig.from_point({"epochs": 1, "evaluation.images": 100}))
>>> 0 <= result.metrics["val/real_fake_entanglement"] <= result.metrics["val/real_fake_chance"]
True
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor

from trainables.attacks import evaluating
from trainables.data import load_splits, shape_of
from trainables.data.augmentation import Augmentation, augment
from trainables.data.batching import shuffled
from trainables.engine import checkpoint as state
from trainables.engine.device import resolve_device
from trainables.engine.epoch_report import EpochReport
from trainables.engine.guards import TermWatch, memory_guard
from trainables.engine.resuming import check_same_trial, description_of, to_the_end
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels, balanced_subset
from trainables.seeding import generator
from trainables.tasks.gan.classifier import classifier_of
from trainables.tasks.gan.config import GanConfig
from trainables.tasks.gan.measures import modes, predicted_classes, real_fake_entanglement
from trainables.tasks.gan.networks import Generator, build_networks
from trainables.tasks.gan.pictures import entanglement_by_epoch, sheet_of_images
from trainables.tasks.gan.step import Optimizers, gan_step
from trainables.tasks.gan.streams import GanStreams

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["GanResult", "GanRun", "load_generator", "synthetic_images", "train_gan"]

Path = str | os.PathLike[str]


@final
class GanRun:
    """One trial in progress: between epochs it can be saved, and restored elsewhere.

    `epoch` counts the epochs that are complete. What is measured draws from streams of its own, the same in every
    epoch, so an epoch more or less measured changes no weight.
    """

    def __init__(self, config: GanConfig) -> None:
        splits = load_splits(config.data)
        self.config = config
        self.epoch = 0
        self.device = resolve_device(config.device)
        self.image_shape, self.num_classes = splits.image_shape, splits.num_classes
        self.train_split = splits.train.to(self.device)
        self.networks = build_networks(config.gan, image_shape=self.image_shape, seed=config.seed, device=self.device)
        self.optimizers = Optimizers(
            _adam(self.networks.generator, config.gan.generator_lr, beta_1=config.gan.beta_1),
            _adam(self.networks.discriminator, config.gan.discriminator_lr, beta_1=config.gan.beta_1),
        )
        self.augmentation = Augmentation.from_config(config.data)
        self.streams = GanStreams.from_seed(config.seed)
        self.classifier = classifier_of(config)
        # As many of either: each is balanced over the classes, and n is what both can give.
        val, other = (balanced_subset(split, size=config.evaluation.images) for split in (splits.val, splits.train))
        n = min(len(val), len(other))
        self.real_NCHW, other_NCHW = (as_pixels(split.images_NCHW[:n]).to(self.device) for split in (val, other))
        self.ceiling = real_fake_entanglement(self.real_NCHW, other_NCHW, config.evaluation.distance).value

    @property
    def finished(self) -> bool:
        """Whether every epoch is complete."""
        return self.epoch >= self.config.epochs

    def run_epoch(self) -> EpochReport:
        """Train one epoch and measure it.

        Raises:
            Diverged: a loss is not finite.
            OutOfMemory: a step, or its evaluation, did not fit.
            ValueError: the run is finished.
        """
        if self.finished:
            raise ValueError(f"run: all {self.config.epochs} epochs are complete; start a new GanRun")
        started = time.perf_counter()
        with memory_guard("training", self.config.batch_size, device=self.device):
            metrics = self._train_epoch()
        with memory_guard("evaluation", BATCH_SIZE, device=self.device):
            metrics |= self._evaluate_epoch()
        self.epoch += 1
        epoch_s = time.perf_counter() - started
        gpu_s = epoch_s if self.device.type == "cuda" else 0.0
        return EpochReport(self.epoch, metrics | {"time/epoch_s": epoch_s, "cost/gpu_s": gpu_s})

    def synthetic_images(self, count: int) -> Tensor:
        """The images (N, C, H, W) in [0, 1] that an epoch is measured by: equal noise in every epoch."""
        return synthetic_images(self.networks.generator, count, seed=self.config.seed)

    def _train_epoch(self) -> dict[str, float]:
        started = time.perf_counter()
        size = min(self.config.batch_size, len(self.train_split))
        order_SB = shuffled(len(self.train_split), size, generator=self.streams.order).to(self.device)
        watch = TermWatch(self.epoch + 1)
        for network in self.networks:
            network.train()
        for indices_B in order_SB:
            watch.see(self._step(indices_B))
        metrics = {f"gan/{term}": value for term, value in watch.means().items()}
        return metrics | {"time/images_per_s": order_SB.numel() / (time.perf_counter() - started)}

    def _step(self, indices_B: Tensor) -> dict[str, Tensor]:
        x_BCHW = as_pixels(self.train_split.images_NCHW.index_select(0, indices_B))
        x_BCHW = augment(x_BCHW, settings=self.augmentation, generator=self.streams.augmentation)
        shape = len(indices_B), self.config.gan.latent_dim
        latents_BZ = torch.randn(shape, generator=self.streams.noise).to(self.device)
        return gan_step(
            self.networks, x_BCHW, latents_BZ=latents_BZ, optimizers=self.optimizers, settings=self.config.gan
        )

    def _evaluate_epoch(self) -> dict[str, float]:
        settings = self.config.evaluation
        fake_NCHW = self.synthetic_images(max(len(self.real_NCHW), settings.mode_images))
        found = real_fake_entanglement(
            self.real_NCHW, fake_NCHW[: len(self.real_NCHW)], self.config.evaluation.distance
        )
        classes_N = predicted_classes(self.classifier, fake_NCHW[: settings.mode_images])
        spread = modes(classes_N, num_classes=self.num_classes, share=settings.mode_share)
        return {
            "val/real_fake_entanglement": found.value,
            "val/real_anchors_entanglement": found.real_anchors,
            "val/fake_anchors_entanglement": found.fake_anchors,
            "val/real_fake_recall": found.recall,
            "val/real_fake_precision": found.precision,
            "val/real_fake_chance": found.chance,
            "val/real_fake_ceiling": self.ceiling,
            "val/mode_kl": spread.kl,
            "val/modes_covered": float(spread.covered),
        }

    def sheet(self) -> "Figure":
        """The synthetic images that an epoch is measured by, a row for each class."""
        images_NCHW = self.synthetic_images(self.config.evaluation.mode_images)
        classes_N = predicted_classes(self.classifier, images_NCHW)
        return sheet_of_images(images_NCHW, classes_N, num_classes=self.num_classes)

    def save(self, directory: Path) -> None:
        """Write a checkpoint of the complete epochs into `directory`."""
        checkpoint = state.Checkpoint(
            config=self.config.model_dump_json(),
            epoch=self.epoch,
            model={name: network.state_dict() for name, network in self.networks._asdict().items()},
            optimizer={name: optimizer.state_dict() for name, optimizer in self.optimizers._asdict().items()},
            streams=self.streams.state(),
            image_shape=self.image_shape,
            num_classes=self.num_classes,
        )
        state.save(directory, checkpoint)

    @classmethod
    def restore(cls, directory: Path, *, config: GanConfig | None = None) -> Self:
        """Continue from a checkpoint.

        `config`, if given, must describe the same trial; where the data lie and the device may differ.

        Raises:
            CheckpointError: the checkpoint cannot be read, or belongs to another trial.
        """
        checkpoint = state.load(directory)
        saved = _saved_config(directory, checkpoint)
        if config is not None:
            check_same_trial(directory, saved=saved, given=config)
        run = cls(saved if config is None else config)
        for name, network in run.networks._asdict().items():
            network.load_state_dict(checkpoint.model[name])
        for name, optimizer in run.optimizers._asdict().items():
            optimizer.load_state_dict(checkpoint.optimizer[name])
        run.streams.restore(checkpoint.streams)
        run.epoch = checkpoint.epoch
        return run


@dataclass(frozen=True, slots=True)
class GanResult:
    """The run after its last epoch, and a report for each epoch that this call trained."""

    run: GanRun
    reports: tuple[EpochReport, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Those of the last epoch; empty if there was none left to train."""
        return self.reports[-1].metrics if self.reports else {}

    def figures(self) -> dict[str, "Figure"]:
        """'entanglement' by epoch, and a 'sheet' of synthetic images."""
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
        DatasetDamaged: the data set is not what it should be.
        Diverged: a loss stopped being finite.
        OutOfMemory: a step did not fit into the device's memory.
        CheckpointError: `resume` cannot be read or belongs to another trial.
    """
    run = GanRun(config) if resume is None else GanRun.restore(resume, config=config)
    return GanResult(run, to_the_end(run, report=report, checkpoint=checkpoint))


@torch.no_grad()
def synthetic_images(network: Generator, count: int, *, seed: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] of a generator in eval mode; equal seeds, equal noise."""
    latents_NZ = torch.randn(count, network.latent_dim, generator=generator(seed, "gan evaluation"))
    device = network.seed.weight.device
    with evaluating(network):
        return torch.cat([network(latents_BZ.to(device)) for latents_BZ in torch.split(latents_NZ, BATCH_SIZE)])


def load_generator(directory: Path, *, device: torch.device | str = "cpu") -> Generator:
    """The generator of a checkpoint, in eval mode; no data set is read, but the folder of an image_folder.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    checkpoint = state.load(directory)
    config = _saved_config(directory, checkpoint)
    channels, height, width = checkpoint.image_shape or shape_of(config.data)[0]
    networks = build_networks(config.gan, image_shape=(channels, height, width))
    networks.generator.load_state_dict(checkpoint.model["generator"])
    return networks.generator.to(device).eval()


def _adam(network: torch.nn.Module, lr: float, *, beta_1: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=lr, betas=(beta_1, 0.999), fused=True)


def _saved_config(directory: Path, checkpoint: state.Checkpoint) -> GanConfig:
    return description_of(GanConfig, directory, checkpoint, called="trial of a generative adversarial network")
