"""Figures by name, and their files: HTML pages that need no network."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.figures.outcomes import effect, entanglement, importance, pareto
from orchestrator.analysis.figures.parameters import contour, parallel, rank, slices
from orchestrator.analysis.figures.progress import curves, history
from orchestrator.analysis.figures.rungs import rungs
from orchestrator.analysis.figures.running import cost, timeline
from orchestrator.errors import OrchestratorError, quoted
from orchestrator.storage.atomic_files import write_atomically
from search_spaces import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult

ALL = "all"
"""Name of all figures, for the command line."""

Draw: TypeAlias = "Callable[[SweepResult, Comparison], Figure]"

KINDS: Mapping[str, Draw] = MappingProxyType(
    {
        "history": history,
        "curves": curves,
        "rungs": rungs,
        "importance": importance,
        "slice": slices,
        "rank": rank,
        "contour": contour,
        "parallel": parallel,
        "pareto": pareto,
        "timeline": timeline,
        "cost": cost,
        "entanglement": entanglement,
        "effect": effect,
    }
)


def draw(result: SweepResult, kind: str, *, epoch: int | None = None) -> Figure:
    """Return a figure of a sweep, its trials compared at one epoch; by default that of ``comparable_epoch``.

    Raises:
        OrchestratorError: no figure of that kind, or the sweep has nothing for it to show.
        ImportError: plotly is not installed; names the extra that has it.
    """
    if kind not in KINDS:
        closest = nearest(kind, KINDS)
        hint = f"; did you mean {closest!r}?" if closest else ""
        raise OrchestratorError(f"kind: must be one of {', '.join(KINDS)} or {ALL}, got {quoted(kind)}{hint}")
    return KINDS[kind](result, compare(result.plan, result.state, epoch=epoch))


def write_page(plot: Figure, path: Path) -> str:
    """Write a figure as an HTML page with all that a browser needs to show it, about 5 MB; return the page."""
    page = str(plot.to_html(include_plotlyjs=True, full_html=True))
    write_atomically(path, page)
    return page
