"""Line charts in a row as one SVG file: a panel for each treatment or metric, the same axes and one legend."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 236, 176
"""Size of a panel's frame, in pixels."""
LEFT, TOP, GAP, FOOT = 52, 30, 26, 44
LEGEND = 18
"""Height of a row of the legend."""
ENTRY = 150
"""Width of an entry of the legend."""
DEPTHS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#e8b800", "#d1495b")
"""Colours from the input on; the last two are for what is not a block."""
KINDS = ("#222222", "#0072b2", "#56b4e9", "#d55e00", "#e69f00")
"""Colours of a baseline and of two treatments, each with its control in the lighter colour."""


class Line(NamedTuple):
    """Points (x, y) under a name, which has one colour in all panels; a dashed one for controls and limits."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False


class Panel(NamedTuple):
    """Lines under a title."""

    title: str
    lines: Sequence[Line]


class Axis(NamedTuple):
    """Title and ends of an axis, and the values that are written on it."""

    title: str
    low: float
    high: float
    ticks: Sequence[float]


def chart(panels: Sequence[Panel], *, words: str, x: Axis, y: Axis, columns: int = 3) -> str:
    """Return the panels as SVG on a white ground; `words` say what is shown, for those who cannot see it."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    names = {line.name: line for panel in panels for line in panel.lines}
    width = columns * (LEFT + WIDTH) + GAP
    entries = max(1, (width - LEFT) // ENTRY)
    foot = rows * (TOP + HEIGHT + FOOT) + 8
    height = foot + LEGEND * -(-len(names) // entries) + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="sans-serif" font-size="11" fill="#222"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        f"<title>{escape(words)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        place = LEFT + number % columns * (LEFT + WIDTH), TOP + number // columns * (TOP + HEIGHT + FOOT)
        parts += _panel(panel, place, x, y)
    for number, line in enumerate(names.values()):
        left, middle = LEFT + number % entries * ENTRY, foot + number // entries * LEGEND + 8
        parts.append(_stroke(f"M{left},{middle}h22", line))
        parts.append(_text(left + 28, middle + 4, line.name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(high: float, step: float, *, low: float = 0.0) -> list[float]:
    """Return the values from `low` to `high`.

    >>> ticks(1.0, 0.5)
    [0.0, 0.5, 1.0]
    """
    return [round(low + step * number, 10) for number in range(int((high - low) / step + 1.5))]


def _panel(panel: Panel, place: tuple[int, int], x: Axis, y: Axis) -> list[str]:
    left, top = place
    right, bottom = left + WIDTH, top + HEIGHT

    def at(point: tuple[float, float]) -> str:
        across = left + (point[0] - x.low) / ((x.high - x.low) or 1.0) * WIDTH
        up = bottom - (point[1] - y.low) / (y.high - y.low) * HEIGHT
        return f"{across:.1f},{up:.1f}"

    parts = [_text(left, top - 10, panel.title, weight="bold")]
    for value in y.ticks:
        height = at((x.low, value)).split(",")[1]
        parts.append(f'<path d="M{left},{height}H{right}" stroke="#ddd"/>')
        parts.append(_text(left - 6, float(height) + 4, f"{value:g}", anchor="end"))
    for value in x.ticks:
        across = at((value, y.low)).split(",")[0]
        parts.append(f'<path d="M{across},{bottom}v4" stroke="#888"/>')
        parts.append(_text(float(across), bottom + 16, f"{value:g}", anchor="middle"))
    parts.append(f'<path d="M{left},{bottom}H{right}" stroke="#888"/>')
    parts.append(_text((left + right) / 2, bottom + 32, x.title, anchor="middle"))
    middle = (top + bottom) / 2
    turned = f' transform="rotate(-90 {left - 36} {middle})"'
    parts.append(_text(left - 36, middle, y.title, anchor="middle", more=turned))
    for line in panel.lines:
        # A value beyond the axis ends on its edge, and is not drawn over a neighbour.
        within = [(across, min(max(up, y.low), y.high)) for across, up in line.points]
        parts.append(_stroke("M" + "L".join(at(point) for point in within), line))
    return parts


def _stroke(path: str, line: Line) -> str:
    dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
    return f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"{dashes}/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-weight="{weight}"{more}>{escape(words)}</text>'
