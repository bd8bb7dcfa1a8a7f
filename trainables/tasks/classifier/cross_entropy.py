"""Classification term: cross-entropy of soft targets, and the binary form in the mixup papers' code.

Shapes: B images, K classes.
"""

import math

from torch import Tensor
from torch.nn import functional

from trainables.config.sections import LossConfig

__all__ = ["classification_loss", "smoothed"]


def classification_loss(logits_BK: Tensor, targets_BK: Tensor, *, settings: LossConfig) -> Tensor:
    """Return the mean loss of logits against targets that are distributions: 0-d, at least float32.

    For 'binary_cross_entropy' the mean is over B and K, of the softmax's probabilities, with the
    logarithms kept above -100, as torch.nn.BCELoss does.

    >>> import torch
    >>> logits, targets = torch.zeros(2, 4), torch.eye(4)[:2]
    >>> f"{classification_loss(logits, targets, settings=LossConfig()):.4f}"  # log 4
    '1.3863'
    >>> f"{classification_loss(logits, targets, settings=LossConfig(name='binary_cross_entropy')):.4f}"
    '0.5623'
    """
    logits_BK = logits_BK if logits_BK.dtype == targets_BK.dtype else logits_BK.to(targets_BK.dtype)
    targets_BK = smoothed(targets_BK, settings.label_smoothing)
    if settings.name == "cross_entropy":
        return functional.cross_entropy(logits_BK, targets_BK)
    log_p_BK = functional.log_softmax(logits_BK, 1)
    log_rest_BK = _log_complement(log_p_BK)
    log_p_BK, log_rest_BK = log_p_BK.clamp_min(-100), log_rest_BK.clamp_min(-100)
    return -(targets_BK * log_p_BK + (1 - targets_BK) * log_rest_BK).mean()


def _log_complement(log_p_BK: Tensor) -> Tensor:
    """Return log(1 - p); for the likeliest class sum over the rest, which is finite where p rounds to 1."""
    likeliest_BK = functional.one_hot(log_p_BK.argmax(1), log_p_BK.shape[1]).bool()
    rest_B1 = log_p_BK.masked_fill(likeliest_BK, -math.inf).logsumexp(1, keepdim=True)
    # Any other class has p <= 1/2, where log1p is exact; -1 replaces values where its slope would be infinite.
    return rest_B1.where(likeliest_BK, (-log_p_BK.masked_fill(likeliest_BK, -1).exp()).log1p())


def smoothed(targets_BK: Tensor, label_smoothing: float) -> Tensor:
    """Spread a share of each target evenly over the classes (Szegedy et al., 2016).

    >>> import torch
    >>> smoothed(torch.tensor([[1.0, 0.0]]), 0.2)
    tensor([[0.9000, 0.1000]])
    """
    if label_smoothing == 0:
        return targets_BK
    return targets_BK * (1 - label_smoothing) + label_smoothing / targets_BK.shape[1]
