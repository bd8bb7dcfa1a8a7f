"""One epoch of all members, step by step together: each keeps its own order of images, variations and draws.

Random numbers come from each member's own streams, in the order of a trial that trains alone, so its batches are the
same to the bit. A loss that is not finite is detected at the end of the epoch; it spoils its own row alone.
Shapes: M members, T steps, B images of a batch, C channels, H by W pixels, N validation images, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from trainables.attacks.balls import random_start_noise
from trainables.batched.attack import Climb, attacked
from trainables.batched.average import StackedAverage
from trainables.batched.layers import Values
from trainables.batched.network import StackedNetwork
from trainables.batched.objective import StackedBatch, StackedLoss, stacked_loss
from trainables.batched.steppers import STEPPERS, clipped
from trainables.batched.weights import Layout, StackedWeights, taken
from trainables.data.augmentation.augmentation import augment
from trainables.engine.optimization.optimization import learning_rate, set_rate
from trainables.errors import Diverged
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels
from trainables.models.staged import StagedClassifier
from trainables.regularizers.resolved_methods import draw
from trainables.seeding import generator
from trainables.tasks.classifier.run import OVERFITTING_IMAGES, ClassifierRun

__all__ = ["StackedEpoch"]

# Members that are attacked together at the end of an epoch, each with `OVERFITTING_IMAGES` images.
_ATTACKED_TOGETHER = 8
_SHARED = ("mean", "std")


@final
class StackedEpoch:
    """Members in one epoch: their runs, and their weights, moments and averages as rows.

    It takes the state of the runs when it is built, and `unload` gives it back. `orders` has the indices of each run's
    batches, as `ClassifierRun.order` samples them.
    """

    def __init__(self, runs: Sequence[ClassifierRun], epochs: Sequence[int], orders: Sequence[Tensor]) -> None:
        models = [run.model for run in runs]
        if not isinstance(models[0], StagedClassifier):
            raise TypeError(f"model: must be a network of this package to be batched, got {type(models[0]).__name__}")
        self.runs, self.epochs, self._configs = runs, epochs, [run.config.optimizer for run in runs]
        self._network = StackedNetwork(models[0])
        self._weights = StackedWeights(models, shared=_SHARED)
        layout, optimizers = self._weights.layout, [run.optimizer for run in runs]
        self._stepper = STEPPERS[self._configs[0].name](self._configs, optimizers, layout)
        decays = [config.ema_decay for config in self._configs]
        self._average = StackedAverage([run.average for run in runs], decays, layout)
        self._memories = [run.memory or {} for run in runs]
        self._cleared_P = _cleared(models[0], layout)
        self._first = runs[0]
        self._orders_TMB = torch.stack(list(orders), 1).to(self._first.placement.device)

    def train(self) -> "list[Mapping[str, float] | Diverged]":
        """Train all steps; return the means of each member's terms, or where it diverged."""
        names: list[tuple[str, ...]] = []
        steps = []
        for step, indices_MB in enumerate(self._orders_TMB):
            loss = self._loss(indices_MB)
            self._descend(loss, step=step)
            self._memories = list(loss.memories)
            names = [tuple(terms) for terms in loss.terms]
            steps.append(torch.stack([value.detach() for terms in loss.terms for value in terms.values()]))
        values_TX = torch.stack(steps).cpu()
        own = torch.split(values_TX, [len(terms) for terms in names], 1)
        parts = zip(self.epochs, names, own, strict=True)
        return [_means(values_TX, terms, epoch=epoch) for epoch, terms, values_TX in parts]

    def unload(self, member: int) -> None:
        """Write the state of a member into its own run."""
        run, steps = self.runs[member], len(self._orders_TMB)
        self._weights.unload(member, run.model)
        self._stepper.unload(member, run.optimizer)
        set_rate(run.optimizer, self._rates(steps - 1)[member], shares=run.rate_shares)
        self._average.unload(member, run.average, run.model)
        run.memory = self._memories[member]

    @torch.no_grad()
    def logits(self, members: Sequence[int]) -> Tensor:
        """Return the logits of these members' evaluated models on their validation images (R, N, K)."""
        values = taken(self._evaluated(self._average.evaluated(self._weights.rows_MP.detach())), members)
        images = torch.split(self._first.val_split.images_NCHW, max(1, BATCH_SIZE // len(members)))
        device = self._first.placement.device.type
        with torch.autocast(device, enabled=False):
            parts = [as_pixels(part).expand(len(members), *part.shape) for part in images]
            return torch.cat([self._network.features(part, values).logits for part in parts], 1)

    def pgd_accuracies(self, members: Sequence[int]) -> dict[int, float]:
        """Return the accuracy under PGD on training images of those of the members whose training is adversarial."""
        attacking = [member for member in members if self.runs[member].methods.attacking]
        chunks = [attacking[i : i + _ATTACKED_TOGETHER] for i in range(0, len(attacking), _ATTACKED_TOGETHER)]
        return {member: value for chunk in chunks for member, value in self._pgd_accuracies(chunk).items()}

    def _pgd_accuracies(self, members: Sequence[int]) -> dict[int, float]:
        values = taken(self._evaluated(self._weights.rows_MP.detach()), members)
        indices_MB = self._orders_TMB.transpose(0, 1).flatten(1)[list(members), :OVERFITTING_IMAGES]
        x_MBCHW, y_MB = self._images(indices_MB)
        settings = [self.runs[member].config.adversarial for member in members]
        noise = [
            random_start_noise(
                x_BCHW,
                epsilon=own.epsilon,
                norm=own.norm,
                generator=generator(
                    self.runs[member].config.seed, f"overfitting {self.epochs[member] - 1}", device=x_BCHW.device
                ),
            )
            for x_BCHW, own, member in zip(x_MBCHW, settings, members, strict=True)
        ]
        climbs = [Climb.of_guard(own) for own in settings]
        x_MBCHW = attacked(self._network, values, x_MBCHW, y_MB, climbs=climbs, noise=noise)
        with torch.no_grad(), torch.autocast(x_MBCHW.device.type, enabled=False):
            right_MB = self._network.features(x_MBCHW, values).logits.argmax(2) == y_MB
        return dict(zip(members, right_MB.float().mean(1).tolist(), strict=True))

    def _loss(self, indices_MB: Tensor) -> StackedLoss:
        x_MBCHW, y_MB = self._images(indices_MB)
        if any(not run.augmentation.is_identity for run in self.runs):
            x_MBCHW = torch.stack(
                [
                    augment(x_BCHW, settings=run.augmentation, generator=run.streams.augmentation)
                    for x_BCHW, run in zip(x_MBCHW, self.runs, strict=True)
                ]
            )
        draws = [
            draw(x_BCHW, methods=run.methods, streams=run.streams)
            for x_BCHW, run in zip(x_MBCHW, self.runs, strict=True)
        ]
        methods = [run.methods for run in self.runs]
        batch = StackedBatch(x_MBCHW, y_MB, methods, draws, self._memories, self._first.num_classes)
        return stacked_loss(self._network, self._weights, batch, autocast=self._first.placement.autocast())

    def _descend(self, loss: StackedLoss, *, step: int) -> None:
        rows_MP = self._weights.rows_MP
        (slopes_MP,) = torch.autograd.grad(loss.total, rows_MP)
        if self._cleared_P is not None:
            slopes_MP = slopes_MP.masked_fill(self._cleared_P, 0.0)
        self._stepper.step(rows_MP, clipped(slopes_MP, self._configs), rates=self._rates(step))
        self._average.update(rows_MP)

    def _rates(self, step: int) -> list[float]:
        """Return the learning rate of each member at a step of this epoch, counted from 0."""
        steps = len(self._orders_TMB)
        return [
            learning_rate(
                run.config.optimizer,
                (epoch - 1) * steps + step,
                total_steps=run.config.epochs * steps,
                steps_per_epoch=steps,
            )
            for run, epoch in zip(self.runs, self.epochs, strict=True)
        ]

    def _images(self, indices_MB: Tensor) -> tuple[Tensor, Tensor]:
        split, flat = self._first.train_split, indices_MB.flatten()
        x_MBCHW = torch.unflatten(as_pixels(split.images_NCHW.index_select(0, flat)), 0, tuple(indices_MB.shape))
        return x_MBCHW, split.labels_N.index_select(0, flat).view_as(indices_MB)

    def _evaluated(self, rows_MP: Tensor) -> Values:
        """Return the values of rows in eval mode, without gradient."""
        return Values(len(rows_MP), self._weights.layout.split(rows_MP), self._weights.buffers)


def _cleared(model: StagedClassifier, layout: Layout) -> Tensor | None:
    """Return where hooks of a model's parameters clear the gradient (P,), as those of `guarding` do, or None."""
    parameters = list(model.parameters())
    with torch.enable_grad():
        slopes = torch.autograd.grad(torch.stack([parameter.sum() for parameter in parameters]).sum(), parameters)
    cleared_P = layout.row(slopes) == 0
    return cleared_P if bool(cleared_P.any()) else None


def _means(values_TX: Tensor, terms: Sequence[str], *, epoch: int) -> "Mapping[str, float] | Diverged":
    """Return the mean of each term over the steps, or the first step and term that is not finite."""
    finite_TX = values_TX.isfinite()
    if not bool(finite_TX.all()):
        step = int(finite_TX.all(1).int().argmin())
        return Diverged(epoch, step + 1, terms[finite_TX[step].tolist().index(False)])
    return dict(zip(terms, values_TX.double().mean(0).tolist(), strict=True))
