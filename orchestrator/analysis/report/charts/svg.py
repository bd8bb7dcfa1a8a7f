"""Charts as static SVG. Colours are classes of the page's style sheet, so that they follow light, dark and print."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from orchestrator.analysis.report.charts.chart import Bar, Dot, Line, Rule, Span
from orchestrator.analysis.report.markup import Html, joined, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.analysis.report.charts.chart import Mark, Panel, Scale, Shape

Place: TypeAlias = "Callable[[float], float]"
"""Coordinate of a value, in pixels."""
WIDE, NARROW = 720, 340
TOP, RIGHT, BOTTOM, LEFT = 14, 14, 46, 64
SLANTED = 104
"""Height below a panel whose horizontal ticks are slanted."""
LETTER = 7.0
"""Width that a letter of a label may need, in pixels."""
NARROW_LETTER = 6.2
"""Mean width of a letter."""
MOST_LETTERS = 32
LEAST_LETTERS = 6
RADIUS = 4.0
CAP = 4.0
LINE = 14.0
"""Height of a line of a label."""
_SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "diamond": ((0, -1.6), (1.6, 0), (0, 1.6), (-1.6, 0)),
    "up": ((0, -1.4), (1.3, 1), (-1.3, 1)),
    "down": ((0, 1.4), (1.3, -1), (-1.3, -1)),
    "star": (
        *((0, -2.1), (0.53, -0.7), (2.0, -0.65), (0.85, 0.27), (1.25, 1.7)),
        *((0, 0.88), (-1.25, 1.7), (-0.85, 0.27), (-2.0, -0.65), (-0.53, -0.7)),
    ),
}


def drawing(panel: Panel, *, name: str, words: str) -> Html:
    """Return a panel as an image with a text alternative; ``name`` is unique on the page."""
    width, height = (WIDE if panel.is_wide else NARROW), panel.height
    left = _left_of(panel.y)
    right, bottom = width - RIGHT, height - (SLANTED if panel.is_slanted else BOTTOM)
    to_x = _placing(panel.x, left, right)
    to_y = _placing(panel.y, bottom, TOP)
    frame = (left, right, bottom)
    rules = joined(_rule(mark, to_x, to_y, frame) for mark in panel.marks if isinstance(mark, Rule))
    marks = joined(_mark(mark, to_x, to_y) for mark in panel.marks if not isinstance(mark, Rule))
    return tag(
        "svg",
        tag("title", words, id=name),
        _grid(panel, to_x, to_y, frame),
        tag("g", marks),
        rules,
        _titles(panel, frame, height),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=name,
        class_="wide" if panel.is_wide else "narrow",
    )


def shortened(words: str, most: int = MOST_LETTERS) -> str:
    """Return a label without its middle if it is too long.

    >>> shortened("adversarial.relative_step: strength", 21)
    'adversaria…: strength'
    """
    half = (most - 1) // 2
    return words if len(words) <= most else f"{words[: most - 1 - half]}…{words[-half:]}"


def lines_of(label: str) -> list[str]:
    """Return a label in lines that fit, broken after plus signs; a part that is too long loses its middle.

    >>> lines_of("snnl.weight + mixup.alpha + adversarial.epsilon (3)")
    ['snnl.weight + mixup.alpha +', 'adversarial.epsilon (3)']
    """
    lines = [""]
    for part in label.replace(" + ", " +\0").split("\0"):
        longer = f"{lines[-1]} {part}".strip()
        lines = [*lines[:-1], longer] if len(longer) <= MOST_LETTERS else [*lines, part]
    return [shortened(line) for line in lines if line]


def symbol(style: str, shape: Shape = "circle") -> Html:
    """Return a mark of its own, for a legend: a line, a bar, or a point."""
    kinds = set(style.split())
    if kinds & {"line", "dashed"}:
        mark = tag("path", d="M1,8H15", class_=f"line thick {style}")
    elif "bar" in kinds:
        mark = tag("rect", x=2, y=2, width=12, height=12, class_=style)
    else:
        mark = _dot(Dot(8, 8, "", style, shape), float, float)
    return tag("svg", mark, viewBox="0 0 16 16", class_="key", aria_hidden="true")


def _left_of(scale: Scale) -> float:
    letters = max((len(line) for _, label in scale.ticks for line in lines_of(label)), default=0)
    return LEFT - LEAST_LETTERS * LETTER + max(LEAST_LETTERS, letters) * LETTER


def _placing(scale: Scale, start: float, end: float) -> Place:
    span = (scale.high - scale.low) or 1.0
    return lambda value: start + (value - scale.low) / span * (end - start)


def _grid(panel: Panel, to_x: Place, to_y: Place, frame: tuple[float, ...]) -> Html:
    left, right, bottom = frame
    parts = [
        *(tag("line", x1=left, x2=right, y1=to_y(at), y2=to_y(at), class_="grid") for at, _ in panel.y.ticks),
        *(tag("line", x1=to_x(at), x2=to_x(at), y1=bottom, y2=bottom + 4, class_="axis") for at, _ in panel.x.ticks),
        tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"),
    ]
    for at, label in panel.y.ticks:
        lines = lines_of(label)
        top = to_y(at) + 4 - LINE * (len(lines) - 1) / 2
        parts += [
            tag("text", line, x=left - 6, y=top + LINE * index, text_anchor="end") for index, line in enumerate(lines)
        ]
    return joined([*parts, *_x_labels(panel, to_x, bottom)])


def _x_labels(panel: Panel, to_x: Place, bottom: float) -> Iterable[Html]:
    """Yield the texts of the horizontal ticks; one that would touch the text before it is left out."""
    if panel.is_slanted:
        for at, label in panel.x.ticks:
            turned = f"rotate(-32 {to_x(at):.5g} {bottom + 14:.5g})"
            yield tag("text", shortened(label, 24), x=to_x(at), y=bottom + 14, text_anchor="end", transform=turned)
        return
    free = float("-inf")
    for at, label in sorted(panel.x.ticks):
        half = max(1, len(label)) * NARROW_LETTER / 2
        if to_x(at) - half >= free:
            free = to_x(at) + half + 4
            yield tag("text", label, x=to_x(at), y=bottom + 17, text_anchor="middle")


def _titles(panel: Panel, frame: tuple[float, ...], height: int) -> Html:
    left, right, bottom = frame
    middle = (TOP + bottom) / 2
    parts = [tag("text", panel.x.title, x=(left + right) / 2, y=height - 8, text_anchor="middle", class_="title")]
    if panel.y.title:
        turned = f"rotate(-90 12 {middle:.5g})"
        parts.append(tag("text", panel.y.title, x=12, y=middle, text_anchor="middle", transform=turned, class_="title"))
    return joined(parts)


def _mark(mark: Mark, to_x: Place, to_y: Place) -> Html:
    match mark:
        case Dot():
            return _dot(mark, to_x, to_y)
        case Line():
            return _line(mark, to_x, to_y)
        case Bar():
            return _bar(mark, to_x, to_y)
        case Span():
            return _span(mark, to_x, to_y)
        case Rule():
            return Html("")


def _dot(dot: Dot, to_x: Place, to_y: Place) -> Html:
    x, y = to_x(dot.x), to_y(dot.y)
    hint = (tag("title", dot.words),) if dot.words else ()
    if dot.shape == "circle":
        return tag("circle", *hint, cx=x, cy=y, r=RADIUS, class_=f"dot {dot.style}")
    corners = " ".join(f"{x + RADIUS * dx:.5g},{y + RADIUS * dy:.5g}" for dx, dy in _SHAPES[dot.shape])
    return tag("polygon", *hint, points=corners, class_=f"dot {dot.style}")


def _line(line: Line, to_x: Place, to_y: Place) -> Html:
    places = [(to_x(x), to_y(y)) for x, y in line.points]
    if len(places) == 1:
        return _dot(Dot(*line.points[0], line.words, line.style), to_x, to_y)
    path, last = "", None
    for x, y in places:
        step = f"H{x:.5g}V{y:.5g}" if line.is_stepped else f"L{x:.5g},{y:.5g}"
        path += f"M{x:.5g},{y:.5g}" if last is None else step
        last = x
    hint = (tag("title", line.words),) if line.words else ()
    return tag("path", *hint, d=path, class_=f"line {line.style}")


def _bar(bar: Bar, to_x: Place, to_y: Place) -> Html:
    start, end = sorted((to_x(bar.start), to_x(bar.end)))
    top, bottom = sorted((to_y(bar.y - bar.thickness / 2), to_y(bar.y + bar.thickness / 2)))
    width = max(0.5, end - start)
    rectangle = tag(
        "rect", tag("title", bar.words), x=start, y=top, width=width, height=bottom - top, class_=f"bar {bar.style}"
    )
    if not bar.label or len(bar.label) * LETTER + 4 > width:
        return rectangle
    middle = {"x": (start + end) / 2, "y": (top + bottom) / 2 + 4}
    return joined([rectangle, tag("text", bar.label, text_anchor="middle", class_=f"on {bar.style}", **middle)])


def _span(span: Span, to_x: Place, to_y: Place) -> Html:
    low, high, y = to_x(span.low), to_x(span.high), to_y(span.y)
    path = f"M{low:.5g},{y - CAP:.5g}v{2 * CAP:.5g}M{low:.5g},{y:.5g}H{high:.5g}M{high:.5g},{y - CAP:.5g}v{2 * CAP:.5g}"
    return tag("path", d=path, class_=f"span {span.style}")


def _rule(rule: Rule, to_x: Place, to_y: Place, frame: tuple[float, ...]) -> Html:
    left, right, bottom = frame
    if rule.axis == "y":
        at = to_y(rule.at)
        ends = {"x1": left, "x2": right, "y1": at, "y2": at}
        label = tag("text", rule.label, x=right - 3, y=at - 4, text_anchor="end", class_="halo")
    else:
        at = to_x(rule.at)
        ends = {"x1": at, "x2": at, "y1": TOP, "y2": bottom}
        label = tag("text", rule.label, x=at - 4, y=TOP + 9, text_anchor="end", class_="halo")
    return joined([tag("line", class_="rule", **ends), label if rule.label else Html("")])
