"""Deep k-nearest neighbours (Papernot and McDaniel, 2018): how many training images agree with a prediction.

At each tap the k nearest training images of an image vote with their labels. The nonconformity of a
class, alpha = k L - (its votes over all L taps), is compared with that of calibration images in their
own class: p is the fraction of them that conform no better. The prediction is the class of least alpha,
its p is the credibility, and 1 - the second largest p the confidence.

Shapes: N images, L taps, k neighbours, K classes, M bank images, A calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from trainables.attacks import evaluating
from trainables.evaluation.core.prediction import balanced_subset, batches
from trainables.evaluation.uncertainty.neighbours import NeighbourBank, Sketch, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainables.data import Split
    from trainables.evaluation.core.results import Subject
    from trainables.models import StagedClassifier
    from trainables.snnl import Distance

__all__ = [
    "CALIBRATION_IMAGES",
    "NEIGHBOURS",
    "SKETCH_ABOVE",
    "SKETCH_WIDTH",
    "ConformalPrediction",
    "DeepNearestNeighbors",
    "Mode",
    "fit",
    "fit_subject",
    "nonconformity",
    "p_values",
    "predict",
    "trimmed",
    "vote_counts",
]

Mode = Literal["paper", "cleverhans"]
"""'cleverhans' is the first released code, for reproduction only: calibration scores of 0 are dropped,
and the prediction is the class of largest p, the first of them where there are several."""

NEIGHBOURS: Final = 75
CALIBRATION_IMAGES: Final = 750
SKETCH_WIDTH: Final = 512
SKETCH_ABOVE: Final = 2048
"""What the suites project: one row of 12,544 numbers for each of 50,000 images would take 2.5 GB."""
_BATCH_SIZE: Final = 256


class Prediction(NamedTuple):
    """Predicted classes (N,), their p-values, and 1 - the second largest p-value."""

    prediction_N: Tensor
    credibility_N: Tensor
    confidence_N: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ConformalPrediction:
    """What the neighbours say of N images.

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
        """The classes that the network itself predicts."""
        return self.logits_NK.argmax(1)

    def where(self, keep_N: Tensor, other: ConformalPrediction) -> ConformalPrediction:
        """This judgement of the images to keep, the other one of the rest."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(ConformalPrediction))
        return ConformalPrediction(*(one.where(keep_N.reshape(-1, *[1] * (one.dim() - 1)), two) for one, two in pairs))

    @classmethod
    def joined(cls, parts: Sequence[ConformalPrediction]) -> ConformalPrediction:
        """The judgements of consecutive batches as one."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def own_votes(self) -> Tensor:
        """At each tap, how many neighbours are of the class that the network predicts, (N, L)."""
        index_NL1 = self.predicted_by_network[:, None, None].expand(-1, self.votes_NLK.shape[1], 1)
        return self.votes_NLK.gather(2, index_NL1)[:, :, 0]


