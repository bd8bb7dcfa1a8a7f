"""Pages of the reference on Python: an entry for each public name, which mkdocstrings reads from the source.

Nothing is imported: a package's public names are those of its ``__all__``, read from its text.
"""

from __future__ import annotations

import ast

from repository_files import ROOT

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


CHECKS = ("trainables/testing/__init__.py", "orchestrator/testing.py")
"""Modules whose public names `ravel.testing` has."""


def pages() -> dict[str, str]:
    """Return the pages, by their place on the site."""
    written = {f"reference/python/{name}.md": _page(name) for name in OPENINGS}
    short = "\n    options:\n      show_root_full_path: false"
    checks = [f"::: {_module(path)}.{name}{short}" for path in CHECKS for name in exported(path)]
    return {**written, "reference/python/testing.md": "\n\n".join([TESTING, *checks, ""])}


def exported(path: str) -> list[str]:
    """Return the names in ``__all__`` of a module of the repository.

    >>> exported("trainables/__init__.py")
    ['TrialConfig', 'train']
    """
    for node in ast.parse((ROOT / path).read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                names: list[str] = ast.literal_eval(value)
                return names
            case _:
                pass
    raise LookupError(f"{path}: has no __all__")


def _page(package: str) -> str:
    elsewhere = SHOWN_ELSEWHERE.get(package, {})
    entries = [f"::: {package}.{name}" for name in exported(f"{package}/__init__.py") if name not in elsewhere]
    links = [f"- `{package}.{name}` is [`{home}.{name}`]({home}.md)." for name, home in elsewhere.items()]
    return "\n\n".join([f"# {package}", OPENINGS[package], "\n".join(links), *entries, ""])


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
