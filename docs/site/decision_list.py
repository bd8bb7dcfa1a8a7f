"""List of the decisions, as a page of the site."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OPENING = """# Decisions

Each page is a decision that you may question: what was decided, what was tried and not chosen, and its price.
The newest is first.
"""


def decision_list(folder: Path) -> str:
    """Return the page that lists the decisions in a folder, by the titles with which their files open."""
    lines = []
    for file in sorted(folder.glob("[0-9]*.md"), reverse=True):
        title = re.sub(r"^#\s+(\d+\.\s+)?", "", file.read_text().partition("\n")[0])
        lines.append(f"| {int(file.name[:3])} | [{title}]({file.name}) |")
    return "\n".join([OPENING, "| | decision |", "|---:|---|", *lines, ""])
