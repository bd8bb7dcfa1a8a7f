"""Common parts of the figures of a sweep: titles that name the epoch and n, the objective's axis, colours, panels."""

from __future__ import annotations

from statistics import quantiles
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.figures.axes import axes_of
from orchestrator.formatting import shown
from orchestrator.spec.baseline import strengths_of
from trainables.evaluation.core.figures import panels
from trainables.metrics import lookup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.figures.axes import Axis
    from orchestrator.analysis.result import SweepResult
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import Trial

FENCE = 3.0
GREY = "#b8b8b8"
INK = "#222222"
RANKS = "Viridis"
WIDTH = 900
PANEL_WIDTH = 420
PANEL_HEIGHT = 300
GAP = 80
"""Pixels between the rows of panels."""


def headed(result: SweepResult, what: str, note: str) -> str:
    """Return a title of two lines: the sweep and what the figure shows, then the epoch of comparison and n."""
    return f"{result.sweep}: {what}<br><sup>{note}</sup>"


def compared(comparison: Comparison, *, rest: str = "left out") -> str:
    """Return the epoch of comparison and the numbers of trials, for a title; ``rest`` is what became of all others."""
    left_out = f"; {len(comparison.greyed)} trials without a value there are {rest}" if comparison.greyed else ""
    return f"at epoch {comparison.epoch}, n = {len(comparison.values)} trials{left_out}"


def with_unit(plan: SweepPlan, metric: str) -> str:
    """Return a metric with its unit, as a title of an axis."""
    try:
        unit = plan.unit_of(metric) or lookup(metric).unit
    except KeyError:
        unit = ""
    return f"{metric}, {unit}" if unit else metric


def searched(plan: SweepPlan) -> list[Axis]:
    """Return an axis for each searched parameter that has several values, the strengths of the methods first."""
    names = [name for name, domain in plan.spec.space.parameters.items() if (domain.values() or (0, 1))[1:]]
    first = [name for name in strengths_of(plan.spec) if name in names]
    return axes_of(plan.spec.space, [*first, *(name for name in names if name not in first)])


def varied(axes: Iterable[Axis], trials: Sequence[Trial]) -> list[Axis]:
    """Return the axes on which these trials have more than one value."""
    return [axis for axis in axes if len({str(trial.point.get(axis.name)) for trial in trials}) > 1]


def ranks(comparison: Comparison) -> dict[str, float]:
    """Return the rank of each trial from 0 (worst) to 1 (best); trials of equal value share their mean rank."""
    values = list(comparison.values.values())
    if len(values) == 1:
        return dict.fromkeys(comparison.values, 1.0)
    last = len(values) - 1
    mean = {value: (values.index(value) + last - values[::-1].index(value)) / 2 for value in dict.fromkeys(values)}
    return {trial: 1 - mean[value] / last for trial, value in comparison.values.items()}


def narrowed(comparison: Comparison) -> tuple[float, float]:
    """Return the range of the values, on the worse side without those beyond three interquartile ranges.

    A few failed trials would otherwise flatten all differences.
    """
    values = sorted(comparison.values.values())
    low, high = values[0], values[-1]
    if len(values) < 4 or low == high:
        return low, high
    lower, _, upper = quantiles(values, n=4)
    reach = FENCE * (upper - lower)
    if comparison.mode == "max":
        return min(value for value in values if value >= lower - reach), high
    return low, max(value for value in values if value <= upper + reach)


def symbol(trial: str, comparison: Comparison, low: float, high: float) -> str:
    """Return the symbol of a trial: a triangle if it is beyond an axis of this range, a star for the baseline."""
    value = comparison.values[trial]
    if not low <= value <= high:
        return "triangle-down" if value < low else "triangle-up"
    return "star" if trial == comparison.baseline else "circle"


def described(trial: Trial, axes: Iterable[Axis], value: float | None = None) -> str:
    """Return what a pointer shows of a trial: its value, how it ended, its point."""
    first = f"<b>{trial.id}</b>{' (baseline)' if trial.origin == 'baseline' else ''}"
    measured = [] if value is None else [f"value {value:.4f}"]
    status = f"{trial.status} after epoch {trial.epoch} of {trial.budget}"
    point = [f"{axis.name}: {shown(trial.point[axis.name])}" for axis in axes if axis.name in trial.point]
    return "<br>".join([first, *measured, status, *point])


def grid(title: str, count: int, *, columns: int = 3) -> Figure:
    """Return this many panels without names above them, at most ``columns`` in a row."""
    across = min(columns, count)
    rows = -(-count // across)
    plot = panels(title, ("",) * count, columns=across, width=max(WIDTH, PANEL_WIDTH * across))
    plot.update_layout(height=160 + PANEL_HEIGHT * rows, margin={"l": 80, "r": 40, "t": 90, "b": 70})
    plot.update_layout(font={"size": 12}, title={"font": {"size": 18}})
    gap = GAP / (PANEL_HEIGHT * rows)
    height = (1 - gap * (rows - 1)) / rows
    for index in range(rows * across):
        top = 1 - (height + gap) * (index // across)
        plot.layout[f"yaxis{index + 1 if index else ''}"].domain = (max(0.0, top - height), top)
    for index in range(count, rows * across):  # the rest of the last row
        place = place_of(index, count, columns=columns)
        plot.update_xaxes(visible=False, **place)
        plot.update_yaxes(visible=False, **place)
    return plot


def place_of(index: int, count: int, *, columns: int = 3) -> dict[str, int]:
    """Return row and column of a panel.

    >>> place_of(4, 7), place_of(1, 2)
    ({'row': 2, 'col': 2}, {'row': 1, 'col': 2})
    """
    across = min(columns, count)
    return {"row": index // across + 1, "col": index % across + 1}


def scaled(axis: Axis, trials: Iterable[Trial]) -> dict[str, Any]:
    """Return the layout of a parameter's axis in its searched scale."""
    positions, texts = axis.ticks([trial.point.get(axis.name) for trial in trials])
    low = min([*positions, 0.0])
    return {
        "title": {"text": axis.title},
        "tickvals": positions,
        "ticktext": texts,
        "range": [low - 0.06, 1.06],
        "zeroline": False,
    }
