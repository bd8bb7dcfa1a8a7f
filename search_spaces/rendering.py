"""A space as a table, in a terminal and in a notebook; and its points as a table."""

from __future__ import annotations

import html as markup
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Group
    from rich.text import Text

    from search_spaces.conditions import SpaceLike
    from search_spaces.values import Scalar

_HEADINGS = ("parameter", "values", "exists when")
_GAP = 2


def terminal(space: SpaceLike) -> Group:
    """Return what a terminal shows: a row for each parameter, long texts wrapped, and the constraints below.

    >>> from search_spaces import Int, SearchSpace
    >>> table, constraint = terminal(SearchSpace({"a": Int(1, 9)}, constraints=["a != 3"])).renderables
    >>> table.row_count, str(constraint)
    (1, 'constraint: a != 3')
    """
    from rich import box  # noqa: PLC0415 - only a terminal asks
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold", no_wrap=heading == _HEADINGS[0])
    for cells in _rows(space):
        table.add_row(*map(Text, cells))
    return Group(table, *(Text(f"constraint: {law.text}") for law in space.constraints))


def html(space: SpaceLike) -> str:
    """Return an HTML table for a notebook; constraints stand in its foot.

    >>> from search_spaces import Choice, SearchSpace
    >>> html(SearchSpace({"a": Choice(["<b>"])}))[-71:]
    "<tr><td>a</td><td>one of '&lt;b&gt;'</td><td></td></tr></tbody></table>"
    """
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    rows = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in cells)}</tr>" for cells in _rows(space))
    laws = "<br>".join(_safe(law.text) for law in space.constraints)
    foot = f'<tfoot><tr><td colspan="3">must hold:<br>{laws}</td></tr></tfoot>' if laws else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table>"


def points_tables(names: Sequence[str], points: Iterable[Mapping[str, Scalar]], *, width: int) -> Iterator[Table]:
    """Yield tables with a row for each name and a column for each point, as many points to a table as the width holds.

    Points are numbered from 0; floats have four significant digits; a parameter that a point has not is left empty.

    >>> points = [{"a": 1, "b": 0.123456}, {"a": 2}]
    >>> [len(drawn.columns) - 1 for drawn in points_tables(["a", "b"], points, width=80)]
    [2]
    >>> [len(drawn.columns) - 1 for drawn in points_tables(["a", "b"], points, width=10)]
    [1, 1]
    """
    taken = max(map(len, ("parameter", *names)))
    columns = [[str(number), *_values(names, point)] for number, point in enumerate(points)]
    for block in _blocks(columns, width - taken):
        drawn = _empty_table(["parameter", *(number for number, *_ in block)])
        for name, *cells in zip(names, *(cells for _, *cells in block), strict=True):
            drawn.add_row(_name(name), *map(_plain, cells))
        yield drawn


def _empty_table(headings: Sequence[str]) -> Table:
    from rich import box  # noqa: PLC0415 - only a terminal asks
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), caption_style="")
    # A name is not broken while the other columns can still give way.
    drawn.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        drawn.add_column(heading, overflow="fold")
    return drawn


def _name(name: str) -> Text:
    from rich.text import Text  # noqa: PLC0415 - only a terminal asks

    return Text(name, no_wrap=False, overflow="fold")


def _plain(text: str) -> Text:
    from rich.text import Text  # noqa: PLC0415 - only a terminal asks

    return Text(text)


def _rows(space: SpaceLike) -> Iterator[tuple[str, str, str]]:
    for name, domain in space.parameters.items():
        yield name, domain.describe(), str(space.when.get(name, ""))


def _values(names: Iterable[str], point: Mapping[str, Scalar]) -> Iterator[str]:
    for name in names:
        value = point.get(name, "")
        yield f"{value:.4g}" if isinstance(value, float) else str(value)


def _blocks(columns: Iterable[list[str]], room: int) -> Iterator[list[list[str]]]:
    """Group columns that stand side by side in so much room; one that is wider stands alone."""
    block: list[list[str]] = []
    used = 0
    for column in columns:
        wide = _GAP + max(map(len, column))
        if block and used + wide > room:
            yield block
            block, used = [], 0
        block.append(column)
        used += wide
    if block:
        yield block


def _safe(text: str) -> str:
    return markup.escape(text, quote=False)
