"""Figures of a report: which kinds it has, and how one becomes markup."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.analysis.report.charts.outcome_figures import entanglement, pareto
from orchestrator.analysis.report.charts.parameter_figures import effect, importance, parallel, slices
from orchestrator.analysis.report.charts.progress_figures import cost, curves, history, timeline
from orchestrator.analysis.report.charts.svg import drawing, symbol
from orchestrator.analysis.report.markup import Html, folded, joined, listed, scrolling, tag
from orchestrator.errors import OrchestratorError
from orchestrator.state.sweep_folder import named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.report.charts.chart import Figure, Shape
    from orchestrator.analysis.result import SweepResult

Draw: TypeAlias = "Callable[[SweepResult, Comparison], Figure]"
KINDS: Mapping[str, Draw] = MappingProxyType(
    {
        "effect": effect,
        "slice": slices,
        "importance": importance,
        "pareto": pareto,
        "parallel": parallel,
        "curves": curves,
        "history": history,
        "entanglement": entanglement,
        "cost": cost,
        "timeline": timeline,
    }
)
ELSEWHERE = ("rank", "contour")
"""Kinds of `ravel plot` that need colours over a plane, and a pointer."""
SHAPES: tuple[Shape, ...] = ("star", "diamond")


def figures(result: SweepResult, comparison: Comparison | None) -> Html:
    """Return the figures that a sweep has something to show in, and for the rest the reason."""
    if comparison is None:
        return tag("p", "No trial has measured the objective yet, so no figure is shown.")
    parts, reasons = [], []
    for kind, draw in KINDS.items():
        try:
            parts.append(placed(draw(result, comparison)))
        except (OrchestratorError, ImportError) as error:
            reasons.append(f"{kind}: {str(error).removeprefix(f'{result.sweep}: ')}")
    command = f"ravel plot {named(result.folder)} {ELSEWHERE[0]}"
    more = tag("p", "Two more figures are interactive: ", tag("code", command), f" and {ELSEWHERE[1]}.")
    left_out = folded("Figures that are left out", listed(reasons)) if reasons else ""
    return joined([*parts, more, left_out])


def placed(figure: Figure) -> Html:
    """Return a figure as markup: its panels, legend, caption, and its numbers below a line that opens them."""
    panels = []
    for index, panel in enumerate(figure.panels):
        name = f"figure-{figure.kind}-{index}"
        words = ", ".join(filter(None, (figure.title, panel.title, panel.x.title, panel.y.title)))
        image = drawing(panel, name=name, words=f"{words}. {figure.caption}" if not index else words)
        title = tag("p", panel.title, class_="panel-title") if panel.title else ""
        panels.append(tag("div", title, image, class_="panel"))
    is_wide = any(panel.is_wide for panel in figure.panels)
    if is_wide:
        panels = [
            scrolling(panel, label=f"Figure: {figure.title}{f', {index}' if index > 1 else ''}")
            for index, panel in enumerate(panels, start=1)
        ]
    entries = [tag("li", symbol(style, _shape_of(style)), tag("span", words)) for style, words in figure.legend]
    numbers = figure.numbers
    return tag(
        "figure",
        tag("h3", figure.title),
        tag("ul", *entries, class_="legend", aria_label="Legend") if entries else "",
        tag("div", *panels, class_="panels wide" if is_wide else "panels"),
        tag("figcaption", figure.caption),
        folded("The numbers of this figure", numbers) if numbers else "",
        id=f"figure-{figure.kind}",
    )


def _shape_of(style: str) -> Shape:
    return next((shape for shape in SHAPES if shape in style.split()), "circle")
