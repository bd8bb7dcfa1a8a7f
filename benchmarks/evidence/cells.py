"""Cells and tables of the pages, as Markdown."""

import math
from collections.abc import Iterable, Sequence

from orchestrator.analysis.claims.intervals import Interval, image_interval, student_interval

MISSING = "-"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    columns = list(head)
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def rounded(center: float, half: float) -> str:
    """Format a mean and the half width of its interval to two digits of it, and at most four decimal places.

    >>> rounded(0.98765, 0.0123), rounded(31.4, 12), rounded(0.5, 0)
    ('0.988 ± 0.012', '31 ± 12', '0.5000 ± 0.0000')
    """
    digits = min(4, max(0, 1 - int(f"{half:e}".partition("e")[2]))) if half else 4
    return f"{center:.{digits}f} ± {half:.{digits}f}"


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of seeds and the half width of Student's interval at 95 %."""
    low, high = student_interval(values)
    return (low + high) / 2, (high - low) / 2


def spread(values: Sequence[float]) -> str:
    """Return the mean of seeds and the half width of Student's interval at 95 %, in words; a dash of undefined ones.

    >>> spread([0.90, 0.92, 0.94])
    '0.920 ± 0.050'
    """
    return rounded(*mean_and_half(values)) if all(map(math.isfinite, values)) else MISSING


def over_images(text: str, share: float, num_images: int) -> str:
    """Append the interval over images of a share in brackets.

    >>> over_images("0.900 ± 0.010", 0.9, 100)
    '0.900 ± 0.010 (0.826 to 0.945)'
    """
    low, high = image_interval(share, num_images)
    return f"{text} ({low:.3f} to {high:.3f})"


def ends(interval: Interval) -> str:
    """Return both ends of the interval of a difference."""
    return f"{interval.low:+.4f} to {interval.high:+.4f}"
