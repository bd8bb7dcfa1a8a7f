"""Tables of a space, for a terminal and for a notebook."""

from __future__ import annotations

import html as markup
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group

    from search_spaces.conditions.definition import SpaceLike

_HEADINGS = ("parameter", "values", "exists when")
# Shorter names are not folded; longer ones are, to leave room for the values in a narrow terminal.
_LONGEST_WHOLE = 32


def terminal(space: SpaceLike) -> Group:
    """Return the table for a terminal: a row for each parameter, long texts wrapped, and the constraints below.

    >>> from search_spaces import Int, SearchSpace
    >>> table, constraint = terminal(SearchSpace({"a": Int(1, 9)}, constraints=["a != 3"])).renderables
    >>> table.row_count, str(constraint)
    (1, 'constraint: a != 3')
    """
    from rich import box  # noqa: PLC0415 - only a terminal needs it
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    is_whole = max(map(len, space.parameters), default=0) <= _LONGEST_WHOLE
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold", no_wrap=is_whole and heading == _HEADINGS[0])
    for cells in _rows(space):
        table.add_row(*(Text(cell, no_wrap=False) for cell in cells))
    return Group(table, *(Text(f"constraint: {constraint.text}") for constraint in space.constraints))


def html(space: SpaceLike) -> str:
    """Return the HTML table for a notebook, with the constraints in its foot.

    >>> from search_spaces import Choice, SearchSpace
    >>> html(SearchSpace({"a": Choice(["<b>"])}))[-71:]
    "<tr><td>a</td><td>one of '&lt;b&gt;'</td><td></td></tr></tbody></table>"
    """
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    rows = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in cells)}</tr>" for cells in _rows(space))
    constraints = "<br>".join(_safe(constraint.text) for constraint in space.constraints)
    foot = f'<tfoot><tr><td colspan="3">must hold:<br>{constraints}</td></tr></tfoot>' if constraints else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>{foot}</table>"


def _rows(space: SpaceLike) -> Iterator[tuple[str, str, str]]:
    for name, domain in space.parameters.items():
        yield name, domain.describe(), str(space.when.get(name, ""))


def _safe(text: str) -> str:
    return markup.escape(text, quote=False)
