"""HTML as values: text is escaped and redacted where it becomes markup, so that no text of a user is ever markup."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.redaction import without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters, and those that reorder the text around them."""
SHORT = 30
"""Characters of a cell that is not broken into lines."""


class Html(str):
    """Markup that is complete and escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return text as markup: without passwords, escaped, and with control characters replaced.

    >>> text("<script>alert(1)</script> at http://ada:secret@host")
    '&lt;script&gt;alert(1)&lt;/script&gt; at http://***@host'
    >>> text(tag("b", "kept"))
    '<b>kept</b>'
    """
    if isinstance(value, Html):
        return value
    encodable = str(value).encode("utf-8", "replace").decode("utf-8")
    return Html(html.escape(UNSAFE.sub("\ufffd", without_password(encodable)), quote=True))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element. Attributes end in ``_`` if they are words of Python, and have ``_`` for ``-``.

    True is an attribute without a value; None and False leave it out.

    >>> tag("p", "a < b", class_="note", aria_label='"x"', hidden=True, id=None)
    '<p class="note" aria-label="&quot;x&quot;" hidden>a &lt; b</p>'
    >>> tag("circle", cx=0.0, tabindex=0)
    '<circle cx="0" tabindex="0"></circle>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{written}>{''.join(map(text, children))}</{name}>")


def joined(children: Iterable[object], separator: str = "") -> Html:
    """Return markup in sequence; the separator is text."""
    return Html(text(separator).join(map(text, children)))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = f"{value:.5g}" if isinstance(value, float) else text(value)
    return f' {name}="{shown}"'


def scrolling(content: Html, *, label: str) -> Html:
    """Return content that scrolls sideways in its own box, also by the keyboard, so that the page does not."""
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=label)


def folded(summary: str, *content: object, is_open: bool = False) -> Html:
    """Return content below a line that opens and closes it."""
    return tag("details", tag("summary", summary), *content, open=is_open)


def listed(lines: Iterable[object]) -> Html:
    """Return a list, or nothing without lines."""
    items = [tag("li", line) for line in lines]
    return tag("ul", *items) if items else Html("")


def pre(content: str, *, label: str) -> Html:
    """Return text with its line breaks, in a box that scrolls."""
    return scrolling(tag("pre", tag("code", content)), label=label)


@dataclass(frozen=True, slots=True)
class Cell:
    """Cell of a table: what it shows, and the number by which its column is sorted, if that is not its text."""

    shown: object
    value: float | None = None
    is_number: bool = True


def number(value: float | None, form: str = ".4f") -> Cell:
    """Return a cell with a number, empty without one.

    >>> number(0.25).shown, number(None).shown
    ('0.2500', '')
    """
    return Cell("", None) if value is None else Cell(f"{value:{form}}", float(value))


def table(
    caption: str, headers: Sequence[object], rows: Iterable[Sequence[object]], *, is_sortable: bool = False
) -> Html:
    """Return a table in a box that scrolls; the first cell of a row is its header."""
    rows = [[*row] for row in rows]
    numeric = {index for row in rows for index, cell in enumerate(row) if isinstance(cell, Cell) and cell.is_number}
    head = tag(
        "tr",
        *(tag("th", header, scope="col", class_="n" if i in numeric else None) for i, header in enumerate(headers)),
    )
    body = [tag("tr", *(_cell(cell, is_first=not index) for index, cell in enumerate(row))) for row in rows]
    parts = (tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return scrolling(tag("table", *parts, class_="sortable" if is_sortable else None), label=f"Table: {caption}")


def _cell(cell: object, *, is_first: bool) -> Html:
    own = cell if isinstance(cell, Cell) else Cell(cell, is_number=False)
    if is_first:
        return tag("th", own.shown, scope="row")
    exact = None if own.value is None else repr(own.value)
    kind = "n" if own.is_number else "s" if len(str(own.shown)) <= SHORT else None
    return tag("td", own.shown, class_=kind, data_v=exact if exact != own.shown else None)
