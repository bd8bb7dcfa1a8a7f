"""Common layout of all figures; the only module that imports plotly."""

from __future__ import annotations

from importlib import import_module
from textwrap import shorten
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["figure", "graph_objects", "panels", "titled"]

_LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"size": 14},
    "width": 820,
    "height": 520,
    "margin": {"l": 80, "r": 30, "t": 70, "b": 70},
}


def graph_objects() -> Any:
    """Return the module `plotly.graph_objects`.

    Raises:
        ImportError: plotly is not installed; names the extra that has it.
    """
    return _plotly("graph_objects")


def figure(title: str, *, x: str, y: str, **layout: Any) -> Figure:
    """Return an empty figure with titled axes; `x` and `y` name the quantity on the axis and its unit.

    >>> figure("Accuracy under attack", x="epsilon, in pixels of [0, 1]", y="accuracy").layout.xaxis.title.text
    'epsilon, in pixels of [0, 1]'
    """
    plot: Figure = graph_objects().Figure()
    plot.update_layout({**_LAYOUT, "title": title, "xaxis_title": x, "yaxis_title": y, **layout})
    return plot


def panels(title: str, names: tuple[str, ...], *, columns: int = 2, **layout: Any) -> Figure:
    """Return empty panels under one title, filled row by row; title their axes with `update_xaxes(row=, col=)`."""
    rows = -(-len(names) // columns)
    plot: Figure = _plotly("subplots").make_subplots(rows=rows, cols=columns, subplot_titles=names)
    plot.update_layout({**_LAYOUT, "title": title, "width": 460 * columns, "height": 120 + 340 * rows, **layout})
    return plot


def titled(title: str, refusals: tuple[str, ...], *, width: int = 110) -> str:
    """Return a figure's title; if the claim is refused, it says so and gives the first reason.

    >>> titled("Accuracy", ()), titled("Accuracy", ("logits: must be", "more"))
    ('Accuracy', 'Accuracy: REFUSED<br><sup>logits: must be (1 more)</sup>')
    """
    if not refusals:
        return title
    more = f" ({len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return f"{title}: REFUSED<br><sup>{shorten(refusals[0], width, placeholder=' ...')}{more}</sup>"


def _plotly(module: str) -> Any:
    try:
        return import_module(f"plotly.{module}")
    except ImportError as error:
        raise ImportError("figures are drawn by plotly: pip install 'ravel-sweeps[evaluate]'") from error
