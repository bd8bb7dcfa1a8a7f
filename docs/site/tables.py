"""Tables and code in Markdown."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table; cells are Markdown in one line.

    >>> print(table(["a", "b"], [["1", "x | y"]]))
    | a | b |
    |---|---|
    | 1 | x \| y |
    """
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(
        f"|{'|'.join(line)}|" if line[0] == "---" else f"| {' | '.join(line)} |" for line in map(list, lines)
    )


def _cell(text: str) -> str:
    """Return a text in one line; Python-Markdown takes no bar in code for the end of a cell, and keeps a backslash."""
    parts = re.split(r"(`[^`]*`)", re.sub(r"\s+", " ", text.strip()))
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def code(value: object) -> str:
    """Return a value as code, or nothing for an empty text.

    >>> code("a"), code(""), code(0)
    ('`a`', '', '`0`')
    """
    return f"`{value}`" if str(value) else ""


def prose(docstring: str | None) -> str:
    r"""Return a docstring as Markdown: without its sections (Example, Args, Raises), and with single backticks.

    >>> prose("Stop. See ``x``.\n\nExample:\n    >>> 1\n    1")
    'Stop. See `x`.'
    """
    text = re.split(
        r"^(?:Example|Examples|Args|Raises|Returns):$|^>>>", inspect.cleandoc(docstring or ""), flags=re.MULTILINE
    )[0]
    return text.replace("``", "`").strip()