@dataclass(frozen=True, slots=True, eq=False)
class DeepNearestNeighbors:
    """A model, its training images' representations, and the sorted nonconformity of calibration images.

    `calibration_A` is already trimmed in the mode 'cleverhans'. `limits` tells what was measured on less
    than asked for.
    """

    model: StagedClassifier
    banks: Mapping[str, NeighbourBank]
    labels_M: Tensor
    calibration_A: Tensor
    k: int
    smoothed: bool
    mode: Mode
    limits: tuple[str, ...] = ()

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps whose neighbours vote."""
        return tuple(self.banks)

    def predict(self, split: Split) -> ConformalPrediction:
        """The judgement of a whole split, in eval mode."""
        return ConformalPrediction.joined([self.predict_pixels(x) for x, _ in batches(split, size=_BATCH_SIZE)])

    @torch.no_grad()
    def predict_pixels(self, x_NCHW: Tensor) -> ConformalPrediction:
        """The judgement of one batch of images in [0, 1]."""
        logits_NK, votes_NLK, reach_NL = _consult(
            self.model, x_NCHW, banks=self.banks, labels_M=self.labels_M, k=self.k
        )
        alpha_NK = nonconformity(votes_NLK, k=self.k)
        p_NK = p_values(alpha_NK, self.calibration_A, smoothed=self.smoothed)
        return ConformalPrediction(
            logits_NK,
            votes_NLK,
            reach_NL,
            alpha_NK,
            p_NK,
            *predict(alpha_NK, p_NK, logits_NK=logits_NK, mode=self.mode),
        )


def fit(
    model: StagedClassifier,
    *,
    bank: Split,
    calibration: Split,
    taps: tuple[str, ...] | None = None,
    k: int = NEIGHBOURS,
    distance: Distance = "cosine",
    calibration_images: int = CALIBRATION_IMAGES,
    smoothed: bool = False,
    mode: Mode = "paper",
    sketch_above: int | None = None,
    seed: int = 0,
) -> DeepNearestNeighbors:
    """Neighbours from `bank` (training images), calibration on a class-balanced part of `calibration`.

    taps: whose neighbours vote; None for all, the logits among them.
    smoothed: p = (1 + #) / (1 + A), which is valid for exchangeable images, instead of # / A.
    sketch_above: taps of more numbers than this are projected to 512, by a sketch drawn from `seed`.

    Raises:
        ValueError: no tap, or one that the model does not have; k larger than the bank; calibration
            scores that the mode cannot use; `smoothed` in the mode 'cleverhans'.
    """
    if mode == "cleverhans" and smoothed:
        raise ValueError("smoothed: must be false in the mode 'cleverhans', whose code does not smooth, got True")
    chosen = model.taps if taps is None else taps
    if not chosen:
        raise ValueError(f"taps: must name at least one of {model.taps}, got none")
    if not 1 <= k <= len(bank):
        raise ValueError(f"k: must be between 1 and the {len(bank)} images of the bank, got {k}")
    balanced = balanced_subset(calibration, size=calibration_images)
    banks, sketched = _banks(model, bank, taps=chosen, distance=distance, sketch_above=sketch_above, seed=seed)
    scores_A = _true_class_nonconformity(model, balanced, banks=banks, labels_M=bank.labels_N, k=k)
    limits = (*_few(len(balanced), calibration_images), *sketched)
    calibration_A = trimmed(scores_A) if mode == "cleverhans" else scores_A
    return DeepNearestNeighbors(model, banks, bank.labels_N, calibration_A, k, smoothed, mode, limits)


def fit_subject(subject: Subject) -> DeepNearestNeighbors:
    """What the suites use: all taps, cosine, 75 neighbours, 750 calibration images, large taps sketched."""
    k = min(NEIGHBOURS, len(subject.train))
    result = fit(
        subject.model, bank=subject.train, calibration=subject.val, k=k, sketch_above=SKETCH_ABOVE, seed=subject.seed
    )
    if k == NEIGHBOURS:
        return result
    return replace(result, limits=(f"{k} neighbours, not {NEIGHBOURS}: there are no more images", *result.limits))


def vote_counts(labels_NLk: Tensor, *, num_classes: int) -> Tensor:
    """How many of the neighbours are of each class, (N, L, K).

    >>> vote_counts(torch.tensor([[[0, 2, 2]]]), num_classes=3).tolist()
    [[[1, 0, 2]]]
    """
    return functional.one_hot(labels_NLk, num_classes).sum(2)


def nonconformity(votes_NLK: Tensor, *, k: int) -> Tensor:
    """Votes that each class did not get, over all taps, (N, K).

    >>> nonconformity(torch.tensor([[[1, 0, 2], [3, 0, 0]]]), k=3).tolist()
    [[2, 6, 4]]
    """
    return k * votes_NLK.shape[1] - votes_NLK.sum(1)


def p_values(alpha_NK: Tensor, calibration_A: Tensor, *, smoothed: bool = False) -> Tensor:
    """The fraction of the sorted calibration scores that are at least alpha, float64 (N, K).

    >>> p_values(torch.tensor([[2]]), torch.tensor([0, 1, 2, 5])).tolist()
    [[0.5]]
    >>> p_values(torch.tensor([[2]]), torch.tensor([0, 1, 2, 5]), smoothed=True).tolist()
    [[0.6]]
    """
    as_bad_NK = (len(calibration_A) - torch.searchsorted(calibration_A, alpha_NK)).double()
    return (as_bad_NK + 1) / (len(calibration_A) + 1) if smoothed else as_bad_NK / len(calibration_A)


def trimmed(calibration_A: Tensor) -> Tensor:
    """The scores above 0, as numpy's trim_zeros leaves them in cleverhans 3.1.

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
    """Prediction, credibility, confidence; of classes of equal alpha, the one of largest logit.

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


def _few(result: int, requested: int) -> tuple[str, ...]:
    return (
        ()
        if result >= requested
        else (f"calibrated on {result:,} validation images, not on {requested:,}: there are no more",)
    )


@torch.no_grad()
def _banks(
    model: StagedClassifier,
    split: Split,
    *,
    taps: tuple[str, ...],
    distance: Distance,
    sketch_above: int | None,
    seed: int,
) -> tuple[dict[str, NeighbourBank], tuple[str, ...]]:
    """A bank for each tap, filled batch by batch, and what was projected, told."""
    banks: dict[str, NeighbourBank] = {}
    notes: list[str] = []
    with evaluating(model), torch.autocast(split.labels_N.device.type, enabled=False):
        for start, (x, _) in zip(range(0, len(split), _BATCH_SIZE), batches(split, size=_BATCH_SIZE), strict=True):
            for tap, features_BX in model.features(x, taps=taps).taps.items():
                if tap not in banks:
                    banks[tap], line = _empty_bank(
                        tap, features_BX, rows=len(split), distance=distance, sketch_above=sketch_above, seed=seed
                    )
                    notes += line
                banks[tap].rows_MD[start : start + len(x)] = banks[tap].place(features_BX)
    return {tap: banks[tap] for tap in taps}, tuple(notes)


def _empty_bank(
    tap: str, features_BX: Tensor, *, rows: int, distance: Distance, sketch_above: int | None, seed: int
) -> tuple[NeighbourBank, list[str]]:
    columns, device = features_BX[0].numel(), features_BX.device
    if sketch_above is None or columns <= max(sketch_above, SKETCH_WIDTH):
        return NeighbourBank(torch.empty(rows, columns, device=device), distance, None), []
    sketch = Sketch.draw(columns, width=SKETCH_WIDTH, seed=seed, device=device)
    notes = f"neighbours at {tap} are those in {SKETCH_WIDTH} random projections of its {columns:,} numbers"
    return NeighbourBank(torch.empty(rows, SKETCH_WIDTH, device=device), distance, sketch), [notes]


def _consult(
    model: StagedClassifier, x_NCHW: Tensor, *, banks: Mapping[str, NeighbourBank], labels_M: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, votes and reach of one batch."""
    with evaluating(model), torch.autocast(x_NCHW.device.type, enabled=False):
        read = model.features(x_NCHW, taps=tuple(banks))
    result = [nearest(bank, read.taps[tap], k=k) for tap, bank in banks.items()]
    labels_NLk = torch.stack([labels_M[neighbours.indices_Qk] for neighbours in result], dim=1)
    reach_NL = torch.stack([neighbours.distances_Qk[:, -1] for neighbours in result], dim=1)
    return read.logits, vote_counts(labels_NLk, num_classes=read.logits.shape[1]), reach_NL


@torch.no_grad()
def _true_class_nonconformity(
    model: StagedClassifier, split: Split, *, banks: Mapping[str, NeighbourBank], labels_M: Tensor, k: int
) -> Tensor:
    """Sorted scores (A,) of images in their own class."""
    scores = []
    for x, labels_B in batches(split, size=_BATCH_SIZE):
        _, votes_BLK, _ = _consult(model, x, banks=banks, labels_M=labels_M, k=k)
        scores.append(nonconformity(votes_BLK, k=k).gather(1, labels_B[:, None])[:, 0])
    return torch.cat(scores).sort().values
