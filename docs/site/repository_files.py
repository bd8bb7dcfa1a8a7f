"""Pages of the site for files of the repository that a page links to, and links that lead to these pages.

The pages of `docs/` are read on the site and in the repository. There, a link out of `docs/` leads to a file or a
folder; on the site it leads to the page ``repository/PATH`` with the same text. No address of a host is needed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
FOLDER = "repository"
"""Folder of the site for pages of files outside ``docs/``."""
LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")
NAMED = re.compile(r"\[[\w./-]+\.md\](?=\(([^)\s#]+))")
"""Text of a link that is the name of a file, which means nothing on the site."""
ADDRESS = re.compile(r"[a-z]+:")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash"}
IMAGES = (".png", ".svg", ".jpg")


def targets(text: str, place: str) -> Iterator[str]:
    """Yield the paths in the repository to which a page at ``place`` links."""
    for match in LINK.finditer(text):
        if not ADDRESS.match(match[1]):
            yield _resolved(place, match[1])


def linked(pages: Iterable[tuple[str, str]], also: Iterable[str]) -> list[str]:
    """Return the paths outside ``docs/`` that pages, given as (place, text), link to, directly or through others."""
    waiting = [*also, *(path for place, text in pages for path in targets(text, place))]
    known: dict[str, None] = {}
    while waiting:
        path = waiting.pop()
        if path in known or _is_of_docs(path) or not (ROOT / path).exists():
            continue
        known[path] = None
        if path.endswith(".md"):
            waiting.extend(targets((ROOT / path).read_text(), path))
        elif (ROOT / path / "README.md").exists():
            waiting.append(f"{path}/README.md")
    return sorted(known)


def page_of(path: str) -> str:
    """Return where the site has a path of the repository.

    >>> page_of("docs/running.md"), page_of("examples/gan.yaml"), page_of("infra/README.md")
    ('running.md', 'repository/examples/gan.yaml.md', 'repository/infra/README.md')
    """
    if path == f"{DOCS}/decisions":
        return "decisions/index.md"
    if _is_of_docs(path):
        return path.removeprefix(f"{DOCS}/")
    if (ROOT / path).is_dir():
        return f"{FOLDER}/{path}/{'README' if (ROOT / path / 'README.md').exists() else 'index'}.md"
    return f"{FOLDER}/{path}" if path.endswith((".md", *IMAGES)) else f"{FOLDER}/{path}.md"


def place_of(page: str) -> str:
    """Return the path in the repository of a page of the site, the inverse of `page_of` for pages of Markdown."""
    return page.removeprefix(f"{FOLDER}/") if page.startswith(f"{FOLDER}/") else f"{DOCS}/{page}"


def with_links_of_the_site(text: str, page: str) -> str:
    """Return the text of a page whose links lead to pages of the site, and have their titles for names of files."""
    place = place_of(page)

    def titled(match: re.Match[str]) -> str:
        file = ROOT / _resolved(place, match[1])
        return f"[{title_of(file.read_text())}]" if file.is_file() else match[0]

    def replaced(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if ADDRESS.match(path):
            return match[0]
        target = page_of(_resolved(place, path))
        return f"]({os.path.relpath(target, PurePosixPath(page).parent)}{anchor})"

    return LINK.sub(replaced, NAMED.sub(titled, text))


def title_of(text: str) -> str:
    r"""Return the title of a page of Markdown.

    >>> title_of("# 130. The files of infra\n\nText")
    '130. The files of infra'
    """
    return text.lstrip().partition("\n")[0].lstrip("# ")


def text_of(path: str) -> str:
    """Return the page of a file that is not Markdown, or of a folder, as Markdown."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(entry.name for entry in file.iterdir() if entry.name[0] not in "._")
        return "\n".join([f"# {path}/", "", "A folder of the repository:", "", *(f"- `{name}`" for name in names), ""])
    language = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash"}.get(
        file.suffix, "text"
    )
    return f"# {path}\n\nA file of the repository:\n\n~~~~{language}\n{file.read_text()}\n~~~~\n"


def _resolved(place: str, link: str) -> str:
    return os.path.normpath(PurePosixPath(place).parent / link)


def _is_of_docs(path: str) -> bool:
    return path == DOCS or path.startswith(f"{DOCS}/")
