"""Small figures of lines with intervals, as SVG text: for pages, without a plotting library."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 58
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7b3294")
STYLE = "text{font:11px sans-serif;fill:#222}.axis{stroke:#666;fill:none}.grid{stroke:#ddd}rect{fill:#fff}"


class Point(NamedTuple):
    """Value at a tick, and the half width of its interval."""

    tick: int
    value: float
    half: float = 0.0


class Series(NamedTuple):
    """Line of a panel."""

    name: str
    points: Sequence[Point]


class Panel(NamedTuple):
    """Axes with a title; `ticks` are the texts below the x axis, `low` and `high` the ends of the y axis."""

    title: str
    x: str
    y: str
    ticks: Sequence[str]
    low: float
    high: float
    series: Sequence[Series]


def figure(panels: Sequence[Panel], *, columns: int = 2) -> str:
    """Return the panels next to each other, with one legend for each.

    >>> panel = Panel("t", "weight", "nats", ["-1", "0"], 0, 1, [Series("conv1", [Point(0, 0.5, 0.1), Point(1, 0.2)])])
    >>> figure([panel]).startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    True
    """
    rows = -(-len(panels) // columns)
    width, height = WIDTH * min(columns, len(panels)), HEIGHT * rows
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    background = f'<style>{STYLE}</style><rect width="{width}" height="{height}"/>'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{background}']
    for number, panel in enumerate(panels):
        x, y = WIDTH * (number % columns), HEIGHT * (number // columns)
        parts.append(f'<g transform="translate({x} {y})">{"".join(_drawn(panel))}</g>')
    return "".join([*parts, "</svg>\n"])


def _drawn(panel: Panel) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    step = (right - LEFT) / max(1, len(panel.ticks))
    scale = (bottom - TOP) / (panel.high - panel.low)

    def across(tick: int) -> float:
        return LEFT + (tick + 0.5) * step

    def down(value: float) -> float:
        return bottom - (min(max(value, panel.low), panel.high) - panel.low) * scale

    parts = [_text(WIDTH / 2, 14, panel.title), _text((LEFT + right) / 2, bottom + 34, panel.x)]
    for part in range(5):
        value = panel.low + (panel.high - panel.low) * part / 4
        parts.append(f'<path class="grid" d="M{LEFT} {down(value):.1f}H{right}"/>')
        parts.append(_text(LEFT - 6, down(value) + 4, f"{value:.3g}", anchor="end"))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    turned = f'transform="rotate(-90 12 {(TOP + bottom) / 2:g})"'
    parts.append(_text(12, (TOP + bottom) / 2, panel.y, more=turned))
    parts += [_text(across(tick), bottom + 15, text) for tick, text in enumerate(panel.ticks)]
    for number, series in enumerate(panel.series):
        colour = COLOURS[number % len(COLOURS)]
        places = [(across(point.tick), point) for point in series.points]
        line = " ".join(f"{x:.1f},{down(point.value):.1f}" for x, point in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        for x, point in places:
            top, base = down(point.value + point.half), down(point.value - point.half)
            parts.append(f'<path d="M{x:.1f} {top:.1f}V{base:.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{down(point.value):.1f}" r="2.5" fill="{colour}"/>')
        place = LEFT + number * (right - LEFT) / max(1, len(panel.series))
        parts.append(f'<path d="M{place:.1f} {HEIGHT - 10}h14" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(place + 18, HEIGHT - 6, series.name, anchor="start"))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
