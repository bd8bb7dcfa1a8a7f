"""Accuracy, likelihood and calibration from logits. Shapes: N images, K classes, M bins."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "accuracy",
    "brier_score",
    "classwise_calibration_error",
    "expected_calibration_error",
    "negative_log_likelihood",
]


def accuracy(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Return the fraction of images whose largest logit is that of their label.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    return float((logits_NK.argmax(1) == labels_N).double().mean())


def negative_log_likelihood(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Return the mean cross-entropy in nats.

    >>> f"{negative_log_likelihood(torch.zeros(3, 4), torch.tensor([0, 1, 2])):.4f}"  # log(4)
    '1.3863'
    """
    return float(functional.cross_entropy(logits_NK.double(), labels_N))


def expected_calibration_error(logits_NK: Tensor, labels_N: Tensor, *, num_bins: int = 15) -> float:
    """Return the mean |accuracy - confidence| over equal-width bins of confidence, weighted by their size.

    Guo et al., ICML 2017. Bins are (m / M, (m + 1) / M]; confidence is the largest softmax output.

    >>> logits = torch.log(torch.tensor([[0.8, 0.2], [0.8, 0.2]]))
    >>> f"{expected_calibration_error(logits, torch.tensor([0, 1])):.2f}"  # half are right, at 0.8
    '0.30'
    """
    confidence_N, predicted_N = logits_NK.double().softmax(1).max(1)
    bin_N = (confidence_N * num_bins).ceil().long().clamp(1, num_bins) - 1
    gap_N = (predicted_N == labels_N).double() - confidence_N
    gap_M = torch.zeros(num_bins, dtype=torch.float64, device=gap_N.device).index_add_(0, bin_N, gap_N)
    return float(gap_M.abs().sum() / len(labels_N))


def brier_score(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Return the mean over images of the squared distance of the softmax output to the label, summed over classes.

    Brier, Monthly Weather Review 1950: 0 is perfect, 2 the worst, 1 - 1/K a uniform guess. It is proper: the true
    probabilities have the least. Of two classes it is twice the score that counts one class alone, as scikit-learn's.

    >>> logits = torch.log(torch.tensor([[0.8, 0.2], [0.8, 0.2]]))
    >>> f"{brier_score(logits, torch.tensor([0, 1])):.2f}"  # (0.08 + 1.28) / 2
    '0.68'
    """
    probability_NK = logits_NK.double().softmax(1)
    truth_NK = functional.one_hot(labels_N, logits_NK.shape[1])
    return float((probability_NK - truth_NK).square().sum(1).mean())


def classwise_calibration_error(logits_NK: Tensor, labels_N: Tensor, *, num_bins: int = 15) -> float:
    """Return the calibration error of each class's own probability, mean over classes.

    Kull et al., NeurIPS 2019, equation 4; the static calibration error of Nixon et al., CVPR workshops 2019. Of every
    class, all images are binned by the probability of that class, in bins (m / M, (m + 1) / M], and |share of images
    of the class - mean probability| is weighted by the size of the bin.

    >>> logits = torch.log(torch.tensor([[0.8, 0.2], [0.8, 0.2]]))
    >>> f"{classwise_calibration_error(logits, torch.tensor([0, 1])):.2f}"  # |0.5 - 0.8| and |0.5 - 0.2|
    '0.30'
    """
    probability_NK, num_classes = logits_NK.double().softmax(1), logits_NK.shape[1]
    bin_NK = (probability_NK * num_bins).ceil().long().clamp(1, num_bins) - 1
    gap_NK = functional.one_hot(labels_N, num_classes) - probability_NK
    gap_MK = gap_NK.new_zeros(num_bins, num_classes).scatter_add_(0, bin_NK, gap_NK)
    return float(gap_MK.abs().sum() / gap_NK.numel())
