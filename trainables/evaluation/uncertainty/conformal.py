"""Conformal prediction by the votes of nearest neighbours (Papernot and McDaniel, 2018).

The nonconformity of a class, alpha = k L - (its votes over all L taps), is compared with that of calibration images in
their own class: p is the fraction of them that conform no better. The prediction is the class of least alpha. Its p is
the credibility, and 1 - the second largest p is the confidence.

Shapes: N images, L taps, k neighbours, K classes, A calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ConformalPrediction",
    "Mode",
    "Prediction",
    "nonconformity",
    "p_values",
    "predict",
    "trimmed",
    "vote_counts",
]

Mode = Literal["paper", "cleverhans"]
"""'cleverhans' is the first released code, for reproduction only: calibration scores of 0 are dropped,
and the prediction is the class of largest p, the first of them where there are several."""


class Prediction(NamedTuple):
    """Predicted classes (N,), their p-values, and 1 - the second largest p-value."""

    prediction_N: Tensor
    credibility_N: Tensor
    confidence_N: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ConformalPrediction:
    """Predictions of the neighbours for N images.

    votes_NLK: neighbours of each class at each tap. reach_NL: the distance to the k-th neighbour.
    """

    logits_NK: Tensor
    votes_NLK: Tensor
    reach_NL: Tensor
    alpha_NK: Tensor
    p_NK: Tensor
    prediction_N: Tensor
    credibility_N: Tensor
    confidence_N: Tensor

    @property
    def predicted_by_network(self) -> Tensor:
        """Classes that the network itself predicts."""
        return self.logits_NK.argmax(1)

    def where(self, keep_N: Tensor, other: ConformalPrediction) -> ConformalPrediction:
        """Return this prediction for the images to keep, and the other prediction for the rest."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(ConformalPrediction))
        return ConformalPrediction(
            *(ours.where(keep_N.reshape(-1, *[1] * (ours.dim() - 1)), rest) for ours, rest in pairs)
        )

    @classmethod
    def joined(cls, parts: Sequence[ConformalPrediction]) -> ConformalPrediction:
        """Concatenate the predictions of consecutive batches."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def own_votes(self) -> Tensor:
        """Return the number of neighbours at each tap in the class that the network predicts, (N, L)."""
        index_NL1 = self.predicted_by_network[:, None, None].expand(-1, self.votes_NLK.shape[1], 1)
        return self.votes_NLK.gather(2, index_NL1)[:, :, 0]


def vote_counts(labels_NLk: Tensor, *, num_classes: int) -> Tensor:
    """Count the neighbours of each class, (N, L, K).

    >>> vote_counts(torch.tensor([[[0, 2, 2]]]), num_classes=3).tolist()
    [[[1, 0, 2]]]
    """
    return functional.one_hot(labels_NLk, num_classes).sum(2)


def nonconformity(votes_NLK: Tensor, *, k: int) -> Tensor:
    """Return the votes that each class did not get, over all taps, (N, K).

    >>> nonconformity(torch.tensor([[[1, 0, 2], [3, 0, 0]]]), k=3).tolist()
    [[2, 6, 4]]
    """
    return k * votes_NLK.shape[1] - votes_NLK.sum(1)


def p_values(alpha_NK: Tensor, calibration_A: Tensor, *, smoothed: bool = False) -> Tensor:
    """Return the fraction of the sorted calibration scores that are at least alpha, float64 (N, K).

    >>> p_values(torch.tensor([[2]]), torch.tensor([0, 1, 2, 5])).tolist()
    [[0.5]]
    >>> p_values(torch.tensor([[2]]), torch.tensor([0, 1, 2, 5]), smoothed=True).tolist()
    [[0.6]]
    """
    as_bad_NK = (len(calibration_A) - torch.searchsorted(calibration_A, alpha_NK)).double()
    return (as_bad_NK + 1) / (len(calibration_A) + 1) if smoothed else as_bad_NK / len(calibration_A)


def trimmed(calibration_A: Tensor) -> Tensor:
    """Return the scores above 0, as numpy's trim_zeros leaves them in cleverhans 3.1.

    Raises:
        ValueError: all scores are 0; that code divides by zero then.

    >>> trimmed(torch.tensor([0, 0, 1, 3])).tolist()
    [1, 3]
    """
    if not bool((calibration_A > 0).any()):
        raise ValueError(
            "mode: must be 'paper' where all calibration scores are 0, got 'cleverhans'; it keeps none of them"
        )
    return calibration_A[calibration_A > 0]


def predict(alpha_NK: Tensor, p_NK: Tensor, *, logits_NK: Tensor, mode: Mode) -> Prediction:
    """Return class, credibility and confidence; among classes of equal alpha, the class of the largest logit.

    >>> alpha, p = torch.tensor([[4, 4, 8]]), torch.tensor([[0.25, 0.25, 0.0]])
    >>> predict(alpha, p, logits_NK=torch.tensor([[0.0, 1.0, 9.0]]), mode="paper")
    Prediction(prediction_N=tensor([1]), credibility_N=tensor([0.2500]), confidence_N=tensor([0.7500]))
    """
    if mode == "cleverhans":
        prediction_N = p_NK.eq(p_NK.amax(1, keepdim=True)).int().argmax(1)
    else:
        least_NK = alpha_NK == alpha_NK.amin(1, keepdim=True)
        prediction_N = logits_NK.masked_fill(~least_NK, -torch.inf).argmax(1)
    credibility_N = p_NK.gather(1, prediction_N[:, None])[:, 0]
    return Prediction(prediction_N, credibility_N, 1 - p_NK.sort(1).values[:, -2])
