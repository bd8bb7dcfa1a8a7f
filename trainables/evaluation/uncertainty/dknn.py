"""Deep k-nearest neighbours (Papernot and McDaniel, 2018): a detector fitted on training and calibration images.

At each tap the k nearest training images of an image vote with their labels; `conformal` converts the votes into
predictions with p-values.

Shapes: N images, L taps, k neighbours, K classes, M bank images, A calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from trainables.attacks import evaluating
from trainables.evaluation.core.prediction import BATCH_SIZE, balanced_subset, batches
from trainables.evaluation.uncertainty.conformal import (
    ConformalPrediction,
    Mode,
    nonconformity,
    p_values,
    predict,
    trimmed,
    vote_counts,
)
from trainables.evaluation.uncertainty.neighbours import NeighbourBank, Sketch, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainables.data import Split
    from trainables.evaluation.core.results import Subject
    from trainables.models import TappedClassifier
    from trainables.snnl import Distance

__all__ = [
    "CALIBRATION_IMAGES",
    "NEIGHBOURS",
    "SKETCH_ABOVE",
    "SKETCH_WIDTH",
    "DeepNearestNeighbors",
    "fit",
    "fit_subject",
]

NEIGHBOURS: Final = 75
CALIBRATION_IMAGES: Final = 750
SKETCH_WIDTH: Final = 512
SKETCH_ABOVE: Final = 2048
"""Width of taps that the suites project: rows of 12,544 numbers for 50,000 images would take 2.5 GB."""


@dataclass(frozen=True, slots=True, eq=False)
class DeepNearestNeighbors:
    """A model, its training images' representations, and the sorted nonconformity of calibration images.

    `calibration_A` is already trimmed in the mode 'cleverhans'. `limits` lists the parts that use fewer images than
    requested.
    """

    model: TappedClassifier
    banks: Mapping[str, NeighbourBank]
    labels_M: Tensor
    calibration_A: Tensor
    k: int
    smoothed: bool
    mode: Mode
    limits: tuple[str, ...] = ()

    @property
    def taps(self) -> tuple[str, ...]:
        """Taps whose neighbours vote."""
        return tuple(self.banks)

    def predict(self, split: Split) -> ConformalPrediction:
        """Predict a whole split, in eval mode."""
        return ConformalPrediction.joined([self.predict_pixels(x) for x, _ in batches(split)])

    @torch.no_grad()
    def predict_pixels(self, x_NCHW: Tensor) -> ConformalPrediction:
        """Predict one batch of images in [0, 1]."""
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
    model: TappedClassifier,
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
    """Fit a detector: neighbours from `bank` (training images), calibration on a class-balanced part of `calibration`.

    taps: taps whose neighbours vote; None for all, the logits included.
    smoothed: p = (1 + #) / (1 + A), which is valid for exchangeable images, instead of # / A.
    sketch_above: taps of more numbers than this are projected to 512, by a sketch that depends on `seed`.

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
    """Fit the detector of the suites: all taps, cosine, 75 neighbours, 750 calibration images, large taps sketched."""
    k = min(NEIGHBOURS, len(subject.train))
    result = fit(
        subject.model, bank=subject.train, calibration=subject.val, k=k, sketch_above=SKETCH_ABOVE, seed=subject.seed
    )
    if k == NEIGHBOURS:
        return result
    return replace(result, limits=(f"{k} neighbours, not {NEIGHBOURS}: there are no more images", *result.limits))


def _few(count: int, requested: int) -> tuple[str, ...]:
    if count >= requested:
        return ()
    return (f"calibrated on {count:,} validation images, not on {requested:,}: there are no more",)


@torch.no_grad()
def _banks(
    model: TappedClassifier,
    split: Split,
    *,
    taps: tuple[str, ...],
    distance: Distance,
    sketch_above: int | None,
    seed: int,
) -> tuple[dict[str, NeighbourBank], tuple[str, ...]]:
    """Fill a bank for each tap, batch by batch; also return a note for each projected tap."""
    banks: dict[str, NeighbourBank] = {}
    notes: list[str] = []
    with evaluating(model), torch.autocast(split.labels_N.device.type, enabled=False):
        for start, (x, _) in zip(range(0, len(split), BATCH_SIZE), batches(split), strict=True):
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
    note = f"neighbours at {tap} are those in {SKETCH_WIDTH} random projections of its {columns:,} numbers"
    return NeighbourBank(torch.empty(rows, SKETCH_WIDTH, device=device), distance, sketch), [note]


def _consult(
    model: TappedClassifier, x_NCHW: Tensor, *, banks: Mapping[str, NeighbourBank], labels_M: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, votes and reach of one batch."""
    with evaluating(model), torch.autocast(x_NCHW.device.type, enabled=False):
        read = model.features(x_NCHW, taps=tuple(banks))
    neighbours_L = [nearest(bank, read.taps[tap], k=k) for tap, bank in banks.items()]
    labels_NLk = torch.stack([labels_M[neighbours.indices_Qk] for neighbours in neighbours_L], dim=1)
    reach_NL = torch.stack([neighbours.distances_Qk[:, -1] for neighbours in neighbours_L], dim=1)
    return read.logits, vote_counts(labels_NLk, num_classes=read.logits.shape[1]), reach_NL


@torch.no_grad()
def _true_class_nonconformity(
    model: TappedClassifier, split: Split, *, banks: Mapping[str, NeighbourBank], labels_M: Tensor, k: int
) -> Tensor:
    """Return the sorted scores (A,) of images in their own class."""
    scores = []
    for x, labels_B in batches(split):
        _, votes_BLK, _ = _consult(model, x, banks=banks, labels_M=labels_M, k=k)
        scores.append(nonconformity(votes_BLK, k=k).gather(1, labels_B[:, None])[:, 0])
    return torch.cat(scores).sort().values
