"""Figure of normalised singular values by method."""

import math
import statistics
from collections.abc import Mapping, Sequence

from line_figure import KINDS, Axis, Line, Panel, Point, figure, linear
from sections.flattening.networks import DECAY, DROPOUT, INPUT, MANIFOLD, MIXED_AT
from sections.mixtures.predictions import Values
from sections.mixtures.trials import NONE

DRAWN_FROM = 1e-5
WORDS = "Share of each singular value in the sum of all at the mixed layer, by method, and relative to no method"


def spectra(values: Values, control: str) -> str:
    """Draw the share of each of the largest singular values at the mixed layer, mean over classes and seeds."""
    lines = {"untrained": shares(values, NONE, "spectrum before")}
    lines |= {method: shares(values, method, "spectrum") for method in (NONE, INPUT, MANIFOLD, control, DECAY, DROPOUT)}
    return drawn(lines)


def shares(values: Values, method: str, metric: str) -> list[float]:
    """Return the mean over seeds of each value."""
    return [statistics.fmean(own) for own in zip(*values.lists(method, metric), strict=True)]


def drawn(shares: Mapping[str, Sequence[float]]) -> str:
    """Return the shares over 1, 2, ..., and next to it their ratio to those without a method, where lines part."""
    baseline = shares[NONE]
    ratios = {
        name: [value / other for value, other in zip(own, baseline, strict=False) if other > DRAWN_FROM]
        for name, own in shares.items()
    }
    count = max(len(own) for own in shares.values())
    step = next(step for step in (2, 5, 10, 20, 50) if count / step <= 8)
    x = Axis(f"index of the singular value, {MIXED_AT}", 1, count, (1, *range(step, count + 1, step)))
    panels = [
        Panel("share of the sum of all values", x, _powers(shares), _lines(shares, above=DRAWN_FROM)),
        Panel("the same, relative to none", x, _around_one(ratios), _lines(ratios)),
    ]
    return figure(panels, words=WORDS, columns=2)


def _powers(shares: Mapping[str, Sequence[float]]) -> Axis:
    """Return a logarithmic axis, whole powers of ten at both ends."""
    positive = [value for own in shares.values() for value in own if value > DRAWN_FROM]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    powers = [10.0**power for power in range(low, high + 1)]
    return Axis("share (log)", powers[0], powers[-1], powers, is_log=True)


def _around_one(ratios: Mapping[str, Sequence[float]]) -> Axis:
    """Return a linear axis of all ratios, at most from 0 to 2."""
    values = [value for own in ratios.values() for value in own]
    low = max(0.0, math.floor(5 * min(values)) / 5)
    return linear("ratio", min(2.0, max(1.2, math.ceil(5 * max(values)) / 5)), 0.2, low=low)


def _lines(values: Mapping[str, Sequence[float]], *, above: float = -math.inf) -> list[Line]:
    return [
        Line(name, [Point(k, value) for k, value in enumerate(own, start=1) if value > above], colour)
        for (name, own), colour in zip(values.items(), ("#999999", *KINDS), strict=True)
    ]
