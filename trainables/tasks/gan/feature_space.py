"""Comparison of real and synthetic images in the penultimate features of a classifier.

Distances of pixels see shifts and strokes; those of a trained classifier see what distinguishes its classes. The
features are those of one fixed network, so trials can be compared, as they cannot in the discriminator's features.
Entanglement, its recall and precision, and the 1-NN accuracy are those of `measures`, on features.

`manifold_overlap` is the improved precision and recall of Kynkaanniemi et al. (NeurIPS 2019): the images of one kind
cover the union of balls around them, each as large as the distance to its k-th neighbour of its own kind. Precision is
the share of synthetic images that the real ones cover, recall the share of real images that the synthetic ones cover.
It shares nothing with the soft nearest neighbour loss that training can raise.
Shapes: N images of each kind, D features.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from trainables.attacks import evaluating
from trainables.errors import ConfigError, Problem
from trainables.evaluation.core.prediction import BATCH_SIZE
from trainables.models import TappedClassifier
from trainables.models.tapped import PENULTIMATE
from trainables.snnl import Distance
from trainables.tasks.gan.measures import real_fake_entanglement

__all__ = ["NEIGHBOURS", "FeatureSpace", "ManifoldOverlap", "manifold_overlap"]

NEIGHBOURS = 3
"""The published k."""


class ManifoldOverlap(NamedTuple):
    """Shares, in [0, 1], of the synthetic images among real ones, and of the real ones among synthetic ones."""

    precision: float
    recall: float


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSpace:
    """Features of the real images (N, D), and their entanglement with as many other real images."""

    classifier: TappedClassifier
    real_ND: Tensor
    ceiling: float
    distance: Distance

    @classmethod
    def of(cls, classifier: TappedClassifier, real_NCHW: Tensor, other_NCHW: Tensor, distance: Distance) -> Self:
        """Return the space of a classifier's features.

        Raises:
            ConfigError: it has no penultimate layer.
        """
        if PENULTIMATE not in classifier.taps:
            reason = "must be a network that ends in one linear layer, whose input evaluation.feature_space compares"
            raise ConfigError([Problem("gan.classifier", f"{reason}; leave one of the two out")])
        real_ND, other_ND = (_features(classifier, images) for images in (real_NCHW, other_NCHW))
        return cls(classifier, real_ND, real_fake_entanglement(real_ND, other_ND, distance).value, distance)

    def metrics(self, fake_NCHW: Tensor) -> dict[str, float]:
        """Compare as many synthetic images with the real ones, under the names of `metrics`."""
        fake_ND = _features(self.classifier, fake_NCHW)
        quality = real_fake_entanglement(self.real_ND, fake_ND, self.distance)
        overlap = manifold_overlap(self.real_ND, fake_ND)
        return {
            "val/feature_entanglement": quality.value,
            "val/feature_ceiling": self.ceiling,
            "val/feature_recall": quality.recall,
            "val/feature_precision": quality.precision,
            "val/feature_nn_accuracy": quality.nn_accuracy,
            "val/manifold_precision": overlap.precision,
            "val/manifold_recall": overlap.recall,
        }


@torch.no_grad()
def manifold_overlap(real_ND: Tensor, fake_ND: Tensor, *, neighbours: int = NEIGHBOURS) -> ManifoldOverlap:
    """Compute improved precision and recall, with Euclidean distances; memory holds N x N of them.

    Raises:
        ValueError: no more than `neighbours` images of a kind.

    >>> line = torch.arange(8.0)[:, None]
    >>> manifold_overlap(line, line + 0.5)
    ManifoldOverlap(precision=1.0, recall=1.0)
    >>> manifold_overlap(line, line[:4] / 100 + 2)  # among the real images, but all in one place
    ManifoldOverlap(precision=1.0, recall=0.125)
    """
    if min(len(real_ND), len(fake_ND)) <= neighbours:
        raise ValueError(
            f"images: must be more than {neighbours} of each kind, got {len(real_ND)} real and {len(fake_ND)} synthetic"
        )
    real_ND, fake_ND = real_ND.flatten(1).double(), fake_ND.flatten(1).double()
    return ManifoldOverlap(
        precision=_covered(fake_ND, real_ND, neighbours), recall=_covered(real_ND, fake_ND, neighbours)
    )


def _covered(points_MD: Tensor, bank_ND: Tensor, neighbours: int) -> float:
    """Return the share of points within a ball of the bank."""
    # The first of the neighbours is the image itself.
    radius_N = torch.cdist(bank_ND, bank_ND).kthvalue(neighbours + 1, dim=1).values
    return float((torch.cdist(points_MD, bank_ND) <= radius_N).any(1).double().mean())


@torch.no_grad()
def _features(classifier: TappedClassifier, images_NCHW: Tensor) -> Tensor:
    with evaluating(classifier):
        passes = [
            classifier.features(x_BCHW, taps=(PENULTIMATE,)).taps[PENULTIMATE].flatten(1)
            for x_BCHW in torch.split(images_NCHW, BATCH_SIZE)
        ]
    return torch.cat(passes)
