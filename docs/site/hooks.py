"""Hooks of MkDocs: pages that are generated from the code, pages for files of the repository, and the navigation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import reference
from decision_list import decision_list
from mkdocs.structure.files import File
from navigation import expanded
from repository_files import IMAGES, ROOT, linked, page_of, place_of, text_of, with_links_of_the_site

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")
"""Files of the repository that have a page on the site even if no page links to them."""

SEARCHED = {
    "howto/": {"boost": 2},
    "troubleshooting": {"boost": 2},
    "training": {"boost": 2},
    "reference/python/": {"boost": 0.5},
    "decisions/": {"boost": 0.5},
    "repository/": {"boost": 0.3},
}
"""How much a page counts in the search, by the beginning of its place: guides first, then records."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that no file of ``docs/`` has, and expand the patterns of the navigation."""
    pages = [(place_of(file.src_uri), file.content_string) for file in files.documentation_pages()]
    generated: dict[str, str | bytes] = {
        **reference.pages(),
        "decisions/index.md": decision_list(Path(config.docs_dir, "decisions")),
    }
    for path in linked([*pages, *((place_of(uri), str(text)) for uri, text in generated.items())], ALWAYS):
        if path.endswith(IMAGES):
            generated[page_of(path)] = (ROOT / path).read_bytes()
        elif path.endswith(".md"):
            generated[page_of(path)] = (ROOT / path).read_text()
        elif not (ROOT / path / "README.md").exists():
            generated[page_of(path)] = text_of(path)
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    config.nav = expanded(config.nav, [file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Return the text of a page with links that lead to pages of the site; say how much the search counts it."""
    place = page.file.src_uri
    page.meta["search"] = next((weight for start, weight in SEARCHED.items() if place.startswith(start)), {})
    if place.startswith("repository/") and not (ROOT / place_of(place)).is_file():
        page.meta["search"] = {"exclude": True}  # a file of code, or the list of a folder
    return with_links_of_the_site(markdown, place)
