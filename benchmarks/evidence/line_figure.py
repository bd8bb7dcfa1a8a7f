"""Line charts as one SVG file, without a plotting library: panels with their own axes, and one legend below them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 270, 190
"""Size of a panel's frame, in pixels; all of a figure are wider if the labels of one would meet."""
LEFT, TOP, GAP, FOOT = 58, 30, 20, 44
LEGEND, LETTER = 18, 6.2
"""Height of a row of the legend, and width of a letter."""
DEPTHS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#e8b800", "#d1495b")
"""Colours from the input on; the last two are for what is not a block."""
KINDS = ("#222222", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#1b9e77")
"""Colours of a baseline and of treatments: each of the first two with its control in the lighter colour."""
BAND = 0.15
"""Opacity of a band: lines and other bands show through."""


class Point(NamedTuple):
    """Place of a value on both axes, and the half width of its interval."""

    x: float
    y: float
    half: float = 0.0


class Line(NamedTuple):
    """Points under a name, which has one colour in all panels; a dashed line for controls and limits.

    Intervals are bars, or one light band where many points follow each other.
    """

    name: str
    points: Sequence[Point]
    colour: str
    dashed: bool = False
    has_band: bool = False


class Axis(NamedTuple):
    """Title and ends of an axis, and the values that are written on it, as `labels` if it has them."""

    title: str
    low: float
    high: float
    ticks: Sequence[float]
    labels: Sequence[str] = ()
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return where a value is between the ends, in [0, 1]: one beyond them is drawn on the edge.

        >>> Axis("", 0, 10, ()).share(5), Axis("", 0.01, 1, (), is_log=True).share(0.1), Axis("", 0, 1, ()).share(7)
        (0.5, 0.5, 1.0)
        """
        low, high, own = (math.log10(end) if self.is_log else end for end in (self.low, self.high, self._kept(value)))
        return (own - low) / ((high - low) or 1.0)

    def _kept(self, value: float) -> float:
        return min(max(value, self.low), self.high)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Values and texts of the ticks."""
        return list(zip(self.ticks, self.labels or [f"{value:g}" for value in self.ticks], strict=True))


class Panel(NamedTuple):
    """Lines under a title, in a frame of two axes."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


class _Frame(NamedTuple):
    """Place of a panel in the figure, in pixels."""

    panel: Panel
    left: int
    top: int
    width: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + HEIGHT

    def across(self, x: float) -> float:
        return self.left + self.panel.x.share(x) * self.width

    def up(self, y: float) -> float:
        return self.bottom - self.panel.y.share(y) * HEIGHT

    def path(self, places: Sequence[tuple[float, float]]) -> str:
        """Return a path through places on both axes."""
        return "M" + "L".join(f"{self.across(x):.1f},{self.up(y):.1f}" for x, y in places)


def figure(panels: Sequence[Panel], *, words: str, columns: int = 3) -> str:
    """Return the panels as SVG on a white ground; `words` say what is shown, for those who cannot see it."""
    columns, frame = min(columns, len(panels)), max(map(_width, panels))
    names = {line.name: line for panel in panels for line in panel.lines}
    width = columns * (LEFT + frame) + GAP
    entry = 44 + LETTER * max(map(len, names))
    entries = max(1, int((width - LEFT) // entry))
    foot = -(-len(panels) // columns) * (TOP + HEIGHT + FOOT) + 8
    height = foot + LEGEND * -(-len(names) // entries) + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="11">',
        f"<title>{escape(words)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        left, top = LEFT + number % columns * (LEFT + frame), TOP + number // columns * (TOP + HEIGHT + FOOT)
        own = _Frame(panel, left, top, frame)
        parts += [*_axes(own), *_lines(own)]
    for number, line in enumerate(names.values()):
        left, middle = LEFT + number % entries * entry, foot + number // entries * LEGEND + 8
        parts += [_stroke(f"M{left:g},{middle}h22", line), _text(left + 28, middle + 4, line.name)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def linear(title: str, high: float, step: float, *, low: float = 0.0) -> Axis:
    """Return an axis with a tick at each step.

    >>> linear("share", 1.0, 0.5).ticks
    [0.0, 0.5, 1.0]
    """
    return Axis(title, low, high, [round(low + step * k, 10) for k in range(int((high - low) / step + 1.5))])


def _width(panel: Panel) -> int:
    """Return the width in which no label of the horizontal axis meets the next one."""
    marks = sorted((panel.x.share(value), text) for value, text in panel.x.marks)
    between = ((b - a, LETTER * (len(one) + len(other)) / 2 + LETTER) for (a, one), (b, other) in pairwise(marks))
    return math.ceil(max([WIDTH, *(pixels / share for share, pixels in between if share)]))


def _axes(frame: _Frame) -> list[str]:
    panel, left, top, right, bottom = frame.panel, frame.left, frame.top, frame.right, frame.bottom
    parts = [_text(left, top - 10, panel.title, weight="bold")]
    for value, text in panel.y.marks:
        parts.append(f'<path d="M{left},{frame.up(value):.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(left - 6, frame.up(value) + 4, text, anchor="end"))
    for value, text in panel.x.marks:
        parts.append(f'<path d="M{frame.across(value):.1f},{bottom}v4" stroke="#888"/>')
        parts.append(_text(frame.across(value), bottom + 16, text, anchor="middle"))
    parts.append(f'<path d="M{left},{bottom}H{right}" stroke="#888"/>')
    parts.append(_text((left + right) / 2, bottom + 32, panel.x.title, anchor="middle"))
    middle = (top + bottom) / 2
    turned = f' transform="rotate(-90 {left - 42} {middle:g})"'
    parts.append(_text(left - 42, middle, panel.y.title, anchor="middle", more=turned))
    return parts


def _lines(frame: _Frame) -> list[str]:
    """Return all bands, and over them the lines with their bars, so that no band hides a line."""
    lines = frame.panel.lines
    parts = [_band(frame, line) for line in lines if line.has_band]
    for line in lines:
        parts.append(_stroke(frame.path([(own.x, own.y) for own in line.points]), line))
        parts += [_bar(frame, own, line.colour) for own in line.points if own.half and not line.has_band]
    return parts


def _band(frame: _Frame, line: Line) -> str:
    """Return the area between the upper ends of the intervals and, backwards, the lower ones."""
    ends = [(own.x, own.y + own.half) for own in line.points]
    ends += [(own.x, own.y - own.half) for own in reversed(line.points)]
    return f'<path d="{frame.path(ends)}Z" fill="{line.colour}" fill-opacity="{BAND}"/>'


def _bar(frame: _Frame, point: Point, colour: str) -> str:
    ends = f"M{frame.across(point.x):.1f},{frame.up(point.y - point.half):.1f}V{frame.up(point.y + point.half):.1f}"
    return f'<path d="{ends}" stroke="{colour}"/>'


def _stroke(path: str, line: Line) -> str:
    dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
    return f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"{dashes}/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", more: str = "") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="#222"{more}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
