"""Tables: means over seeds with the half width of Student's interval, and of shares the interval over images."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from answers import table
from sections.mixtures.predictions import Values

from orchestrator.analysis.claims.intervals import image_interval, moments, quantile

MISSING = "-"


class Column(NamedTuple):
    """Head of a column, its metric, and of a share the metric with the number of its images."""

    head: str
    metric: str
    images: str | None = None


def by_method(values: Values, columns: Sequence[Column], published: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return a row for each method, and below them those that a paper published, cell by cell."""
    rows = [[method, *(cell(values, method, column) for column in columns)] for method in values.methods]
    rows += [[label, *cells] for label, cells in (published or {}).items()]
    return table(["method", *(column.head for column in columns)], rows)


def cell(values: Values, method: str, column: Column) -> str:
    """Return mean and half width over seeds; in brackets, of a share, the interval over images."""
    own = values.of(method, column.metric)
    if not all(map(math.isfinite, own)):
        return MISSING
    center, spread = moments(own)
    text = rounded(center, quantile(len(own) - 1) * spread / math.sqrt(len(own)))
    if column.images is None:
        return text
    low, high = image_interval(center, int(values.mean(method, column.images)))
    return f"{text} ({low:.3f} to {high:.3f})"


def rounded(center: float, half: float) -> str:
    """Format mean and half width to two digits of the half width, and at most four decimal places.

    >>> rounded(0.98765, 0.0123), rounded(31.4, 12), rounded(0.5, 0)
    ('0.988 ± 0.012', '31 ± 12', '0.5000 ± 0.0000')
    """
    digits = 4 if not half else min(4, max(0, 1 - math.floor(math.log10(half))))
    return f"{center:.{digits}f} ± {half:.{digits}f}"
