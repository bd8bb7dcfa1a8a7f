"""Reliability of confidences, and temperature scaling: Guo et al., "On Calibration" (ICML 2017).

A network is calibrated if 90 % of the images that it is 90 % sure of are correct. Dividing all logits by one
temperature, fitted on validation images, repairs much of the error and changes no prediction.
Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from trainables._torchvision import import_torchvision
from trainables.evaluation.core.clean import brier_score, classwise_calibration_error, negative_log_likelihood
from trainables.evaluation.core.intervals import Proportion

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NUM_BINS", "Reliability", "ReliabilityBin", "fit_temperature", "proportion", "reliability"]

NUM_BINS = 15
# Beyond these temperatures float32 logits are all the same, or all certain.
_LARGEST_LOG_T = 30.0
_BISECTIONS = 56
# torchmetrics rounds to float32 and gives a confidence of exactly 1 a bin of its own.
_LARGEST_CONFIDENCE = 1 - 2**-24


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images with a confidence in (low, high], their mean confidence, and the share of correct ones."""

    low: float
    high: float
    confidence: float
    right: Proportion


@dataclass(frozen=True, slots=True)
class Reliability:
    """Likelihood (nats), Brier score and calibration errors of logits / T, with the bins that are not empty.

    `ece` is of the largest softmax output, `classwise_ece` of every class's own.
    """

    temperature: float
    nll: float
    brier: float
    ece: float
    classwise_ece: float
    confidence: float
    bins: tuple[ReliabilityBin, ...]


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Return the T that minimises the mean cross-entropy of logits / T, which is convex in 1 / T.

    The slope is bisected in log T, in float64. The result is 0 or infinity if there is no minimum between. The loss
    only falls as T falls if every label's logit is on top, and only as T grows if the labels' logits are on average no
    higher than the other logits.

    >>> logits = 4 * torch.log(torch.tensor([[0.8, 0.2]])).repeat(5, 1)  # four times too sure
    >>> f"{fit_temperature(logits, torch.tensor([0, 0, 0, 0, 1])):.6f}"
    '4.000000'
    >>> fit_temperature(logits, torch.zeros(5, dtype=torch.int64))
    0.0
    """
    scores_NK = logits_NK.double()
    excess_NK = scores_NK - scores_NK.gather(1, labels_N[:, None])

    def slope(log_t: float) -> float:
        """Return the slope of the loss in 1 / T: the mean logit under the softmax, above the label's."""
        return float(((excess_NK * math.exp(-log_t)).softmax(1) * excess_NK).sum(1).mean())

    if slope(-_LARGEST_LOG_T) <= 0:
        return 0.0
    if slope(_LARGEST_LOG_T) >= 0:
        return math.inf
    low, high = -_LARGEST_LOG_T, _LARGEST_LOG_T
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.exp((low + high) / 2)


def reliability(logits_NK: Tensor, labels_N: Tensor, *, temperature: float = 1.0) -> Reliability:
    """Return likelihood, calibration error and bins of logits / T: 15 bins of equal width, (m / 15, (m + 1) / 15].

    >>> result = reliability(torch.log(torch.tensor([[0.8, 0.2], [0.8, 0.2]])), torch.tensor([0, 1]))
    >>> f"{result.ece:.2f}", [(bin.right.trials, bin.right.value) for bin in result.bins]
    ('0.30', [(2, 0.5)])
    """
    scaled_NK = logits_NK.double() / temperature
    probability_NK = scaled_NK.softmax(1)
    confidence_N, predicted_N = probability_NK.max(1)
    right_N = predicted_N == labels_N
    bin_N = (confidence_N * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    return Reliability(
        temperature=temperature,
        nll=negative_log_likelihood(scaled_NK, labels_N),
        brier=brier_score(scaled_NK, labels_N),
        ece=_calibration_error(probability_NK, labels_N),
        classwise_ece=classwise_calibration_error(scaled_NK, labels_N, num_bins=NUM_BINS),
        confidence=float(confidence_N.mean()),
        bins=tuple(_bin(index, confidence_N, right_N, bin_N == index) for index in sorted(set(bin_N.tolist()))),
    )


def proportion(right_N: Tensor) -> Proportion:
    """Return the share of flags that are set."""
    return Proportion(int(right_N.sum()), len(right_N))


def _bin(index: int, confidence_N: Tensor, right_N: Tensor, inside_N: Tensor) -> ReliabilityBin:
    return ReliabilityBin(
        low=index / NUM_BINS,
        high=(index + 1) / NUM_BINS,
        confidence=float(confidence_N[inside_N].mean()),
        right=proportion(right_N[inside_N]),
    )


def _calibration_error(probability_NK: Tensor, labels_N: Tensor) -> float:
    """Return the error by torchmetrics, with sums in float64: in float32 it is off by some 1e-6 on 10,000 images."""
    metric = _metrics().MulticlassCalibrationError(num_classes=probability_NK.shape[1], n_bins=NUM_BINS, norm="l1")
    metric.update(probability_NK.clamp(max=_LARGEST_CONFIDENCE), labels_N)
    metric.set_dtype(torch.float64)
    return float(metric.compute())


def _metrics() -> Any:
    import_torchvision()  # torchmetrics imports it, and fails on wheels that this function repairs
    try:
        return import_module("torchmetrics.classification")
    except ImportError as error:
        raise ImportError("calibration is measured by torchmetrics: pip install 'ravel-sweeps[evaluate]'") from error
