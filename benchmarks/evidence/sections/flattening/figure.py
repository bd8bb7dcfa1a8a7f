"""Figure of normalised singular values by method, as SVG."""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

from sections.flattening.networks import INPUT, MANIFOLD, MIXED_AT
from sections.mixtures.predictions import Values
from sections.mixtures.trials import NONE

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 620, 20, 340
DRAWN_FROM = 1e-5
COLOURS = ("#999999", "#000000", "#d95f02", "#1f77b4", "#1b9e77")


def spectra(values: Values, control: str) -> str:
    """Draw the share of each of the largest singular values at the mixed layer, mean over classes and seeds."""
    methods = (NONE, INPUT, MANIFOLD, control)
    lines = {"untrained": shares(values, NONE, "spectrum before")}
    lines |= {method: shares(values, method, "spectrum") for method in methods}
    return drawn(lines, across=f"index of the singular value, {MIXED_AT}", up="share of the sum of all values (log)")


def shares(values: Values, method: str, metric: str) -> list[float]:
    """Return the mean over seeds of each value."""
    return [statistics.fmean(own) for own in zip(*values.lists(method, metric), strict=True)]


def drawn(lines: Mapping[str, Sequence[float]], *, across: str, up: str) -> str:
    """Return lines over 1, 2, ... with a logarithmic axis upwards, whole powers of ten at both ends."""
    positive = [value for own in lines.values() for value in own if value > DRAWN_FROM]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    count = max(len(own) for own in lines.values())

    def x(index: int) -> float:
        return LEFT + (RIGHT - LEFT) * index / max(1, count - 1)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (math.log10(value) - low) / (high - low)

    parts = [
        f'<line x1="{LEFT}" y1="{y(10.0**power):.1f}" x2="{RIGHT}" y2="{y(10.0**power):.1f}" stroke="#dddddd"/>'
        f'<text x="{LEFT - 6}" y="{y(10.0**power) + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        for power in range(low, high + 1)
    ]
    step = next(step for step in (2, 5, 10, 20, 50) if count / step <= 8)
    parts += [
        f'<text x="{x(tick - 1):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{tick}</text>'
        for tick in (1, *range(step, count + 1, step))
    ]
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 36}" text-anchor="middle">{escape(across)}</text>')
    middle = (TOP + BOTTOM) / 2
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    for rank, ((name, own), colour) in enumerate(zip(lines.items(), COLOURS, strict=True)):
        points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(own) if value > DRAWN_FROM)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        height = TOP + 14 + 18 * rank
        parts.append(f'<path d="M340 {height - 4} h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="370" y="{height}">{escape(name)}</text>')
    body = "\n".join(parts)
    frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="13"'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>\n{background}\n{body}\n</svg>\n'
