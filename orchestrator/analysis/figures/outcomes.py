"""Figures of what was achieved: effect of each method, importance of parameters, Pareto front, entanglement by tap."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.effects import effects
from orchestrator.analysis.comparison.importance import importances
from orchestrator.analysis.comparison.trade_off import trade_off
from orchestrator.analysis.figures.drawing import GREY, INK, compared, described, grid, headed, searched, with_unit
from orchestrator.analysis.figures.progress import COLOURS
from orchestrator.errors import OrchestratorError
from trainables.evaluation.core.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

MOST_SHARES = 15
"""Parameters that a panel of `importance` has room for."""
FAMILY = "entanglement/"
CHANCE = "val/entanglement_chance"


def effect(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the difference of each trial to the baseline by the methods that are on, with the mean of each group.

    Raises:
        OrchestratorError: the baseline has no value at the epoch of comparison.
    """
    groups = effects(result.plan, result.state, comparison)
    if not groups:
        raise OrchestratorError(
            f"{result.sweep}: the baseline, or all other trials, have no value at epoch {comparison.epoch}; "
            "choose another with --epoch"
        )
    axes = searched(result.plan)
    baseline = comparison.values[str(comparison.baseline)]
    note = f"{compared(comparison)}; baseline {baseline:.4f}; diamonds: mean, 95 % bootstrap interval"
    y = f"difference to the baseline, {with_unit(result.plan, comparison.metric)}"
    plot = figure(headed(result, "effect of each method", note), x="methods that are on", y=y)
    names = [f"{group.methods.replace(' + ', '<br>+ ')}<br>n = {len(group.differences)}" for group in groups]
    for name, group in zip(names, groups, strict=True):
        plot.add_scatter(
            x=[name] * len(group.differences),
            y=list(group.differences.values()),
            text=[described(result.state.trials[trial], axes, comparison.values[trial]) for trial in group.differences],
            hoverinfo="text",
            mode="markers",
            marker={"color": GREY, "size": 7},
            showlegend=False,
        )
    spans = [group.interval or (group.mean, group.mean) for group in groups]
    means = [group.mean for group in groups]
    plot.add_scatter(
        x=names,
        y=means,
        error_y={
            "array": [high - mean for (_, high), mean in zip(spans, means, strict=True)],
            "arrayminus": [mean - low for (low, _), mean in zip(spans, means, strict=True)],
        },
        mode="markers",
        marker={"color": COLOURS[0], "size": 11, "symbol": "diamond"},
        showlegend=False,
    )
    plot.add_hline(
        y=0,
        line={"dash": "dash", "color": INK, "width": 1},
        annotation_text="baseline",
        annotation_position="bottom left",
    )
    return plot.update_layout(width=max(1000, 150 * len(groups)), height=600, margin={"b": 140})


