"""Generated parts of a page: tables between two markers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

MISSING = "not measured yet"


def write(blocks: Mapping[str, str], page: Path) -> None:
    """Write each block between the markers of its name.

    Raises:
        ValueError: the page lacks a marker.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page}: must have the markers {begin} and {end} once each")
        text = re.sub(f"{begin}.*{end}", lambda _, parts=(begin, block, end): "\n\n".join(parts), text, flags=re.DOTALL)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def with_extremes(values: Mapping[str, float], name: str, form: str) -> str:
    """Return a median with the smallest and the largest value, as `results.spread` names them.

    >>> with_extremes({"a": 0.5, "a low": 0.25, "a high": 0.75}, "a", ".0%")
    '50% (25% to 75%)'
    """
    return f"{values[name]:{form}} ({values[f'{name} low']:{form}} to {values[f'{name} high']:{form}})"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table, or that nothing is measured yet.

    >>> table(["a", "b"], [["1", "2"]]).splitlines()[-1]
    '| 1 | 2 |'
    """
    if not body:
        return f"{MISSING[0].upper()}{MISSING[1:]}."
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
