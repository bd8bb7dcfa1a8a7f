"""A space as a table: in a terminal, and in a notebook."""

from __future__ import annotations

import html as markup
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from search_spaces.conditions import SpaceLike

_HEADINGS = ("parameter", "values", "exists when")


def table(space: SpaceLike) -> Table:
    """Return a table for a terminal, one row for each parameter, long texts wrapped; constraints stand below.

    >>> from search_spaces import catalog
    >>> table(catalog.mixup()).row_count
    3
    """
    from rich import box  # noqa: PLC0415 - only a terminal asks
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        drawn.add_column(heading, overflow="fold")
    for cells in _rows(space):
        drawn.add_row(*map(Text, cells))
    if space.constraints:
        drawn.caption = Text("constraints: " + "; ".join(law.text for law in space.constraints))
        drawn.caption_justify = "left"
    return drawn


def html(space: SpaceLike) -> str:
    """Return an HTML table.

    >>> from search_spaces import Choice, SearchSpace
    >>> html(SearchSpace({"a": Choice(["<b>"])}))[-71:]
    "<tr><td>a</td><td>one of '&lt;b&gt;'</td><td></td></tr></tbody></table>"
    """
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    rows = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in cells)}</tr>" for cells in _rows(space))
    laws = "<br>".join(_safe(law.text) for law in space.constraints)
    foot = f'<tfoot><tr><td colspan="3">constraints: {laws}</td></tr></tfoot>' if laws else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table>"


def _rows(space: SpaceLike) -> Iterator[tuple[str, str, str]]:
    for name, domain in space.parameters.items():
        yield name, domain.describe(), str(space.when.get(name, ""))


def _safe(text: str) -> str:
    return markup.escape(text, quote=False)
