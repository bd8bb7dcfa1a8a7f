"""Pages of the reference, each made from the code."""

from __future__ import annotations


def pages() -> dict[str, str]:
    """Return the pages of the reference, by their place on the site."""
    return {"reference/index.md": "# Reference\n"}
