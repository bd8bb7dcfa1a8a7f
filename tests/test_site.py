"""The site of the documentation builds strictly, its links lead somewhere, and it needs no network.

The reference's own claims are in test_reference.py, those of the pages in test_docs.py.
"""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs", reason="the site needs the dependency group docs of pyproject.toml")
pytest.importorskip("mkdocstrings_handlers", reason="the site needs the dependency group docs of pyproject.toml")

QUERIES = ("resume", "manifold", "out of memory")
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements for which a browser fetches something, and the attribute that says what."""
NOT_FETCHED = {"canonical", "next", "prev", "alternate"}
"""Kinds of <link> that are read by people and machines, not fetched."""


class Html(HTMLParser):
    """Links, fetched addresses, ids and elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.fetched, self.ids, self.counts, self.classes = [], [], set(), {}, set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.ids.add(values.get("id"))
        self.classes.update((values.get("class") or "").split())
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(FETCHED.get(tag)) and values.get("rel") not in NOT_FETCHED:
            self.fetched.append(values[FETCHED[tag]])


def read(folder):
    """Return the pages of a built site, by their path."""
    return {path: Html(path.read_text()) for path in folder.rglob("*.html")}


def broken(pages, folder):
    """Return (page, link) of each link and fetched address that leads to no file of the site, or to no place of it."""
    faults = []
    for path, page in pages.items():
        for link in (*page.links, *page.fetched):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            base = folder if parts.path.startswith("/") else path.parent
            target = Path(os.path.normpath(base / unquote(parts.path).lstrip("/"))) if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (anchor and anchor not in known):
                faults.append((str(path.relative_to(folder)), link))
    return faults


def foreign(pages, folder):
    """Return (page, address) of each address on another host that a browser would fetch for a page or a style."""
    faults = [
        (str(path.relative_to(folder)), address)
        for path, page in pages.items()
        for address in page.fetched
        if urlsplit(address).netloc
    ]
    for path in folder.rglob("*.css"):
        addresses = re.findall(
            r"url\(\s*[\"']?((?:https?:)?//[^\"')]+)|@import\s+[\"'](https?:[^\"']+)", path.read_text()
        )
        faults += [(str(path.relative_to(folder)), one or other) for one, other in addresses]
    return faults


@pytest.fixture(scope="module")
def built(tmp_path_factory, repository):
    """The folder of the built site, and what the build printed; pytest's workers build it once together."""
    from filelock import FileLock

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder, log = shared / "site", shared / "site.log"
    with FileLock(shared / "site.lock"):
        if not log.exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
            paths = os.pathsep.join(filter(None, [str(repository), os.environ.get("PYTHONPATH")]))
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": paths}
            done = subprocess.run(
                command, cwd=repository, env=environment, capture_output=True, text=True, check=False, timeout=1200
            )
            log.write_text(f"{done.stdout}{done.stderr}\nexit code {done.returncode}")
    return folder, log.read_text()


@pytest.fixture(scope="module")
def folder(built):
    assert built[1].endswith("exit code 0"), built[1]
    return built[0]


@pytest.fixture(scope="module")
def pages(folder):
    return read(folder)


pytestmark = pytest.mark.timeout(1500)  # the first of them builds the site


def test_the_site_builds_without_a_warning(built):
    assert built[1].endswith("exit code 0"), built[1]
    assert "WARNING" not in built[1]


def test_every_link_and_anchor_of_the_site_leads_somewhere(pages, folder):
    assert sum(len(page.links) for page in pages.values()) > 5000
    assert broken(pages, folder) == []


def test_no_page_fetches_anything_from_another_host(pages, folder):
    assert foreign(pages, folder) == []
    assert [
        path for path, page in pages.items() if {"mermaid", "arithmatex"} & page.classes
    ] == []  # both fetch scripts


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone/">x</a>', "gone/"),
        ('<a href="#nowhere">x</a>', "#nowhere"),
        ('<a href="other.html#nowhere">x</a>', "other.html#nowhere"),
        ('<img src="gone.png">', "gone.png"),
        ('<a href="/gone.html">x</a>', "/gone.html"),
    ],
)
def test_a_planted_link_that_leads_nowhere_is_seen(body, fault, tmp_path):
    (tmp_path / "other.html").write_text('<p id="here">')
    (tmp_path / "index.html").write_text(f'<a href="other.html#here">x</a><a href="https://example.org">x</a>{body}')
    assert broken(read(tmp_path), tmp_path) == [("index.html", fault)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.html", '<script src="https://cdn.example/x.js"></script>'),
        ("index.html", '<link rel="stylesheet" href="//fonts.example/x.css">'),
        ("style.css", "@font-face { src: url(https://fonts.example/x.woff2) }"),
        ("style.css", '@import "https://fonts.example/x.css";'),
    ],
)
def test_a_planted_address_of_another_host_is_seen(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert len(foreign(read(tmp_path), tmp_path)) == 1


def test_each_part_of_the_site_has_pages(pages, folder):
    home = Html((folder / "index.html").read_text())
    for part in ("own_code/", "reference/spec/", "scheduling/", "decisions/"):
        assert any(link.startswith(part) for link in home.links)
    listed = {link for link in pages[folder / "decisions" / "index.html"].links if re.match(r"\d{3}-", link)}
    assert {f"{path.parent.name}/" for path in folder.glob("decisions/[0-9]*/index.html")} == listed


@pytest.mark.parametrize("query", QUERIES)
def test_the_search_index_has_a_page_for(query, folder):
    index = json.loads((folder / "search" / "search_index.json").read_text())
    assert any(query in f"{item['title']} {item['text']}".lower() for item in index["docs"])


def test_a_page_has_the_same_parts_on_the_site_as_in_the_repository(repository, folder):
    """Python-Markdown and CommonMark differ: on a list without an empty line before it, for one."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark").enable("table")
    different = []
    for path in sorted(repository.glob("docs/**/*.md")):
        page = path.relative_to(repository / "docs")
        if page.name == "index.md":  # its cards are Markdown for the site alone
            continue
        text = (folder / (page.parent if page.stem == "README" else page.with_suffix("")) / "index.html").read_text()
        article = text.partition("<article")[2].partition("</article>")[0]
        ours, theirs = Html(article).counts, Html(reader.render(path.read_text())).counts
        different += [
            (str(page), tag, ours.get(tag, 0), theirs.get(tag, 0))
            for tag in ("li", "tr", "td", "pre", "h1", "h2", "h3", "img", "blockquote")
            if ours.get(tag, 0) != theirs.get(tag, 0)
        ]
    assert different == []


@pytest.fixture(scope="module")
def address(folder):
    """The address of the site on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.ui
@pytest.mark.parametrize("query", QUERIES)
def test_the_search_box_finds(query, address, chromium):
    with chromium(viewport={"width": 1440, "height": 900}) as context:
        tab, asked = context.new_page(), []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        tab.locator(".md-search__input").click()
        tab.locator(".md-search__input").press_sequentially(query)
        results = tab.locator(".md-search-result__item")
        results.first.wait_for()
        texts = " ".join(results.all_inner_texts()).lower()
        assert all(word in texts for word in query.split())
        assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.ui
@pytest.mark.parametrize("page", ["", "reference/spec/", "reference/command-line/", "training/", "decisions/"])
def test_a_page_fits_a_phone(page, address, chromium):
    with chromium(viewport={"width": 390, "height": 844}) as context:
        tab = context.new_page()
        tab.goto(address + page)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(wide) == 0
