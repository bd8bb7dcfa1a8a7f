"""Navigation of the site: patterns in it stand for the pages that they match and that no other entry names."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def expanded(nav: Any, pages: Sequence[str]) -> Any:
    """Return a navigation whose patterns are replaced by pages; sections without a page are left out.

    A pattern takes no page of a deeper folder, and an earlier one takes its pages before a later one.

    >>> expanded([{"How-to": ["howto/*.md"]}, "a.md", "*.md"], ["a.md", "b.md", "howto/c.md"])
    [{'How-to': ['howto/c.md']}, 'a.md', 'b.md']
    """
    return _expanded(nav, sorted(set(pages) - set(_named(nav))))


def _named(entry: Any) -> Iterator[str]:
    match entry:
        case str():
            yield entry
        case dict():
            for inner in entry.values():
                yield from _named(inner)
        case list():
            for inner in entry:
                yield from _named(inner)


def _expanded(entries: list[Any], free: list[str]) -> list[Any]:
    result: list[Any] = []
    for entry in entries:
        match entry:
            case str() if "*" in entry:
                matched = [page for page in free if fnmatch(page, entry) and page.count("/") == entry.count("/")]
                free[:] = [page for page in free if page not in matched]
                result += matched
            case dict():
                ((title, inner),) = entry.items()
                kept = _expanded(inner, free) if isinstance(inner, list) else inner
                result += [{title: kept}] if kept else []
            case _:
                result.append(entry)
    return result
