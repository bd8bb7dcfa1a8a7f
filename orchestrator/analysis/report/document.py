"""Page around the sections of a report: one HTML document without any resource of its own elsewhere.

Its policy (Content-Security-Policy) forbids every request, and every script and style but these two, which it knows by
their digests. So text of a user that a mistake of ours made markup would still not run.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from orchestrator.analysis.report.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class Section:
    """Section of a page: its name in addresses, its heading and its content."""

    name: str
    heading: str
    content: Html


def document(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return a whole page."""
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    links = [tag("li", tag("a", section.heading, href=f"#{section.name}")) for section in sections]
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        tag("title", title),
        f"<style>{style}</style>",
    ]
    body = [
        tag("a", "Skip to the report", href="#report", class_="skip"),
        tag(
            "header",
            tag("h1", title),
            tag("p", subtitle, class_="sweep"),
            tag("nav", tag("ul", *links), aria_label="Sections"),
        ),
        tag("main", *map(_placed, sections), id="report", tabindex=-1),
        tag("footer", tag("p", "Written by ravel report from the event log alone. This page loads nothing.")),
        f"<script>{script}</script>",
    ]
    html = f'<html lang="{LANGUAGE}">'
    return _lines(["<!doctype html>", html, "<head>", *head, "</head>", "<body>", *body, "</body>", "</html>", ""])


def _placed(section: Section) -> Html:
    heading = tag("h2", section.heading, id=f"{section.name}-heading")
    return tag("section", heading, section.content, id=section.name, aria_labelledby=f"{section.name}-heading")


def _lines(parts: Sequence[str]) -> str:
    return "\n".join(parts)


@cache
def _resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
