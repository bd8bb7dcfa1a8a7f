"""`ravel space`: look at a search space before it costs anything. Nothing is started; no array library is loaded."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.errors import SpecError
from orchestrator.planning.loading import load_spec
from orchestrator.spec.model import SweepSpec
from search_spaces import Problem, SearchSpace, SpaceError, catalog, dump_yaml, load_yaml, nearest
from search_spaces.documents.serialization import load_json
from search_spaces.documents.strict_yaml import Inline
from search_spaces.errors import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from search_spaces import Point, Scalar

app = typer.Typer(
    name="space",
    help="Show, sample and compare search spaces.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

CATALOG = "catalog:"
SPACE_FIELDS = frozenset({"use", "parameters", "constraints"})
SPEC_FIELDS = frozenset(SweepSpec.model_fields) - {"version"}
NUM_DRAWS = 10_000
Source = Annotated[
    str, typer.Argument(metavar="SPACE", help="A sweep spec, a space document (YAML or JSON), or catalog:NAME.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(source: Source, as_json: Json = False) -> None:  # noqa: FBT002
    """Show the parameters of a space, their values, and when each exists."""
    space = load_space(source)
    if as_json:
        _print_json(space.to_dict())
        return
    Console(soft_wrap=False).print(space)
    with _naming(source):
        typer.echo(_summary(space))


@app.command()
def sample(
    source: Source,
    n: Annotated[int, typer.Option("-n", min=1, help="How many points.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Draw points at random, as a YAML list; what does not exist in a point is not there."""
    with _naming(source):
        points = load_space(source).sample_many(n, seed=seed)
    _print_points(points, as_json=as_json)


@app.command()
def corners(source: Source, as_json: Json = False) -> None:  # noqa: FBT002
    """List the extreme points of every combination of active parameters."""
    with _naming(source):
        points = load_space(source).corners()
    _print_points(points, as_json=as_json)


@app.command()
def diff(before: Source, after: Source, as_json: Json = False) -> None:  # noqa: FBT002
    """Say what changed from one space to another."""
    found = load_space(before).diff(load_space(after))
    if as_json:
        changed = {change.name: {"before": change.before, "after": change.after} for change in found.changed}
        _print_json({"added": dict(found.added), "removed": dict(found.removed), "changed": changed})
    else:
        typer.echo(str(found))


@app.command()
def schema(
    source: Annotated[
        str, typer.Argument(metavar="[SPACE]", help="Of the points of this space; default: of a whole sweep file.")
    ] = "",
) -> None:
    """Print a JSON Schema (2020-12): of the points of a space, or of a sweep file, for editors."""
    if source:
        _print_json(load_space(source).json_schema())
        return
    from orchestrator.spec.json_schema import sweep_schema  # noqa: PLC0415  only this needs it

    _print_json(sweep_schema())


def load_space(source: str) -> SearchSpace:
    """The space that ``source`` names; of a sweep spec the one its trials are drawn from, ``trial`` fixed in it.

    Raises:
        SpecError: the file cannot be read, or with every mistake in it.

    Example:
        >>> load_space("catalog:mixpu")
        Traceback (most recent call last):
        orchestrator.errors.SpecError: catalog:mixpu: no such fragment; did you mean 'mixup'?
    """
    with _naming(source):
        return _fragment(source) if source.startswith(CATALOG) else _of_file(Path(source))


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Have every problem name the space it is in: ``diff`` reads two, and specs have their paths in common."""
    try:
        yield
    except (SpaceError, SpecError) as error:
        raise SpecError([_placed(problem, source) for problem in error.problems]) from None


def _placed(problem: Problem, source: str) -> Problem:
    return problem if problem.path.startswith(source) else Problem(f"{source}: {problem.path}", problem.message)


def _of_file(path: Path) -> SearchSpace:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError([Problem(str(path), f"cannot be read: {error.strerror}{_near(path)}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem(str(path), f"cannot be read: {getattr(error, 'strerror', error)}")]) from None
    document = load_json(text) if path.suffix == ".json" else load_yaml(text, source=str(path))
    return SearchSpace.from_dict(document) if _is_space(document, path) else load_spec(path).space


def _is_space(document: object, path: Path) -> bool:
    """Whether it is a space document; if not, it is for the loader of specs to judge."""
    if not isinstance(document, dict) or document.keys() & SPEC_FIELDS:
        return False
    if not document.keys() & SPACE_FIELDS:
        law = "must be a sweep spec, which has a 'name', or a space document, which has 'use' or 'parameters'"
        hint = suggestion(next(iter(document), ""), SPACE_FIELDS | SPEC_FIELDS)
        raise SpecError([Problem(str(path), f"{law}, got {', '.join(map(repr, document)) or 'an empty one'}{hint}")])
    return True


def _near(path: Path) -> str:
    """The file beside it, or the fragment, that may have been meant."""
    with contextlib.suppress(OSError):
        files = [str(beside) for beside in path.parent.iterdir() if beside.suffix in {".yaml", ".yml", ".json"}]
        return suggestion(str(path), files) or suggestion(f"{CATALOG}{path}", map(CATALOG.__add__, catalog.FRAGMENTS))
    return ""


def _fragment(source: str) -> SearchSpace:
    name = source.removeprefix(CATALOG)
    if name not in catalog.FRAGMENTS:
        near = nearest(name, catalog.FRAGMENTS)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(catalog.FRAGMENTS)}"
        raise SpecError([Problem(source, f"no such fragment; {hint}")])
    return catalog.FRAGMENTS[name]()


def _summary(space: SearchSpace) -> str:
    told = f"{len(space.names)} parameters, {_size(space)}, fingerprint {space.fingerprint()[:12]}"
    return f"{told}\n{space.feasibility(NUM_DRAWS)}" if space.constraints else told


def _size(space: SearchSpace) -> str:
    try:
        size = space.size()
    except SpaceError:  # too many combinations to try one by one
        return "too many points to count"
    return "infinitely many points" if size == math.inf else f"{size:,.0f} points"


def _print_points(points: Sequence[Point], *, as_json: bool) -> None:
    if as_json:
        _print_json(points)
        return
    for point in points:
        typer.echo("- {" + ", ".join(_entry(name, value) for name, value in point.items()) + "}")


def _entry(name: str, value: Scalar) -> str:
    """A name and its value as in a YAML mapping; one at a time, as ``dump_yaml`` breaks what is longer than a page."""
    return dump_yaml(Inline({name: value})).strip().removeprefix("{").removesuffix("}")


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1))
