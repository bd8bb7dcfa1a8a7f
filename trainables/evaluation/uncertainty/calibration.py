"""Accuracy and calibration on the test images: Guo et al., "On Calibration" (ICML 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.evaluation.core.figures import graph_objects, panels
from trainables.evaluation.core.prediction import logits, within
from trainables.evaluation.core.results import Cell, Table
from trainables.evaluation.uncertainty.reliability import (
    Reliability,
    ReliabilityBin,
    fit_temperature,
    proportion,
    reliability,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plotly.graph_objects import Figure
    from torch import Tensor, nn

    from trainables.data import Split
    from trainables.evaluation.core.intervals import Proportion
    from trainables.evaluation.core.results import EvaluationBudget, Progress, Result, Subject

__all__ = ["Calibration", "calibration", "suite"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Accuracy, and reliability before and after temperature scaling; `scaled` is None where no T minimises."""

    right: Proportion
    plain: Reliability
    scaled: Reliability | None
    limits: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def metrics(self) -> Mapping[str, float]:
        """Return the metrics of the test images; the scaled ones only if a temperature was fitted."""
        result = {"test/accuracy": self.right.value} | _numbers(self.plain)
        if self.scaled is not None:
            result["test/temperature"] = self.scaled.temperature
            result |= {f"{name}_scaled": value for name, value in _numbers(self.scaled).items()}
        return result

    def table(self) -> Table:
        """Return rows of all images, then of each bin that is not empty: at T = 1, then at the fitted temperature."""
        columns = ("T", "confidence above", "up to", "images", "confidence", "accuracy", "low, 95 %", "high, 95 %")
        rows = [row for measured in self._measured for row in _rows(measured, self.right)]
        return Table((*columns, "gap or ECE", "NLL, nats", "Brier score", "classwise ECE"), tuple(rows))

    def figure(self) -> Figure:
        """Plot accuracy over confidence with the diagonal of perfect calibration, and the images in each bin."""
        plot = panels("Reliability on the test images", ("accuracy in each bin", "images in each bin"))
        go = graph_objects()
        plot.add_trace(
            go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dash", "color": "grey"}, name="calibrated")
        )
        for measured, colour in zip(self._measured, ("#1f77b4", "#d95f02"), strict=False):
            name = f"T = {measured.temperature:.3g}, ECE {measured.ece:.4f}"
            plot.add_trace(_curve(measured, go, name=name, colour=colour), row=1, col=1)
            plot.add_trace(_counts(measured, go, name=name, colour=colour), row=1, col=2)
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
    """Measure accuracy and calibration on the test images; the temperature comes from the validation images."""
    progress("calibration", 0.0)
    result = calibration(subject.model, subject.test, val=subject.val, images=budget.images)
    progress("calibration", 1.0)
    return {"calibration": result}


def calibration(model: nn.Module, test: Split, *, val: Split, images: int | None = None) -> Calibration:
    """Evaluate `model` on `test`, or on `images` of them; the temperature is fitted on all of `val`.

    Raises:
        ValueError: logits that are not finite.
    """
    test, limits = within(test, images)
    scores_NK, labels_N = _scores(model, test, "test"), test.labels_N.cpu()
    temperature = fit_temperature(_scores(model, val, "val"), val.labels_N.cpu())
    fitted = 0 < temperature < math.inf
    return Calibration(
        right=proportion(scores_NK.argmax(1) == labels_N),
        plain=reliability(scores_NK, labels_N),
        scaled=reliability(scores_NK, labels_N, temperature=temperature) if fitted else None,
        limits=limits,
        refusals=() if fitted else (_no_temperature(temperature),),
    )


def _scores(model: nn.Module, split: Split, name: str) -> Tensor:
    scores_NK = logits(model, split).cpu().double()
    if wrong := int((~scores_NK.isfinite().all(1)).sum()):
        raise ValueError(
            f"{name}: logits must be finite, got {wrong} of {len(split)} images where they are not; "
            "the training has diverged: evaluate a previous checkpoint"
        )
    return scores_NK


def _no_temperature(edge: float) -> str:
    cause = (
        "every validation image has the logit of its label on top, and the likelihood only rises as T falls to 0"
        if edge == 0
        else "the labels' logits are no higher than the other logits on the validation images, and the likelihood "
        "only rises with T"
    )
    return f"test/temperature: no temperature is fitted: {cause}; the scaled numbers are left out"


def _numbers(measured: Reliability) -> dict[str, float]:
    return {
        "test/nll": measured.nll,
        "test/brier": measured.brier,
        "test/ece": measured.ece,
        "test/classwise_ece": measured.classwise_ece,
    }


def _rows(reliability: Reliability, right: Proportion) -> list[tuple[Cell, ...]]:
    t = reliability.temperature
    return [
        (
            *(t, 0.0, 1.0, *_shares(reliability.confidence, right), reliability.ece),
            *(reliability.nll, reliability.brier, reliability.classwise_ece),
        ),
        *(
            (t, bin_.low, bin_.high, *_shares(bin_.confidence, bin_.right), _gap(bin_), None, None, None)
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
