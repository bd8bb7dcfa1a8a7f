"""Figure of the rungs: a panel for each, with every trial that reached it and what became of it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.rungs import OUTCOMES, rungs_of
from orchestrator.analysis.figures.drawing import (
    GREY,
    INK,
    described,
    grid,
    headed,
    narrowed,
    place_of,
    searched,
    symbol,
    with_unit,
)
from orchestrator.analysis.figures.progress import COLOURS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult

BAND = "rgba(31, 119, 180, 0.12)"


def rungs(result: SweepResult, _: Comparison) -> Figure:
    """Return the objective at each rung by rank, a panel for each rung and one for the full budget.

    Colours are the outcomes of trials there. The band is the 95 % interval of the best over the choice of images.
    Trials far worse than the rest are triangles at the edge.

    Raises:
        OrchestratorError: as ``rungs_of``.
    """
    levels = rungs_of(result.plan, result.state)
    axes, metric = searched(result.plan), levels[0].comparison.metric
    sizes = ", ".join(f"{rung.epoch} (n = {len(rung.outcomes)})" for rung in levels)
    note = f"each panel is of one epoch: {sizes}; band: 95 % interval of the best; triangle: off the axis"
    plot = grid(headed(result, "trials at each rung", note), len(levels), columns=2)
    shown = set[str]()
    for index, rung in enumerate(levels):
        place = place_of(index, len(levels), columns=2)
        compared = rung.comparison
        low, high = narrowed(compared)
        margin = 0.06 * ((high - low) or 1.0)
        ranks = {name: rank for rank, name in enumerate(compared.values, start=1)}
        for outcome in rung.counts:
            some = [name for name in compared.values if rung.outcomes[name] == outcome]
            plot.add_scatter(
                x=[ranks[name] for name in some],
                y=[min(max(compared.values[name], low), high) for name in some],
                text=[described(result.state.trials[name], axes, compared.values[name]) for name in some],
                hoverinfo="text",
                mode="markers",
                marker={
                    "color": _colour(outcome),
                    "symbol": [symbol(name, compared, low, high) for name in some],
                    "size": [12 if name == compared.baseline else 8 for name in some],
                    "line": {"color": INK, "width": 0.5},
                },
                name=outcome,
                legendgroup=outcome,
                showlegend=outcome not in shown,
                **place,
            )
            shown.add(outcome)
        if (interval := compared.interval(compared.best)) is not None:
            plot.add_hrect(y0=interval[0], y1=interval[1], fillcolor=BAND, line_width=0, layer="below", **place)
        plot.update_xaxes(title=f"rank at {rung.name} ({rung.summary})", title_font_size=11, **place)
        plot.update_yaxes(title=with_unit(result.plan, metric), range=[low - margin, high + margin], **place)
    return plot.update_layout(legend={"title": "outcome (star: baseline)"})


def _colour(outcome: str) -> str:
    """Return the colour of an outcome, the same in every panel."""
    return GREY if outcome == "stopped" else COLOURS[OUTCOMES.index(outcome) % len(COLOURS)]
