"""Figures of the objective over trials and epochs: history, learning curves by rung."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from orchestrator.analysis.figures.drawing import GREY, INK, compared, described, headed, searched, with_unit
from trainables.evaluation.core.figures import figure

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf", "#bcbd22")


def history(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the objective at the epoch of comparison, in the order of the trials, and the best of them so far.

    Trials that did not reach it are grey, with what they measured last.
    """
    axes, trials = searched(result.plan), result.state.trials
    number = {name: index for index, name in enumerate(trials)}
    plot = figure(
        headed(result, "history", compared(comparison, rest="grey")),
        x="trial, in the order of their creation",
        y=with_unit(result.plan, comparison.metric),
    )
    ids = sorted(comparison.values, key=number.__getitem__)
    values = [comparison.values[name] for name in ids]
    last = {name: value for name in comparison.greyed if (value := trials[name].last(comparison.metric)) is not None}
    plot.add_scatter(
        x=[number[name] for name in last],
        y=list(last.values()),
        text=[described(trials[name], axes, value) for name, value in last.items()],
        hoverinfo="text",
        mode="markers",
        marker={"color": GREY, "symbol": "circle-open"},
        name="last epoch of the rest, not compared",
    )
    plot.add_scatter(
        x=[number[name] for name in ids],
        y=values,
        text=[described(trials[name], axes, comparison.values[name]) for name in ids],
        hoverinfo="text",
        mode="markers",
        marker={"color": COLOURS[0], "symbol": ["star" if name == comparison.baseline else "circle" for name in ids]},
        name=f"epoch {comparison.epoch} (star: baseline)",
    )
    best = list(accumulate(values, max if comparison.mode == "max" else min))
    plot.add_scatter(
        x=[number[name] for name in ids],
        y=best,
        mode="lines",
        line={"shape": "hv", "color": COLOURS[1]},
        name=f"best so far at epoch {comparison.epoch}",
    )
    return plot.update_layout(width=1000, legend={"orientation": "h", "y": -0.2})


def curves(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the objective of every trial by epoch, a colour for each rung at which trials ended."""
    axes, metric = searched(result.plan), comparison.metric
    measured = [trial for trial in result.state.trials.values() if trial.values(metric)]
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(measured, key=lambda trial: (-trial.epoch, trial.id)):
        groups.setdefault(outcome(trial), []).append(trial)
    count = f"n = {len(comparison.values)} of {len(measured)} trials"
    note = f"dotted: epoch {comparison.epoch}, at which {count} are compared"
    plot = figure(headed(result, "learning curves by rung", note), x="epoch", y=with_unit(result.plan, metric))
    for index, (words, trials) in enumerate(groups.items()):
        x: list[int | None] = []
        y: list[float | None] = []
        text: list[str | None] = []
        for trial in trials:
            curve = trial.values(metric)
            x += [*curve, None]
            y += [*curve.values(), None]
            text += [*(f"epoch {epoch}<br>{described(trial, axes, value)}" for epoch, value in curve.items()), None]
        colour = COLOURS[index % len(COLOURS)]
        plot.add_scatter(
            x=x,
            y=y,
            text=text,
            hoverinfo="text",
            mode="lines+markers",
            line={"width": 1.2, "color": colour},
            marker={"size": 4, "color": colour},
            opacity=0.75,
            name=f"{words} (n = {len(trials)})",
        )
    baseline = result.state.trials.get(comparison.baseline or "")
    if baseline is not None and (curve := baseline.values(metric)):
        plot.add_scatter(
            x=list(curve), y=list(curve.values()), mode="lines", line={"width": 3, "color": INK}, name="baseline"
        )
    plot.add_vline(x=comparison.epoch, line={"dash": "dot", "color": INK, "width": 1})
    return plot.update_layout(width=1000)


def outcome(trial: Trial) -> str:
    """Return how a trial ended, in words that group trials: its rung, its full budget, its failure."""
    if trial.status == "completed":
        audited = f", audit of rung {trial.blind_from}" if trial.blind_from is not None else ""
        return f"full budget{audited}"
    if trial.stopped_by_order:
        return "stopped by order"
    if trial.is_out_of_race:
        return "dropped by racing"
    if trial.status in {"stopped", "paused"}:
        return f"{trial.status} at rung {trial.stopping_rung}"
    return trial.status
