"""Mahalanobis score of images (Lee et al., NeurIPS 2018, arXiv 1807.03888): near a class mean is known, far is not.

    M(x) = max_c  -(f(x) - mu_c)^T Sigma^-1 (f(x) - mu_c)

mu_c are the means of training images of class c at a tap, and Sigma is the covariance around them, one for all classes
(equation 1 of the paper). A tap with pixels is averaged over them, as in the paper's code. The paper's perturbation of
the input is left out, and so are its weights of layers, which it fits on outliers: the ensemble is the plain sum.
Shapes: N images, D units, K classes, R directions in which training images vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from trainables.attacks import evaluating
from trainables.evaluation.core.prediction import batches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from trainables.data import Split
    from trainables.models import TappedClassifier

__all__ = ["TiedGaussians", "fit_gaussians", "mahalanobis_scores", "pooled"]


@dataclass(frozen=True, slots=True, eq=False)
class TiedGaussians:
    """Gaussians of the classes with one covariance, in float64: whitened means (K, R), and the whitening (D, R).

    Directions without variance, as of dead units, have no inverse and are left out, as by a pseudo-inverse.
    """

    means_KR: Tensor
    whitening_DR: Tensor

    @classmethod
    def of(cls, features_ND: Tensor, labels_N: Tensor) -> Self:
        """Fit the Gaussians of features; classes without an image are left out.

        >>> x = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [9.0, 2.0], [11.0, -2.0]])
        >>> gaussians = TiedGaussians.of(x, torch.tensor([0, 0, 1, 1]))
        >>> [f"{score:.4f}" for score in gaussians.score(torch.tensor([[0.0, 0.0], [0.0, 1.0], [10.0, 0.0]]))]
        ['-0.0000', '-1.0000', '-0.0000']
        """
        moments = _Moments(features_ND[0])
        moments.add(features_ND, labels_N)
        return cls(*moments.gaussians())

    @property
    def num_left_out(self) -> int:
        """Number of directions in which training images do not vary within their classes."""
        units, directions = self.whitening_DR.shape
        return units - directions

    def score(self, features_ND: Tensor) -> Tensor:
        """Return M of each image, (N,), in float64; the largest possible is 0."""
        whitened_NR = features_ND.double() @ self.whitening_DR
        distances_NK = torch.cdist(whitened_NR, self.means_KR, compute_mode="donot_use_mm_for_euclid_dist")
        return -distances_NK.amin(1).square()


class _Moments:
    """Counts, sums and products of features by class, around the first image, so that float64 loses no digits."""

    def __init__(self, origin_D: Tensor) -> None:
        self.origin_D = origin_D.double()
        self.products_DD = self.origin_D.new_zeros(len(origin_D), len(origin_D))
        self.sums: dict[int, Tensor] = {}
        self.counts: dict[int, int] = {}

    def add(self, features_ND: Tensor, labels_N: Tensor) -> None:
        x_ND = features_ND.double() - self.origin_D
        self.products_DD += x_ND.T @ x_ND
        for label in sorted(set(labels_N.tolist())):
            own_ND = x_ND[labels_N == label]
            self.sums[label] = self.sums.get(label, 0) + own_ND.sum(0)
            self.counts[label] = self.counts.get(label, 0) + len(own_ND)

    def gaussians(self) -> tuple[Tensor, Tensor]:
        """Return the whitened means and the whitening, from the eigenvectors of the covariance."""
        labels = sorted(self.sums)
        counts_K1 = self.products_DD.new_tensor([self.counts[label] for label in labels])[:, None]
        means_KD = torch.stack([self.sums[label] for label in labels]) / counts_K1
        covariance_DD = (self.products_DD - (counts_K1 * means_KD).T @ means_KD) / counts_K1.sum()
        variance_D, directions_DD = torch.linalg.eigh(covariance_DD)
        # The usual rule for the rank of a matrix, as the features were computed in float32.
        smallest = variance_D[-1].clamp_min(0) * (len(variance_D) * torch.finfo(torch.float32).eps) ** 2
        varies_D = variance_D > smallest
        whitening_DR = directions_DD[:, varies_D] / variance_D[varies_D].sqrt()
        return (means_KD + self.origin_D) @ whitening_DR, whitening_DR


def fit_gaussians(model: TappedClassifier, train: Split, *, taps: Collection[str]) -> dict[str, TiedGaussians]:
    """Fit the Gaussians of each tap on training images, in one pass over them, in eval mode."""
    moments: dict[str, _Moments] = {}
    for features, labels_B in _features(model, train, taps):
        for tap, x_BD in features.items():
            moments.setdefault(tap, _Moments(x_BD[0])).add(x_BD, labels_B)
    return {tap: TiedGaussians(*moments[tap].gaussians()) for tap in taps}


def mahalanobis_scores(
    model: TappedClassifier, split: Split, *, gaussians: Mapping[str, TiedGaussians]
) -> dict[str, Tensor]:
    """Return M of each image at each tap, (N,), in eval mode; high for images of the known kind."""
    parts: dict[str, list[Tensor]] = {tap: [] for tap in gaussians}
    for features, _ in _features(model, split, tuple(gaussians)):
        for tap, x_BD in features.items():
            parts[tap].append(gaussians[tap].score(x_BD))
    return {tap: torch.cat(scores) for tap, scores in parts.items()}


def pooled(features_BX: Tensor) -> Tensor:
    """Return features (B, D): the mean over all axes after the second, as over the pixels of a convolution.

    >>> pooled(torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])).tolist()
    [[2.0, 5.0]]
    """
    return features_BX if features_BX.dim() == 2 else features_BX.flatten(2).mean(2)


def _features(
    model: TappedClassifier, split: Split, taps: Collection[str]
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    with torch.no_grad(), evaluating(model), torch.autocast(split.labels_N.device.type, enabled=False):
        for x_BCHW, labels_B in batches(split):
            read = model.features(x_BCHW, taps=taps).taps
            yield {tap: pooled(values) for tap, values in read.items()}, labels_B
