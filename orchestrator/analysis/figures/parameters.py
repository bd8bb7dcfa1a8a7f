"""Figures of searched parameters against the objective at one epoch: slice, rank, contour, parallel coordinates."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.figures.drawing import (
    GREY,
    INK,
    RANKS,
    compared,
    described,
    grid,
    headed,
    narrowed,
    place_of,
    ranks,
    scaled,
    searched,
    symbol,
    varied,
    with_unit,
)
from orchestrator.analysis.figures.surface import surface
from orchestrator.errors import OrchestratorError
from trainables.evaluation.core.figures import graph_objects

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.figures.axes import Axis
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

PAIRED = 4
"""Parameters of which every pair has a panel: the strengths of the methods, then others."""


def slices(result: SweepResult, comparison: Comparison) -> Figure:
    """Return a panel for each searched parameter: its values against the objective, with the baseline's as a line.

    Trials that cannot be told apart from the best have a ring. Those far worse than the rest are triangles at the edge.
    """
    trials = _trials(result, comparison)
    axes = _axes(result, trials)
    plot = grid(
        headed(
            result,
            "slices",
            f"{compared(comparison)}; ring: no worse than the best beyond chance; triangle: off the axis",
        ),
        len(axes),
    )
    ringed, values, (low, high) = set(comparison.inseparable), comparison.values, narrowed(comparison)
    margin = 0.06 * ((high - low) or 1.0)
    by_rank = ranks(comparison)
    for index, axis in enumerate(axes):
        place = place_of(index, len(axes))
        plot.add_scatter(
            x=[axis.position(trial.point.get(axis.name)) for trial in trials],
            y=[min(max(values[trial.id], low - margin / 2), high + margin / 2) for trial in trials],
            text=[described(trial, axes, values[trial.id]) for trial in trials],
            hoverinfo="text",
            mode="markers",
            marker={
                "size": 8,
                "symbol": [symbol(trial.id, comparison, low, high) for trial in trials],
                "color": [by_rank[trial.id] for trial in trials],
                "colorscale": RANKS,
                "line": {"width": [2 if trial.id in ringed else 0 for trial in trials], "color": "#d62728"},
            },
            showlegend=False,
            **place,
        )
        if comparison.baseline in values:
            label = {"annotation_text": "baseline", "annotation_position": "bottom right"} if not index else {}
            line = {"dash": "dash", "color": INK, "width": 1}
            plot.add_hline(y=values[str(comparison.baseline)], line=line, **label, **place)
        plot.update_xaxes(**scaled(axis, trials), **place)
        plot.update_yaxes(title=with_unit(result.plan, comparison.metric), range=[low - margin, high + margin], **place)
    return plot


def rank(result: SweepResult, comparison: Comparison) -> Figure:
    """Return a panel for each pair of parameters, its trials coloured by their rank at the epoch of comparison."""
    trials = _trials(result, comparison)
    pairs = _pairs(result, trials)
    plot = grid(headed(result, "ranks", compared(comparison)), len(pairs))
    for index, (first, second) in enumerate(pairs):
        place = place_of(index, len(pairs))
        plot.add_scatter(**_points(first, second, trials, comparison, bar=not index), **place)
        _axes_of_pair(plot, first, second, trials, place)
    return plot


def contour(result: SweepResult, comparison: Comparison) -> Figure:
    """Return a panel for each pair of parameters: a smoothed surface where points are, and the points.

    The surface is left empty away from points. Trials with a method off are points at the edge, and not part of it.
    """
    trials = _trials(result, comparison)
    pairs = [pair for pair in _pairs(result, trials) if not any(axis.domain.values() for axis in pair)]
    if not pairs:
        raise OrchestratorError("contour: needs two continuous parameters with several values; see the figure 'rank'")
    note = f"{compared(comparison)}; smoothed, empty away from points"
    plot = grid(headed(result, "contours", note), len(pairs))
    low, high = narrowed(comparison)
    for index, (first, second) in enumerate(pairs):
        place = place_of(index, len(pairs))
        inside = [
            (float(x), float(y), comparison.values[trial.id])
            for trial in trials
            if not isinstance(x := first.place(trial.point.get(first.name)), str)
            and not isinstance(y := second.place(trial.point.get(second.name)), str)
        ]
        steps, z = surface(inside)
        plot.add_contour(
            x=steps,
            y=steps,
            z=z,
            zmin=low,
            zmax=high,
            colorscale=RANKS,
            connectgaps=False,
            hoverinfo="skip",
            showscale=not index,
            colorbar={"title": {"text": with_unit(result.plan, comparison.metric), "side": "right"}},
            **place,
        )
        plot.add_scatter(
            **_points(first, second, trials, comparison, bar=False, colours=comparison.values, span=(low, high)),
            **place,
        )
        _axes_of_pair(plot, first, second, trials, place)
    return plot.update_layout(margin={"r": 110})


def parallel(result: SweepResult, comparison: Comparison) -> Figure:
    """Return parallel coordinates of the searched parameters, coloured by rank; trials that are not compared are grey.

    The last axis is the objective at the epoch of comparison. Grey lines end below its values.
    """
    by_rank, values = ranks(comparison), comparison.values
    grey = [result.state.trials[name] for name in comparison.greyed]
    trials = [*grey, *reversed(_trials(result, comparison))]  # later lines are drawn over earlier ones
    axes = _axes(result, trials)
    low, high = min(values.values()), max(values.values())
    below = low - 0.12 * ((high - low) or 1.0)
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    dimensions = [_dimension(axis, trials) for axis in axes]
    dimensions.append(
        {
            "label": comparison.metric,
            "values": [values.get(trial.id, below) for trial in trials],
            "tickvals": [*([below] if grey else []), *ticks],
            "ticktext": [*(["not compared"] if grey else []), *(f"{tick:.4g}" for tick in ticks)],
        }
    )
    scale = [[0.0, GREY], [0.05, GREY], [0.051, "#440154"], [0.32, "#3b528b"], [0.55, "#21918c"], [0.77, "#5ec962"]]
    plot = graph_objects().Figure(
        graph_objects().Parcoords(
            line={
                "color": [by_rank.get(trial.id, -0.1) for trial in trials],
                "colorscale": [*scale, [1.0, "#fde725"]],
                "cmin": -0.1,
                "cmax": 1.0,
                "showscale": True,
                "colorbar": {"title": "rank", "tickvals": [-0.1, 0, 1], "ticktext": ["not compared", "worst", "best"]},
            },
            dimensions=dimensions,
            labelangle=-18,
            labelfont={"size": 12},
        )
    )
    title = headed(
        result,
        "parallel coordinates",
        f"{compared(comparison, rest='grey')}; {with_unit(result.plan, comparison.metric)}",
    )
    width = max(1000, 130 * len(dimensions))
    return plot.update_layout(title=title, width=width, height=560, margin={"l": 90, "r": 60, "t": 190, "b": 50})


def _dimension(axis: Axis, trials: list[Trial]) -> dict[str, Any]:
    positions, texts = axis.ticks([trial.point.get(axis.name) for trial in trials])
    low = min([*positions, 0.0])
    return {
        "label": axis.name,
        "values": [axis.position(trial.point.get(axis.name)) for trial in trials],
        "tickvals": positions,
        "ticktext": texts,
        "range": [low, 1.0],
    }


def _trials(result: SweepResult, comparison: Comparison) -> list[Trial]:
    """Return the compared trials, the best first."""
    return [result.state.trials[name] for name in comparison.values]


def _axes(result: SweepResult, trials: list[Trial]) -> list[Axis]:
    axes = varied(searched(result.plan), trials)
    if not axes:
        raise OrchestratorError(
            f"{result.sweep}: no searched parameter has two values among the {len(trials)} compared trials; "
            "compare them at an earlier epoch, with --epoch"
        )
    return axes


def _pairs(result: SweepResult, trials: list[Trial]) -> list[tuple[Axis, Axis]]:
    pairs = list(combinations(_axes(result, trials)[:PAIRED], 2))
    if not pairs:
        raise OrchestratorError(
            f"{result.sweep}: only one searched parameter has two values among the {len(trials)} compared trials; "
            "see the figure 'slice'"
        )
    return pairs


def _points(
    first: Axis,
    second: Axis,
    trials: list[Trial],
    comparison: Comparison,
    *,
    bar: bool,
    colours: dict[str, float] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> dict[str, Any]:
    colour = ranks(comparison) if colours is None else colours
    return {
        "x": [first.position(trial.point.get(first.name)) for trial in trials],
        "y": [second.position(trial.point.get(second.name)) for trial in trials],
        "text": [described(trial, (first, second), comparison.values[trial.id]) for trial in trials],
        "hoverinfo": "text",
        "mode": "markers",
        "showlegend": False,
        "marker": {
            "size": 10,
            "symbol": ["star" if trial.id == comparison.baseline else "circle" for trial in trials],
            "color": [colour[trial.id] for trial in trials],
            "cmin": span[0],
            "cmax": span[1],
            "colorscale": RANKS,
            "line": {"width": 1.5, "color": "white"},
            "showscale": bar,
            "colorbar": {"title": "rank", "tickvals": [0, 1], "ticktext": ["worst", "best"]},
        },
    }


def _axes_of_pair(plot: Figure, first: Axis, second: Axis, trials: list[Trial], place: dict[str, int]) -> None:
    plot.update_xaxes(**scaled(first, trials), **place)
    plot.update_yaxes(**scaled(second, trials), **place)
