"""Tables: means over seeds with the half width of Student's interval, and of shares the interval over images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cells import MISSING, over_images, spread, table
from sections.mixtures.predictions import Values


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
    text = spread(values.of(method, column.metric))
    if column.images is None or text == MISSING:
        return text
    return over_images(text, values.mean(method, column.metric), int(values.mean(method, column.images)))
