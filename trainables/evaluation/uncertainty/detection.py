"""Out-of-distribution detection by eight scores that are high for images of the known kind.

    msp            the largest softmax output (Hendrycks and Gimpel, ICLR 2017)
    energy         logsumexp of the logits (Liu et al., NeurIPS 2020)
    credibility    of deep nearest neighbours: the p-value of the predicted class
    conformity     -alpha of the predicted class, which is finer than the p-value
    own_votes      neighbours, at all taps, of the class that the network predicts
    knn            minus the distance to the k-th neighbour at the penultimate tap (Sun et al., ICML 2022)
    mahalanobis    minus the Mahalanobis distance to the nearest class mean at the penultimate tap (Lee et al., 2018)
    mahalanobis_sum    the sum of these scores over all taps

Test images are the positive ones of `auroc`, `aupr` and `fpr95`; outliers are those of `aupr_out`.
Shapes: N test images, M outliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from trainables.evaluation.core.figures import figure, graph_objects
from trainables.evaluation.core.prediction import within
from trainables.evaluation.core.results import Table, no_progress
from trainables.evaluation.uncertainty.dknn import fit_subject
from trainables.evaluation.uncertainty.mahalanobis import fit_gaussians, mahalanobis_scores
from trainables.evaluation.uncertainty.outliers import permuted, rotated
from trainables.models.tapped import PENULTIMATE
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from plotly.graph_objects import Figure

    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject
    from trainables.evaluation.uncertainty.conformal import ConformalPrediction
    from trainables.evaluation.uncertainty.dknn import DeepNearestNeighbors
    from trainables.evaluation.uncertainty.mahalanobis import TiedGaussians

__all__ = ["NAMES", "SCORES", "Detection", "Separation", "detection", "separation", "some_of", "suite"]

TRUE_POSITIVE_RATE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Separation:
    """One score's numbers on one set of outliers, each in [0, 1].

    auroc: the probability that a test image scores higher than an outlier; equal scores count half.
    aupr, aupr_out: average precision in finding test images (high scores) and outliers (low ones). A guess reaches the
    share of the positive images, so compare these at equal numbers of images only.
    fpr95: the share of outliers accepted by the highest threshold that accepts at least 95 % of test images.
    """

    auroc: float
    aupr: float
    aupr_out: float
    fpr95: float


@dataclass(frozen=True, slots=True)
class Detection:
    """Separations by set of outliers and score."""

    inside: int
    outside: Mapping[str, int]
    separations: Mapping[tuple[str, str], Separation]
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return `ood/<set>_<score>_auroc`, `_aupr`, `_aupr_out` and `_fpr95`."""
        return {
            f"ood/{name}_{score}_{measure}": getattr(result, measure)
            for (name, score), result in self.separations.items()
            for measure in ("auroc", "aupr", "aupr_out", "fpr95")
        }

    def table(self) -> Table:
        """Return a row for each set and score."""
        columns = (
            "outliers",
            "images",
            "test images",
            "score",
            "AUROC",
            "AUPR test",
            "AUPR outliers",
            "FPR at 95 % TPR",
        )
        rows = (
            (name, self.outside[name], self.inside, score, result.auroc, result.aupr, result.aupr_out, result.fpr95)
            for (name, score), result in self.separations.items()
        )
        return Table(columns, tuple(rows))

    def figure(self) -> Figure:
        """Plot the AUROC of every score, grouped by set; 0.5 is a guess."""
        names = list(self.outside)
        plot = figure("Detection of outliers among test images", x="outliers", y="AUROC (0.5: a guess)")
        for score in dict.fromkeys(score for _, score in self.separations):
            values = [self.separations[name, score].auroc for name in names]
            plot.add_trace(graph_objects().Bar(x=names, y=values, name=score))
        plot.add_hline(y=0.5, line_dash="dash", line_color="grey")
        plot.update_layout(barmode="group", legend_title="score")
        plot.update_yaxes(range=[0, 1.02])
        return plot


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Measure every set of `subject.outliers`, or rotated and permuted test images if it is empty.

    Neighbours are searched by cosine among all training images, at all taps, with 75 votes each.
    """
    progress("neighbours of the training images", 0.0)
    detector = fit_subject(subject)
    progress("Gaussians of the training images", 0.2)
    gaussians = fit_gaussians(subject.model, subject.train, taps=detector.taps)
    test, limits = within(subject.test, budget.images)
    outliers = subject.outliers or {"rotated": rotated(test), "permuted": permuted(test, seed=subject.seed)}
    result = detection(detector, test, outliers, gaussians=gaussians, seed=subject.seed, progress=progress)
    return {
        "detection": Detection(
            result.inside, result.outside, result.separations, (*limits, *detector.limits, *result.limits)
        )
    }


def detection(
    detector: DeepNearestNeighbors,
    test: Split,
    outliers: Mapping[str, Split],
    *,
    gaussians: Mapping[str, TiedGaussians],
    seed: int = 0,
    progress: Progress = no_progress,
) -> Detection:
    """Measure all scores on all sets; a set larger than `test` is sampled by `seed` down to the same size.

    `gaussians` are those of `mahalanobis.fit_gaussians`, by tap.
    """
    progress("scores of the test images", 0.3)
    inside = _scores(detector, test, gaussians)
    separations: dict[tuple[str, str], Separation] = {}
    outside: dict[str, int] = {}
    limits = [*_flat_directions(gaussians)]
    if PENULTIMATE not in detector.taps:
        without = "left out, as no linear layer makes the logits of this network, so it has no penultimate"
        limits += [f"{KNN}: {without}", f"{MAHALANOBIS}: {without}"]
    for done, (name, whole) in enumerate(outliers.items()):
        progress(f"scores of {name}", 0.4 + 0.6 * done / len(outliers))
        split, notes = some_of(whole, name=name, at_most=len(test), seed=seed)
        scores = _scores(detector, split, gaussians)
        separations |= {(name, score): separation(inside[score], scores[score]) for score in scores}
        outside[name] = len(split)
        limits += notes
    progress("outliers", 1.0)
    return Detection(len(test), outside, separations, tuple(limits))


def some_of(split: Split, *, name: str, at_most: int, seed: int) -> tuple[Split, tuple[str, ...]]:
    """Return the images, or a sample of `at_most` of them without replacement and a line that says so."""
    if len(split) <= at_most:
        return split, ()
    sampled_N = torch.randperm(len(split), generator=generator(seed, f"outliers {name}"))[:at_most]
    chosen_N = sampled_N.sort().values.to(split.labels_N.device)
    return split.take(chosen_N), (f"{name}: {at_most:,} of {len(split):,} images, as many as test images",)


def separation(inside_N: Tensor, outside_M: Tensor) -> Separation:
    """Measure the separation of the scores of test images from those of outliers.

    Raises:
        ValueError: no score of one kind, or one that is NaN.

    >>> separation(torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0]))
    Separation(auroc=0.875, aupr=0.8333333333333333, aupr_out=0.8333333333333333, fpr95=0.5)
    """
    for name, scores in (("inside", inside_N), ("outside", outside_M)):
        if not len(scores) or bool(scores.isnan().any()):
            raise ValueError(f"{name}: must be at least one score and no NaN, got {len(scores)} scores")
    inside_N, outside_M = inside_N.double().cpu(), outside_M.double().cpu()
    accepted, passed = _cumulated(inside_N, outside_M)
    rejected, missed = _cumulated(-outside_M, -inside_N)
    rises = torch.diff(passed, prepend=passed.new_zeros(1))
    above = torch.cat([accepted.new_zeros(1), accepted[:-1]])
    auroc = (rises * (above + accepted) / 2).sum() / (len(inside_N) * len(outside_M))
    enough = int((accepted >= TRUE_POSITIVE_RATE * len(inside_N) - 1e-9).int().argmax())
    return Separation(
        auroc=float(auroc),
        aupr=_average_precision(accepted, passed),
        aupr_out=_average_precision(rejected, missed),
        fpr95=float(passed[enough]) / len(outside_M),
    )


def _cumulated(positive_N: Tensor, negative_M: Tensor) -> tuple[Tensor, Tensor]:
    """Count the scores of both kinds at or above each distinct score, from the highest score down."""
    thresholds = torch.unique(torch.cat([positive_N, negative_M])).flip(0)
    return _at_least(positive_N, thresholds), _at_least(negative_M, thresholds)


def _at_least(scores: Tensor, thresholds: Tensor) -> Tensor:
    return (len(scores) - torch.searchsorted(scores.sort().values, thresholds)).double()


def _average_precision(hits: Tensor, false_alarms: Tensor) -> float:
    """Sum the precision at each threshold, weighted by the recall that it adds."""
    added = torch.diff(hits, prepend=hits.new_zeros(1))
    return float((added * hits / (hits + false_alarms)).sum() / hits[-1])


def _largest_softmax(prediction: ConformalPrediction, _: DeepNearestNeighbors) -> Tensor:
    return prediction.logits_NK.double().softmax(1).amax(1)


def _energy(prediction: ConformalPrediction, _: DeepNearestNeighbors) -> Tensor:
    return prediction.logits_NK.double().logsumexp(1)


def _credibility(prediction: ConformalPrediction, _: DeepNearestNeighbors) -> Tensor:
    return prediction.credibility_N


def _conformity(prediction: ConformalPrediction, _: DeepNearestNeighbors) -> Tensor:
    return -prediction.alpha_NK.gather(1, prediction.prediction_N[:, None])[:, 0]


def _own_votes(prediction: ConformalPrediction, _: DeepNearestNeighbors) -> Tensor:
    return prediction.own_votes().sum(1)


def _nearness(prediction: ConformalPrediction, detector: DeepNearestNeighbors) -> Tensor:
    return -prediction.reach_NL[:, detector.taps.index(PENULTIMATE)]


KNN: Final = "knn"
SCORES: Final[Mapping[str, Callable[[ConformalPrediction, DeepNearestNeighbors], Tensor]]] = MappingProxyType(
    {
        "msp": _largest_softmax,
        "energy": _energy,
        "credibility": _credibility,
        "conformity": _conformity,
        "own_votes": _own_votes,
        KNN: _nearness,
    }
)
"""Scores of the logits and of the neighbours, by name."""
MAHALANOBIS: Final = "mahalanobis"
MAHALANOBIS_SUM: Final = "mahalanobis_sum"
NAMES: Final = (*SCORES, MAHALANOBIS, MAHALANOBIS_SUM)
"""Names of all scores."""


def _scores(detector: DeepNearestNeighbors, split: Split, gaussians: Mapping[str, TiedGaussians]) -> dict[str, Tensor]:
    prediction = detector.predict(split)
    scores = {name: score for name, score in SCORES.items() if name != KNN or PENULTIMATE in detector.taps}
    by_tap = mahalanobis_scores(detector.model, split, gaussians=gaussians)
    result = {name: score(prediction, detector) for name, score in scores.items()}
    if PENULTIMATE in by_tap:
        result[MAHALANOBIS] = by_tap[PENULTIMATE]
    return result | {MAHALANOBIS_SUM: torch.stack([*by_tap.values()]).sum(0)}


def _flat_directions(gaussians: Mapping[str, TiedGaussians]) -> Iterator[str]:
    for tap, of_tap in gaussians.items():
        if of_tap.num_left_out:
            units = len(of_tap.whitening_DR)
            yield (
                f"{MAHALANOBIS} at {tap}: {of_tap.num_left_out} of {units} directions left out, in which training "
                "images of a class do not differ"
            )
