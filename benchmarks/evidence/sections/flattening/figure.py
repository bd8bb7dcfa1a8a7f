"""Figure of normalised singular values by method."""

import math
import statistics
from collections.abc import Mapping, Sequence

from line_figure import KINDS, Axis, Line, Panel, Point, figure
from sections.flattening.networks import INPUT, MANIFOLD, MIXED_AT
from sections.mixtures.predictions import Values
from sections.mixtures.trials import NONE

DRAWN_FROM = 1e-5
WORDS = "Share of each singular value in the sum of all at the mixed layer, by method"


def spectra(values: Values, control: str) -> str:
    """Draw the share of each of the largest singular values at the mixed layer, mean over classes and seeds."""
    lines = {"untrained": shares(values, NONE, "spectrum before")}
    lines |= {method: shares(values, method, "spectrum") for method in (NONE, INPUT, MANIFOLD, control)}
    return drawn(lines)


def shares(values: Values, method: str, metric: str) -> list[float]:
    """Return the mean over seeds of each value."""
    return [statistics.fmean(own) for own in zip(*values.lists(method, metric), strict=True)]


def drawn(shares: Mapping[str, Sequence[float]]) -> str:
    """Return lines over 1, 2, ... with a logarithmic axis upwards, whole powers of ten at both ends."""
    positive = [value for own in shares.values() for value in own if value > DRAWN_FROM]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    powers = [10.0**power for power in range(low, high + 1)]
    count = max(len(own) for own in shares.values())
    step = next(step for step in (2, 5, 10, 20, 50) if count / step <= 8)
    x = Axis(f"index of the singular value, {MIXED_AT}", 1, count, (1, *range(step, count + 1, step)))
    y = Axis("share of the sum of all values (log)", powers[0], powers[-1], powers, is_log=True)
    lines = [
        Line(name, [Point(k, value) for k, value in enumerate(own, start=1) if value > DRAWN_FROM], colour)
        for (name, own), colour in zip(shares.items(), ("#999999", *KINDS), strict=False)
    ]
    return figure([Panel("", x, y, lines)], words=WORDS)
