"""Accuracy on the test images, and whether confidences can be trusted: Guo et al., "On Calibration" (ICML 2017).

A network is calibrated where, of the images it is 90 % sure of, 90 % are right. Dividing all logits by
one temperature, fitted on validation images, mends much of what is not, and changes no prediction.
Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from trainables._torchvision import import_torchvision
from trainables.evaluation.core.clean import negative_log_likelihood
from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.intervals import Proportion
from trainables.evaluation.core.prediction import logits, within
from trainables.evaluation.core.results import Cell, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from trainables.data import Split
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject

__all__ = [
    "Calibration",
    "Reliability",
    "ReliabilityBin",
    "calibration",
    "fit_temperature",
    "reliability",
    "suite",
]

NUM_BINS = 15
# Beyond these temperatures float32 logits are all the same, or all certain.
_LARGEST_LOG_T = 30.0
_BISECTIONS = 56
# torchmetrics rounds to float32 and gives a confidence of exactly 1 a bin of its own.
_LARGEST_CONFIDENCE = 1 - 2**-24


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The images whose confidence is in (low, high], their mean confidence, and how many of them are right."""

    low: float
    high: float
    confidence: float
    right: Proportion


@dataclass(frozen=True, slots=True)
class Reliability:
    """Likelihood (nats) and calibration error of logits divided by a temperature, with the bins that hold an image."""

    temperature: float
    nll: float
    ece: float
    confidence: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Accuracy, and reliability before and after temperature scaling; `scaled` is None where no T minimises."""

    right: Proportion
    plain: Reliability
    scaled: Reliability | None
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Of the test images; the scaled ones only where there is a temperature."""
        result = {"test/accuracy": self.right.value, "test/nll": self.plain.nll, "test/ece": self.plain.ece}
        if self.scaled is not None:
            result["test/temperature"] = self.scaled.temperature
            result["test/nll_scaled"] = self.scaled.nll
            result["test/ece_scaled"] = self.scaled.ece
        return result

    def table(self) -> Table:
        """All images, then each bin that holds one: first at T = 1, then at the fitted temperature."""
        columns = ("T", "confidence above", "up to", "images", "confidence", "accuracy", "low, 95 %", "high, 95 %")
        rows = [row for reliability in self._measured for row in _rows(reliability, self.right)]
        return Table((*columns, "gap or ECE", "NLL, nats"), tuple(rows))

    def figure(self) -> Figure:
        """Accuracy over confidence with the diagonal it should lie on, and how many images each bin holds."""
        plot = panels("Reliability on the test images", ("accuracy in each bin", "images in each bin"))
        go = graph_objects()
        plot.add_trace(
            go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dash", "color": "grey"}, name="calibrated")
        )
        for reliability, colour in zip(self._measured, ("#1f77b4", "#d95f02"), strict=False):
            name = f"T = {reliability.temperature:.3g}, ECE {reliability.ece:.4f}"
            plot.add_trace(_curve(reliability, go, name=name, colour=colour), row=1, col=1)
            plot.add_trace(_counts(reliability, go, name=name, colour=colour), row=1, col=2)
        plot.update_xaxes(title="confidence (largest softmax output)", range=[0, 1.01])
        plot.update_yaxes(title="accuracy (bars: 95 % interval)", range=[0, 1.03], row=1, col=1)
        plot.update_yaxes(
            title="images, logarithmic", type="log", dtick=1, range=[-0.2, _decades(self.right)], row=1, col=2
        )
        plot.update_layout(legend={"orientation": "h", "y": -0.22}, margin={"b": 110})
        return plot

    @property
    def _measured(self) -> tuple[Reliability, ...]:
        return (self.plain,) if self.scaled is None else (self.plain, self.scaled)


def suite(subject: Subject, budget: EvaluationBudget, progress: Progress, /) -> Mapping[str, Result]:
    """Accuracy and calibration on the test images; the temperature comes from the validation images."""
    progress("calibration", 0.0)
    result = calibration(subject.model, subject.test, val=subject.val, images=budget.images)
    progress("calibration", 1.0)
    return {"calibration": result}


def calibration(model: nn.Module, test: Split, *, val: Split, images: int | None = None) -> Calibration:
    """Judge `model` on `test`, or on `images` of them; the temperature is fitted on all of `val`.

    Raises:
        ValueError: logits that are not finite.
    """
    test, limits = within(test, images)
    scores_NK, labels_N = _scores(model, test, "test"), test.labels_N.cpu()
    temperature = fit_temperature(_scores(model, val, "val"), val.labels_N.cpu())
    fitted = 0 < temperature < math.inf
    return Calibration(
        right=_right(scores_NK.argmax(1) == labels_N),
        plain=reliability(scores_NK, labels_N),
        scaled=reliability(scores_NK, labels_N, temperature=temperature) if fitted else None,
        limits=limits,
        refusals=() if fitted else (_no_temperature(temperature),),
    )


