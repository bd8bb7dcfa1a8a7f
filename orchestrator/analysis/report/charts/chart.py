"""Charts as values: panels with two scales and marks, without a notion of pixels or colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.analysis.report.markup import Html

Shape: TypeAlias = Literal["circle", "star", "diamond", "up", "down"]
TICKS = 5
MARGIN = 0.06
"""Share of a range that is left free at both of its ends."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Axis: its title, the values at its ends, and its ticks with their texts."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """Point of a trial; ``words`` are shown at the pointer, ``style`` is a class of the style sheet."""

    x: float
    y: float
    words: str
    style: str = "c0"
    shape: Shape = "circle"


@dataclass(frozen=True, slots=True)
class Line:
    """Line through points."""

    points: tuple[tuple[float, float], ...]
    words: str = ""
    style: str = "c0"
    is_stepped: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """Horizontal bar at a height, from one value to another, with its thickness in units of the vertical scale."""

    y: float
    start: float
    end: float
    words: str
    style: str = "c0"
    thickness: float = 0.7
    label: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Horizontal interval at a height."""

    y: float
    low: float
    high: float
    style: str = "ink"


@dataclass(frozen=True, slots=True)
class Rule:
    """Line across a panel at a value of one axis, with a label."""

    at: float
    label: str = ""
    axis: Literal["x", "y"] = "y"


Mark: TypeAlias = Dot | Line | Bar | Span | Rule


@dataclass(frozen=True, slots=True)
class Panel:
    """Panel with its marks, later ones over earlier ones; ``title`` is that of a figure with several panels.

    With ``is_slanted`` the texts of the horizontal ticks are long, and slanted.
    """

    x: Scale
    y: Scale
    marks: tuple[Mark, ...]
    title: str = ""
    height: int = 300
    is_wide: bool = True
    is_slanted: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Figure: its kind (a name of ``ravel plot``), title, caption, panels, legend and the numbers as a table."""

    kind: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = field(default=())
    """Style and words of each entry."""
    numbers: Html | None = None


def scale_of(title: str, values: Iterable[float], *, zero: bool = False) -> Scale:
    """Return a linear scale around values, with round ticks; with ``zero`` it begins at 0, without a margin.

    >>> scale_of("epoch", [1, 27]).ticks[0], scale_of("n", [4.0], zero=True).low
    ((0.0, '0'), 0.0)
    """
    present = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(present), max(present)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    span = (high - low) or abs(high) or 1.0
    shown_low = low if zero and low == 0 else low - MARGIN * span
    shown_high = high + MARGIN * span
    return Scale(title, shown_low, shown_high, tuple((tick, label_of(tick)) for tick in round_ticks(shown_low, high)))


def round_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers of a range.

    >>> round_ticks(0.81, 0.97), round_ticks(0, 27)
    ([0.85, 0.9, 0.95], [0.0, 5.0, 10.0, 15.0, 20.0, 25.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.8)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def label_of(value: float) -> str:
    """Return a tick's text: digits in groups, no needless zeros.

    >>> label_of(0.85), label_of(20_000.0), label_of(-0.0)
    ('0.85', '20,000', '0')
    """
    return f"{value or 0.0:,.10g}" if abs(value) < 1e7 else f"{value:.3g}"


def categories(names: Sequence[str]) -> Scale:
    """Return a vertical scale with a place for each name, the first at the top."""
    last = len(names) - 1
    return Scale("", -0.6, last + 0.6, tuple((float(last - index), name) for index, name in enumerate(names)))
