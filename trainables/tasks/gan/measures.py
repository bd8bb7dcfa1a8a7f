"""Sample quality of synthetic images: entanglement with real images, recall, precision and covered classes.

Entanglement is the soft nearest neighbour loss in pixels of n real and n synthetic images at its minimising
temperature. It is near chance if they cannot be distinguished. If it is low, single anchors show the cause: a real
anchor among real neighbours is in a place that the generator misses; a synthetic anchor among synthetic neighbours
is collapsed or unlike any image. The mean loss of each kind does not separate the two causes, because a place with
too few synthetic images implies a place with too many. Let all n synthetic images be in the region of a part p of
the real ones. The mean of the real anchors, p log(1 + 1/p), is then above that of the synthetic anchors,
log(1 + p), although modes are missed. Therefore recall and precision count each anchor for at most chance: they are
p and log(1 + p) / log 2, which is larger.

At an infinite temperature both are 1 by construction. If the minimum is in that limit, they are measured at the finite
temperature at which the more separable kind of anchor has its lowest mean loss. Collapsed images are such a case:
their losses fall at a low temperature while those of the real anchors rise by more.

The 1-NN accuracy (Lopez-Paz and Oquab, ICLR 2017; Xu et al., 2018) needs no temperature: the fraction of anchors whose
nearest other image is of their own kind, 1/2 if both are of one distribution. Collapse and memorised images show as a
high fraction of synthetic and a low one of real anchors.
Shapes: N images, K classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.attacks import evaluating
from trainables.evaluation.core.prediction import BATCH_SIZE
from trainables.snnl import Distance, TemperatureMinimum, minimise_temperature, streaming_losses
from trainables.snnl.streaming import PointBank, bank_losses, bank_of, nearest_of_each_kind

__all__ = ["Modes", "RealFake", "modes", "predicted_classes", "real_fake_entanglement"]

# Temperatures in units of the usual nearest distance: from one neighbour to nearly all.
_TEMPERATURES = tuple(2.0**power for power in range(-8, 4))


@dataclass(frozen=True, slots=True)
class RealFake:
    """Mean loss in nats over all anchors, over the real and over the synthetic anchors, at one temperature.

    `value` is the mean of `real_anchors` and `fake_anchors`; `chance` is log((2n - 1) / (n - 1)) for all three.
    `recall` and `precision`, in [0, 1], are the means of min(loss, chance) / chance over real and synthetic anchors, at
    `temperature` or, if that is infinite, at a finite one. `real_nn` and `fake_nn` are the 1-NN accuracies of the real
    and of the synthetic anchors; a tie counts half.
    Compare at equal n only: the loss grows with fewer images.
    """

    value: float
    real_anchors: float
    fake_anchors: float
    recall: float
    precision: float
    chance: float
    temperature: float
    real_nn: float
    fake_nn: float

    @property
    def nn_accuracy(self) -> float:
        """Leave-one-out 1-NN accuracy over all anchors."""
        return (self.real_nn + self.fake_nn) / 2


@dataclass(frozen=True, slots=True)
class Modes:
    """Spread of synthetic images over classes: divergence to uniform in nats, and number of covered classes."""

    kl: float
    covered: int


@torch.no_grad()
def real_fake_entanglement(real_NCHW: Tensor, fake_NCHW: Tensor, distance: Distance = "sqeuclidean") -> RealFake:
    """Compute the loss with real images as one class and synthetic images as the other, equally many of each.

    Raises:
        ValueError: not as many of each, or fewer than two.

    >>> line = torch.arange(6.0)[:, None]
    >>> apart = real_fake_entanglement(line, line + 100)
    >>> apart.value, f"{apart.chance:.4f}"  # log(11 / 5)
    (0.0, '0.7885')
    """
    if len(real_NCHW) != len(fake_NCHW) or len(real_NCHW) < 2:
        raise ValueError(
            f"images: must be as many real as synthetic, at least 2, got {len(real_NCHW)} and {len(fake_NCHW)}"
        )
    features_ND = torch.cat([real_NCHW, fake_NCHW]).flatten(1)
    labels_N = torch.arange(2, device=features_ND.device).repeat_interleave(len(real_NCHW))
    minimum = minimise_temperature(features_ND, labels_N, distance)
    losses_2N = _losses(features_ND, labels_N, minimum, distance).view(2, -1)
    real, fake = losses_2N.mean(1).tolist()
    bank = bank_of(features_ND, labels_N, distance=distance)
    nearest_2N = nearest_of_each_kind(bank)
    if minimum.temperature == math.inf:
        losses_2N = _finite_losses(bank, nearest_2N)
    recall, precision = (losses_2N.clamp_max(minimum.chance) / minimum.chance).mean(1).tolist()
    real_nn, fake_nn = _own_kind_is_nearest(nearest_2N).view(2, -1).mean(1).tolist()
    return RealFake(
        *(minimum.value, real, fake, recall, precision),
        chance=minimum.chance,
        temperature=minimum.temperature,
        real_nn=real_nn,
        fake_nn=fake_nn,
    )


def modes(classes_N: Tensor, *, num_classes: int, share: float) -> Modes:
    """Compute the spread from the class of each image; a class is covered with at least `share` of N / K images.

    >>> modes(torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), num_classes=4, share=0.5)
    Modes(kl=0.8239592165010823, covered=2)
    >>> modes(torch.arange(4), num_classes=4, share=0.5)
    Modes(kl=0.0, covered=4)
    """
    counts_K = torch.bincount(classes_N, minlength=num_classes)
    frequency_K = counts_K.double() / len(classes_N)
    kl = torch.xlogy(frequency_K, num_classes * frequency_K).sum()
    covered = (frequency_K * num_classes >= share).sum()
    return Modes(max(0.0, float(kl)), int(covered))


def _finite_losses(bank: PointBank, nearest_2N: Tensor) -> Tensor:
    """Return the losses (2, N / 2) at the finite temperature at which one kind of anchor has its lowest mean."""
    farther_N = nearest_2N.double().amax(0)
    positive_N = farther_N[farther_N > 0]
    scale = float(positive_N.median()) if len(positive_N) else 1.0
    betas_K = torch.tensor([1 / (scale * factor) for factor in _TEMPERATURES], dtype=torch.float64)
    losses_K2N = bank_losses(bank, nearest_2N, betas_K).view(len(betas_K), 2, -1)
    lowest: Tensor = losses_K2N[int(losses_K2N.mean(2).amin(1).argmin())]
    return lowest


def _own_kind_is_nearest(nearest_2N: Tensor) -> Tensor:
    own_N, other_N = nearest_2N.double()
    share_N: Tensor = (own_N < other_N).double() + (own_N == other_N).double() / 2
    return share_N


def _losses(features_ND: Tensor, labels_N: Tensor, minimum: TemperatureMinimum, distance: Distance) -> Tensor:
    """Return the loss of each anchor (N,) at the minimising temperature, also if that is 0 or infinite."""
    if minimum.temperature in {0.0, math.inf}:
        return torch.full(labels_N.shape, minimum.value, dtype=torch.float64)
    return streaming_losses(features_ND, labels_N, minimum.temperature, distance=distance)[0]


@torch.no_grad()
def predicted_classes(classifier: nn.Module, images_NCHW: Tensor) -> Tensor:
    """Return the most likely class of each image, (N,)."""
    with evaluating(classifier):
        return torch.cat([classifier(x_BCHW).argmax(1) for x_BCHW in torch.split(images_NCHW, BATCH_SIZE)])