def fit_temperature(logits_NK: Tensor, labels_N: Tensor) -> float:
    """The T that minimises the mean cross-entropy of logits / T, which is convex in 1 / T.

    By bisection of its slope in log T, in float64. 0 or infinity where there is no minimum between: the
    loss only falls as T falls when every label's logit is on top, and only as T grows when the labels'
    logits are on average no higher than all others.

    >>> logits = 4 * torch.log(torch.tensor([[0.8, 0.2]])).repeat(5, 1)  # four times too sure
    >>> f"{fit_temperature(logits, torch.tensor([0, 0, 0, 0, 1])):.6f}"
    '4.000000'
    >>> fit_temperature(logits, torch.zeros(5, dtype=torch.int64))
    0.0
    """
    scores_NK = logits_NK.double()
    excess_NK = scores_NK - scores_NK.gather(1, labels_N[:, None])

    def slope(log_t: float) -> float:
        """That of the loss in 1 / T: the mean logit under the softmax, above the label's."""
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
    """Likelihood, calibration error and bins of logits / T: 15 bins of equal width, (m / 15, (m + 1) / 15].

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
        ece=_calibration_error(probability_NK, labels_N),
        confidence=float(confidence_N.mean()),
        bins=tuple(_bin(index, confidence_N, right_N, bin_N == index) for index in sorted(set(bin_N.tolist()))),
    )


def _scores(model: nn.Module, split: Split, name: str) -> Tensor:
    scores_NK = logits(model, split).cpu().double()
    if wrong := int((~scores_NK.isfinite().all(1)).sum()):
        raise ValueError(
            f"{name}: logits must be finite, got {wrong} of {len(split)} images where they are not; "
            "the training has diverged: judge an earlier checkpoint"
        )
    return scores_NK


def _right(right_N: Tensor) -> Proportion:
    return Proportion(int(right_N.sum()), len(right_N))


def _bin(index: int, confidence_N: Tensor, right_N: Tensor, inside_N: Tensor) -> ReliabilityBin:
    return ReliabilityBin(
        low=index / NUM_BINS,
        high=(index + 1) / NUM_BINS,
        confidence=float(confidence_N[inside_N].mean()),
        right=_right(right_N[inside_N]),
    )


def _calibration_error(probability_NK: Tensor, labels_N: Tensor) -> float:
    """By torchmetrics; its sums in float64, as its float32 is some millionths off on ten thousand images."""
    metric = _metrics().MulticlassCalibrationError(num_classes=probability_NK.shape[1], n_bins=NUM_BINS, norm="l1")
    metric.update(probability_NK.clamp(max=_LARGEST_CONFIDENCE), labels_N)
    metric.set_dtype(torch.float64)
    return float(metric.compute())


def _metrics() -> Any:
    import_torchvision()  # torchmetrics imports it, without knowing of wheels that need help
    try:
        return import_module("torchmetrics.classification")
    except ImportError as error:
        raise ImportError("calibration is measured by torchmetrics: pip install 'ravel-sweeps[evaluate]'") from error


def _no_temperature(edge: float) -> str:
    cause = (
        "every validation image has the logit of its label on top, and the likelihood only rises as T falls to 0"
        if edge == 0
        else "the labels' logits are no higher than the others on the validation images, and the likelihood only "
        "rises with T"
    )
    return f"test/temperature: no temperature is fitted: {cause}; the scaled numbers are left out"


def _rows(reliability: Reliability, right: Proportion) -> list[tuple[Cell, ...]]:
    t = reliability.temperature
    return [
        (t, 0.0, 1.0, *_shares(reliability.confidence, right), reliability.ece, reliability.nll),
        *(
            (t, bin_.low, bin_.high, *_shares(bin_.confidence, bin_.right), _gap(bin_), None)
            for bin_ in reliability.bins
        ),
    ]


def _shares(confidence: float, right: Proportion) -> tuple[Cell, ...]:
    return right.trials, confidence, right.value, right.low, right.high


def _decades(right: Proportion) -> float:
    return math.log10(right.trials) + 0.7


def _gap(bin_: ReliabilityBin) -> float:
    return abs(bin_.right.value - bin_.confidence)


def _curve(reliability: Reliability, go: Any, *, name: str, colour: str) -> Any:
    bins = reliability.bins
    return go.Scatter(
        x=[bin_.confidence for bin_ in bins],
        y=[bin_.right.value for bin_ in bins],
        error_y={
            "array": [bin_.right.high - bin_.right.value for bin_ in bins],
            "arrayminus": [bin_.right.value - bin_.right.low for bin_ in bins],
            "thickness": 1,
        },
        customdata=[bin_.right.trials for bin_ in bins],
        hovertemplate="confidence %{x:.3f}, accuracy %{y:.3f}, %{customdata} images",
        mode="lines+markers",
        marker={"color": colour},
        name=name,
        legendgroup=name,
    )


def _counts(reliability: Reliability, go: Any, *, name: str, colour: str) -> Any:
    bins = reliability.bins
    return go.Bar(
        x=[(bin_.low + bin_.high) / 2 for bin_ in bins],
        y=[bin_.right.trials for bin_ in bins],
        text=[bin_.right.trials for bin_ in bins],
        textposition="outside",
        textangle=-90,
        textfont={"size": 11},
        constraintext="none",
        cliponaxis=False,
        marker={"color": colour},
        name=name,
        legendgroup=name,
        showlegend=False,
    )
