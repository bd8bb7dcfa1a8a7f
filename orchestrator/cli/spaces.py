"""Commands of the panel Spaces: space show, sample, corners, diff, schema. They import no array library."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.cli.shared.arguments import HELP_NAMES, AsJson
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

PANEL = "Spaces"
CATALOG = "catalog:"
SPACE_FIELDS = frozenset({"use", "parameters", "constraints"})
SPEC_FIELDS = frozenset(SweepSpec.model_fields) - {"version"}
NUM_SAMPLES = 10_000
MAX_VALUE = 80
"""Characters of an offending value in a message."""
Source = Annotated[
    str, typer.Argument(metavar="SPACE", help="Sweep spec, space document (YAML or JSON), or catalog:NAME.")
]

app = typer.Typer(
    name="space",
    help="Show, sample and compare search spaces.",
    epilog="Example: ravel space show examples/digits.yaml",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


@app.command(epilog="Example: ravel space show catalog:mixup")
def show(source: Source, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show the parameters of a space, their domains and their conditions."""
    space = load_space(source)
    if as_json:
        _print_json(space.to_dict())
        return
    Console(soft_wrap=False).print(space)
    with _naming(source):
        typer.echo(_summary(space))


@app.command(epilog="Example: ravel space sample examples/digits.yaml -n 20 --seed 3")
def sample(
    source: Source,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of points.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Draw random points, as a YAML list.

    A point leaves out the parameters that are inactive in it.
    """
    with _naming(source):
        points = load_space(source).sample_many(n, seed=seed)
    _print_points(points, as_json=as_json)


@app.command(epilog="Example: ravel space corners catalog:snnl")
def corners(source: Source, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the extreme points of every combination of active parameters."""
    with _naming(source):
        points = load_space(source).corners()
    _print_points(points, as_json=as_json)


@app.command(epilog="Example: ravel space diff catalog:mixup catalog:manifold_mixup")
def diff(before: Source, after: Source, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show the changes from one space to another."""
    changes = load_space(before).diff(load_space(after))
    if as_json:
        changed = {change.name: {"before": change.before, "after": change.after} for change in changes.changed}
        _print_json({"added": dict(changes.added), "removed": dict(changes.removed), "changed": changed})
    else:
        typer.echo(str(changes))


@app.command(epilog="Example: ravel space schema > sweep.schema.json")
def schema(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SPACE", help="Space whose points the schema describes; default: the schema of a sweep spec."
        ),
    ] = "",
) -> None:
    """Print the JSON Schema (2020-12) of a sweep spec, for editors.

    With SPACE, print the schema of its points.
    """
    if source:
        _print_json(load_space(source).json_schema())
        return
    from orchestrator.spec.json_schema import sweep_schema  # noqa: PLC0415  no other command needs it

    _print_json(sweep_schema())


def load_space(source: str) -> SearchSpace:
    """Return the space of a document, a fragment of the catalog, or a sweep spec with its ``trial`` fixed.

    Raises:
        SpecError: the file cannot be read; or lists every mistake in it.

    Example:
        >>> load_space("catalog:mixpu")
        Traceback (most recent call last):
        orchestrator.errors.SpecError: catalog:mixpu: no such fragment; did you mean 'mixup'?
    """
    with _naming(source):
        return _fragment(source) if source.startswith(CATALOG) else _of_file(Path(source))


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the source in front of every problem: ``diff`` reads two spaces, which may share their paths."""
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
    """Return True if it is a space document, and False if the loader of specs should read it."""
    if not isinstance(document, dict) or document.keys() & SPEC_FIELDS:
        return False
    if not document.keys() & SPACE_FIELDS:
        requirement = "must be a sweep spec, which has a 'name', or a space document, which has 'use' or 'parameters'"
        hint = suggestion(next(iter(document), ""), SPACE_FIELDS | SPEC_FIELDS)
        fields = ", ".join(map(repr, document)) or "an empty one"
        raise SpecError([Problem(str(path), f"{requirement}, got {fields[:MAX_VALUE]}{hint}")])
    return True


def _near(path: Path) -> str:
    """Return a suggestion: the most similar file in the same folder, or the most similar fragment."""
    with contextlib.suppress(OSError):
        files = [str(file) for file in path.parent.iterdir() if file.suffix in {".yaml", ".yml", ".json"}]
        file = nearest(str(path), files)  # whole: a path that is cut cannot be copied
        fragments = map(CATALOG.__add__, catalog.FRAGMENTS)
        return f"; did you mean {file!r}?" if file else suggestion(f"{CATALOG}{path}", fragments)
    return ""


def _fragment(source: str) -> SearchSpace:
    name = source.removeprefix(CATALOG)
    if name not in catalog.FRAGMENTS:
        near = nearest(name, catalog.FRAGMENTS)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(catalog.FRAGMENTS)}"
        raise SpecError([Problem(source, f"no such fragment; {hint}")])
    return catalog.FRAGMENTS[name]()


def _summary(space: SearchSpace) -> str:
    line = f"{len(space.names)} parameters, {_size(space)}, fingerprint {space.fingerprint()[:12]}"
    return f"{line}\n{space.feasibility(NUM_SAMPLES)}" if space.constraints else line


def _size(space: SearchSpace) -> str:
    try:
        size = space.size()
    except SpaceError:  # too many combinations to enumerate
        return "too many points to count"
    return "infinitely many points" if size == math.inf else f"{size:,.0f} points"


def _print_points(points: Sequence[Point], *, as_json: bool) -> None:
    if as_json:
        _print_json(points)
        return
    for point in points:
        typer.echo("- {" + ", ".join(_entry(name, value) for name, value in point.items()) + "}")


def _entry(name: str, value: Scalar) -> str:
    """Return a name and its value as in a YAML mapping; one pair, because ``dump_yaml`` wraps long mappings."""
    return dump_yaml(Inline({name: value})).strip().removeprefix("{").removesuffix("}")


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1))
