"""Sample quality of synthetic images: entanglement with real images, recall, precision and covered classes.

Entanglement is the soft nearest neighbour loss in pixels of n real and n synthetic images at its minimising
temperature. It is near chance if they cannot be distinguished. If it is low, single anchors show the cause: a real
anchor among real neighbours is in a place that the generator misses; a synthetic anchor among synthetic neighbours
is collapsed or unlike any image. The mean loss of each kind does not separate the two causes, because a place with
too few synthetic images implies a place with too many. Let all n synthetic images be in the region of a part p of
the real ones. The mean of the real anchors, p log(1 + 1/p), is then above that of the synthetic anchors,
log(1 + p), although modes are missed. Therefore recall and precision count each anchor for at most chance: they are
p and log(1 + p) / log 2, which is larger.
Shapes: N images, K classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.attacks import evaluating
from trainables.evaluation.core.prediction import BATCH_SIZE
from trainables.snnl import Distance, TemperatureMinimum, minimise_temperature, streaming_losses

__all__ = ["Modes", "RealFake", "modes", "predicted_classes", "real_fake_entanglement"]


@dataclass(frozen=True, slots=True)
class RealFake:
    """Mean loss in nats over all anchors, over the real and over the synthetic anchors, at one temperature.

    `value` is the mean of `real_anchors` and `fake_anchors`; `chance` is log((2n - 1) / (n - 1)) for all three.
    `recall` and `precision`, in [0, 1], are the means of min(loss, chance) / chance over real and synthetic anchors.
    Compare at equal n only: the loss grows with fewer images.
    """

    value: float
    real_anchors: float
    fake_anchors: float
    recall: float
    precision: float
    chance: float
    temperature: float


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
    recall, precision = (losses_2N.clamp_max(minimum.chance) / minimum.chance).mean(1).tolist()
    return RealFake(
        minimum.value, real, fake, recall, precision, chance=minimum.chance, temperature=minimum.temperature
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