def importance(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the importance of each parameter by fANOVA and by PED-ANOVA; a method that may be off is two bars.

    Each panel has its largest shares, and the title says how many are left out.

    Raises:
        OrchestratorError: too few trials, or all with one value.
    """
    parts = importances(result.plan, result.state, comparison)
    least = max(len(part.shares) for part in parts) - MOST_SHARES
    left_out = f"; each panel leaves out its {least} smallest shares" if least > 0 else ""
    note = f"{compared(comparison)}; bars: 95 % of resampled trials{left_out}"
    plot = grid(headed(result, "importance", note), len(parts), columns=2)
    rows = max(min(MOST_SHARES, len(part.shares)) for part in parts)
    for index, part in enumerate(parts):
        names = list(part.shares)[:MOST_SHARES][::-1]
        shares = [part.shares[name] for name in names]
        spans = [part.intervals[name] for name in names]
        error = {
            "array": [max(0.0, high - share) for (_, high), share in zip(spans, shares, strict=True)],
            "arrayminus": [max(0.0, share - low) for (low, _), share in zip(spans, shares, strict=True)],
        }
        place = {"row": 1, "col": index + 1}
        plot.add_bar(
            x=shares,
            y=names,
            orientation="h",
            error_x=error,
            marker={"color": COLOURS[index]},
            showlegend=False,
            **place,
        )
        plot.update_xaxes(title=f"{part.method}, share of all (sum 1)", range=[0, 1], **place)
        plot.update_yaxes(automargin=True, **place)
    plot.update_yaxes(title="parameter", row=1, col=1)
    plot.update_layout(xaxis={"domain": (0.0, 0.38)}, xaxis2={"domain": (0.62, 1.0)})
    return plot.update_layout(width=1300, height=260 + 28 * rows)


def pareto(result: SweepResult, comparison: Comparison) -> Figure:
    """Return trials by two objectives at one epoch, with the front; by default accuracy and robust accuracy.

    The epoch is that of the comparison if enough trials measured both there, else the highest that 12 trials did.

    Raises:
        OrchestratorError: no trial measured both.
    """
    both = trade_off(result.plan, result.state, comparison)
    first, second, epoch = both.first, both.second, both.epoch
    points, front, trials = both.points, list(both.front), result.state.trials
    baseline, axes = comparison.baseline, searched(result.plan)
    note = f"at epoch {epoch}, n = {len(points)} trials with both; {len(trials) - len(points)} without are not drawn"
    plot = figure(
        headed(result, "Pareto front", note), x=with_unit(result.plan, first), y=with_unit(result.plan, second)
    )
    groups = {
        "dominated": [name for name in points if name not in front and name != baseline],
        "front": front,
        "baseline": [name for name in points if name == baseline],
    }
    styles = {
        "dominated": {"color": GREY, "size": 8},
        "front": {"color": COLOURS[0], "size": 10},
        "baseline": {"color": INK, "size": 13, "symbol": "star"},
    }
    for group, names in groups.items():
        plot.add_scatter(
            x=[points[name][0] for name in names],
            y=[points[name][1] for name in names],
            text=[f"{described(trials[name], axes)}<br>{points[name][0]:.4f}, {points[name][1]:.4f}" for name in names],
            hoverinfo="text",
            mode="lines+markers" if group == "front" else "markers",
            marker=styles[group],
            line={"dash": "dot", "color": COLOURS[0]},
            name=f"{group} (n = {len(names)})",
        )
    return plot.update_layout(width=1000)


def entanglement(result: SweepResult, _: Comparison) -> Figure:
    """Return the entanglement at each tap, a panel for SNNL off, negative and positive, a colour for each epoch.

    Raises:
        OrchestratorError: no trial measured it.
    """
    trials = [trial for trial in result.state.trials.values() if taps_of([trial])]
    taps, epochs = taps_of(trials), sorted({epoch for trial in trials for epoch in measured_epochs(trial)})
    if not trials:
        raise OrchestratorError(f"{result.sweep}: no trial has measured entanglement; it is that of classifiers")
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(weight_in_words(trial), []).append(trial)
    order = sorted(groups)
    shown = epochs if len(epochs) <= len(COLOURS) else epochs[:: -(-len(epochs) // len(COLOURS))]
    note = f"each trial at the epochs that measured it: {', '.join(map(str, shown))}; n = {len(trials)} trials"
    plot = grid(headed(result, "entanglement by tap and epoch", note), len(order))
    for index, group in enumerate(order):
        place = {"row": 1, "col": index + 1}
        for colour, epoch in zip(COLOURS, shown, strict=False):
            values = {
                tap: [value for trial in groups[group] if (value := trial.values(FAMILY + tap).get(epoch)) is not None]
                for tap in taps
            }
            if any(values.values()):
                plot.add_scatter(
                    x=[tap for tap in taps for _ in values[tap]],
                    y=[value for tap in taps for value in values[tap]],
                    mode="markers",
                    marker={"color": colour, "size": 6, "opacity": 0.5},
                    showlegend=False,
                    **place,
                )
                plot.add_scatter(
                    x=[tap for tap in taps if values[tap]],
                    y=[fmean(values[tap]) for tap in taps if values[tap]],
                    mode="lines",
                    line={"color": colour, "width": 2},
                    name=f"epoch {epoch}, {group}: mean of n = {max(map(len, values.values()))}",
                    **place,
                )
        if chance := [value for trial in groups[group] for value in trial.values(CHANCE).values()]:
            plot.add_hline(y=fmean(chance), line={"dash": "dash", "color": INK, "width": 1}, **place)
        plot.update_xaxes(title=f"tap ({group}; dashed: chance)", categoryarray=taps, **place)
        plot.update_yaxes(title="soft nearest neighbour loss, nats", **place)
    return plot.update_layout(
        width=max(900, 420 * len(order) + 100), height=620, legend={"orientation": "h", "y": -0.25}
    )


def weight_in_words(trial: Trial) -> str:
    """Return the sign of a trial's SNNL weight, in words."""
    weight = trial.config.get("snnl.weight") or 0.0
    return "snnl off" if not weight else f"snnl.weight {'< 0' if weight < 0 else '> 0'}"


def taps_of(trials: Iterable[Trial]) -> list[str]:
    """Return the taps at which trials measured entanglement, in the order of the network."""
    names = (name for trial in trials for metrics in trial.epochs.values() for name in metrics)
    return list(dict.fromkeys(name.removeprefix(FAMILY) for name in names if name.startswith(FAMILY)))


def measured_epochs(trial: Trial) -> list[int]:
    """Return the epochs at which a trial measured entanglement."""
    return [epoch for epoch, metrics in trial.epochs.items() if any(name.startswith(FAMILY) for name in metrics)]
