"""Command init: write a commented spec to start from, and a small module with its test for your own code."""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.errors import SpecError
from search_spaces.errors import Problem

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TEMPLATES = files("orchestrator.cli") / "templates"


class Kind(StrEnum):
    """Kinds of sweep to start from."""

    DIGITS = "digits"
    MNIST = "mnist"
    CIFAR = "cifar"
    OWN_MODEL = "own-model"
    OWN_TASK = "own-task"


From = Annotated[Kind, typer.Option("--from", help="What to start from: a data set, or your own code.")]
PANEL = "Run"

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel init --from own-task my-sweep")
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write into.")] = Path(),
    kind: From = Kind.DIGITS,
) -> None:
    """Write a commented spec to start from.

    For your own code, write a module and its test too.
    """
    sources = sorted(_sources(kind), key=lambda source: source.name)
    present = [source.name for source in sources if (folder / source.name).exists()]
    if present:
        raise SpecError([Problem(str(folder), f"has {', '.join(present)} already; give another FOLDER")])
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        (folder / source.name).write_bytes(source.read_bytes())
        typer.echo(f"wrote {folder / source.name}")
    enter = "" if folder == Path() else f"cd {folder} && "
    if any(source.name.startswith("test_") for source in sources):
        typer.echo(f"next:  {enter}{Path(sys.executable).name} -m pytest")
    typer.echo(f"next:  {enter}ravel check sweep.yaml && ravel launch sweep.yaml")


def _sources(kind: Kind) -> list[Traversable]:
    return [source for source in (TEMPLATES / kind.value).iterdir() if source.name.endswith((".py", ".yaml"))]
