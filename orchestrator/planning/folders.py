"""Folders that a spec names: those with a variable are refused, ``~`` and relative ones are those of the launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import quoted
from orchestrator.storage.locations import expanded, is_remote, variable_problem
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orchestrator.spec.model import Point, SweepSpec

FOLDERS = ("data.root", "data.cache", "gan.classifier")
WEIGHTS = "model.args.weights"
"""File of a library's network, or the name of weights that the library publishes."""


def folder_problems(spec: SweepSpec) -> list[Problem]:
    """Return the folders with a variable: a spec is read by several users and machines, and expands none."""
    checked = [(place, value, variable_problem(value)) for place, value in _folders(spec) if isinstance(value, str)]
    return [Problem(place, f"{problem}; got {quoted(value)}") for place, value, problem in checked if problem]


def _folders(spec: SweepSpec) -> Iterator[tuple[str, object]]:
    yield "storage.uri", spec.storage.uri
    for name in FOLDERS:
        yield f"trial.{name}", spec.trial.get(name)
        domain = spec.space.parameters.get(name)
        for value in (getattr(domain, "value", None), *getattr(domain, "options", ())):
            yield f"space.parameters.{name}", None if name in spec.trial else value


def at_home(spec: SweepSpec) -> SweepSpec:
    """Return a spec whose ``trial`` names no home: every driver of its sweep finds the folders of the launch."""
    named = {name: spec.trial[name] for name in FOLDERS if str(spec.trial.get(name) or "").startswith("~")}
    homes = {name: str(expanded(path)) for name, path in named.items()}
    return spec.model_copy(update={"trial": {**spec.trial, **homes}}) if homes else spec


def located(config: Mapping[str, Any], working_directory: Path) -> Point:
    """Return the configuration with absolute folders, resolved from the folder of the launch.

    >>> from pathlib import Path
    >>> located({"data.root": "data", "epochs": 9}, Path("/home/ada"))
    {'data.root': '/home/ada/data', 'epochs': 9}
    """
    names = [*FOLDERS, *([WEIGHTS] if _is_file(config.get(WEIGHTS)) else ())]
    folders = {name: config[name] for name in names if config.get(name) is not None and not is_remote(config[name])}
    return {
        **config,
        **{name: str((working_directory / expanded(path)).resolve()) for name, path in folders.items()},
    }


def _is_file(value: object) -> bool:
    return isinstance(value, str) and value.endswith((".pth", ".pt"))
