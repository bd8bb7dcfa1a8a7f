"""Pages of the reference on Python: an entry for each public name, which mkdocstrings reads from the source.

Nothing of the packages' heavy libraries is imported: the list of names is that of ``__all__``.
"""

from __future__ import annotations

import orchestrator.testing
import ravel.testing
import search_spaces
import trainables
import trainables.testing

OPENINGS = {
    "ravel": "One import for sweeps, search spaces and trials, in a script or a notebook.",
    "search_spaces": "Search spaces as values. [Search spaces](../../search_spaces.md) explains them with examples.",
    "trainables": "Train one trial in plain PyTorch, without Ray and without MLflow.",
}
TESTING = """# ravel.testing

Checks for your own code, to call in your own tests: `from ravel.testing import check_model`.
[Your own code](../../own_code.md) says what each kind of code must do.
"""
SHOWN_ELSEWHERE = {"trainables": {"TrialConfig": "ravel", "train": "ravel"}, "ravel": {"SearchSpace": "search_spaces"}}
"""Names that two packages export: the other one's page has them."""


def pages() -> dict[str, str]:
    """Return the pages, by their place on the site."""
    packages = (ravel, search_spaces, trainables)
    written = {
        f"reference/python/{package.__name__}.md": _page(package.__name__, package.__all__) for package in packages
    }
    checks = [
        f"::: {home.__name__}.{name}" for home in (trainables.testing, orchestrator.testing) for name in home.__all__
    ]
    return {**written, "reference/python/testing.md": "\n\n".join([TESTING, *checks, ""])}


def _page(package: str, names: list[str]) -> str:
    elsewhere = SHOWN_ELSEWHERE.get(package, {})
    entries = [f"::: {package}.{name}" for name in names if name not in elsewhere]
    links = [f"- `{package}.{name}` is [`{home}.{name}`]({home}.md)." for name, home in elsewhere.items()]
    return "\n\n".join([f"# {package}", OPENINGS[package], "\n".join(links), *entries, ""])
