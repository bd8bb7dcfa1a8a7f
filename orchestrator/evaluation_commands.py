"""``ravel evaluate`` and ``ravel transfer``: what the papers measure, of models that are trained."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from orchestrator import storage
from orchestrator.arguments import RESULTS, AsJson, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.evaluating import find_target, subject_of, target_of
from orchestrator.leaderboard import shown
from orchestrator.result import SweepResult
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.plan import SweepPlan
    from trainables.evaluation.report import Analysis, Report
    from trainables.evaluation.results import Subject
    from trainables.evaluation.transfer_result import Transfer

ALL = "all"
ATTACKING = {"robust", "dknn"}
ROWS_SHOWN = 24
PIPE_WIDTH = 160
Model = Annotated[
    str,
    typer.Argument(metavar="RUN", help="SWEEP/TRIAL, a SWEEP for its best, an MLflow run's id, a checkpoint folder."),
]
Subset = Annotated[int | None, typer.Option("--subset", min=1, metavar="N", help="At most so many test images.")]
DataRoot = Annotated[str | None, typer.Option(help="Where the data set is, if not where it was trained.")]
Epsilon = Annotated[float | None, typer.Option(min=0, help="Radius of attacks, in pixels of [0, 1].")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Default: evaluations/<name>.")]
Track = Annotated[bool, typer.Option("--track/--no-track", help="Send a trial's numbers to its run in MLflow.")]


def evaluate(
    run: Model,
    *,
    suite: Annotated[str, typer.Option(metavar="NAMES", help=f"Separated by commas, or {ALL}.")] = "clean",
    subset: Subset = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(metavar="SET", help="rotated, permuted, noise, NAME=FOLDER or NAME=ROOT; repeatable."),
    ] = None,
    epsilon: Epsilon = None,
    aa_lite: Annotated[bool, typer.Option("--aa-lite", help="Attack with the strongest ensemble too.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    track: Track = True,
    anew: Annotated[bool, typer.Option("--anew", help="Measure again what was measured before.")] = False,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Measure a trained model on test images: numbers, tables and figures.

    Each suite that is done is kept: the same command goes on where it was cut off.
    """
    from trainables.data import cache_folder  # noqa: PLC0415  imports torch
    from trainables.evaluation import report  # noqa: PLC0415
    from trainables.evaluation.results import Budget  # noqa: PLC0415

    names = _suites(suite)
    target = find_target(run, results=folder)
    subject = subject_of(
        target,
        data_root=data_root,
        epsilon=epsilon,
        outliers=ood or [],
        device=device,
        seed=seed,
        attacked=bool(ATTACKING & set(names)),
    )
    budget = Budget(images=subset, aa_lite=aa_lite)
    kept, place = cache_folder(_data_of(target.checkpoint)) / "evaluations", out or Path("evaluations") / target.slug
    found, failed = [], []
    with _bar(quiet=as_json) as progress:
        for name in names:
            try:
                (each,) = report.evaluate(subject, [name], budget, kept=kept, progress=progress, anew=anew)
            except ValueError as error:  # too few images, no radius: the other suites can be run all the same
                failed.append(f"{name}: {error}")
                continue
            write(each, place)
            found.append(each)
            if not as_json:
                show(each, _console())
            if track and target.plan is not None:
                _send(target.plan, each, epoch=_epoch(target.checkpoint), trial=target.trial)
    _finish(found, place, as_json=as_json)
    if failed:
        asked = "" if subset is None else f"; --subset {subset} may be too few"
        raise OrchestratorError(f"not measured: {'; '.join(failed)}{asked}")


def transfer(
    sweep: Sweep,
    *,
    trials: Annotated[str, typer.Option(metavar="TRIALS", help="Separated by commas; default: the best.")] = "",
    k: Annotated[int, typer.Option("-k", min=2, help="How many of the best.")] = 4,
    attack: Annotated[str, typer.Option(help="Such as fgsm, pgd-l2, lbfgs; default: PGD in the trials' norm.")] = "",
    subset: Subset = 1000,
    epsilon: Epsilon = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    track: Track = True,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Attack each of several trials, and see which of the others the same images fool."""
    from trainables.evaluation import report  # noqa: PLC0415  imports torch
    from trainables.evaluation.prediction import within  # noqa: PLC0415
    from trainables.evaluation.transfer import transfer as measure  # noqa: PLC0415

    result = SweepResult.read(storage.find_sweep(folder, sweep))
    chosen = _chosen(result, trials, k)
    targets = {name: target_of(result, result.named(name)) for name in chosen}
    subjects = {
        name: subject_of(target, data_root=data_root, epsilon=epsilon, device=device, seed=seed)
        for name, target in targets.items()
    }
    first = next(iter(subjects.values()))
    attack = attack or ("pgd-l2" if first.norm == "l2" else "pgd")
    radius = _one_radius(subjects, attack)
    images, cut = within(first.test, subset)
    with _bar(quiet=as_json) as progress:
        progress(f"transfer, {attack}", 0)
        found = measure(
            {name: subject.model for name, subject in subjects.items()},
            images,
            attack=attack,
            epsilon=radius,
            seed=seed,
        )
    found = replace(found, limits=(*cut, *found.limits))
    document = report.document("transfer", {attack: found}, key="", seconds=0)
    place = out or Path("evaluations") / f"{result.sweep}-transfer"
    write(document, place)
    if not as_json:
        show_matrix(found, _console())
    if track:
        _send(result.plan, document)
    _finish([document], place, as_json=as_json)


def show(report: Report, console: Console) -> None:
    """Print a report: of every table what fits, what limits it, and what is refused."""
    for analysis in report.analyses:
        columns, rows = analysis.table.columns, [[_cell(cell) for cell in row] for row in analysis.table.rows]
        fitting = _fitting(columns, rows, console.width)
        table = Table(title=f"{report.suite}: {analysis.name}", title_justify="left", box=None, pad_edge=False)
        for index, column in enumerate(columns[:fitting]):
            table.add_column(column, justify="right" if index else "left", overflow="fold")
        for row in rows[:ROWS_SHOWN]:
            table.add_row(*(Text(cell) for cell in row[:fitting]))
        console.print()
        console.print(table)
        for left, what in ((len(rows) - ROWS_SHOWN, "rows"), (len(columns) - fitting, "columns")):
            if left > 0:
                console.print(Text(f"{left} more {what} in {analysis.name}.csv", style="dim"))
        for line in analysis.refusals:
            console.print(Text(f"refused: {line}", style="bold red"))
        for line in analysis.limits:
            console.print(Text(line, style="dim"))


def show_matrix(found: Transfer, console: Console) -> None:
    """Print who is fooled by what was made for whom, in percent of the images that all classify rightly."""
    from trainables.evaluation.transfer_result import Condition  # noqa: PLC0415  imports torch

    rows = found.errors[Condition(among="right")]
    images = next(iter(next(iter(rows.values())).values())).images
    title = f"errors in %, of the {images} images that all classify rightly"
    table = Table("made for", *rows, title=title, title_justify="left", box=None, pad_edge=False)
    for source, row in rows.items():
        table.add_row(source, *(f"{100 * rate.error:.1f}" for rate in row.values()))
    console.print(table)
    for line in found.refusals:
        console.print(Text(f"refused: {line}", style="bold red"))
    for line in found.limits:
        console.print(Text(line, style="dim"))


def _cell(cell: Any) -> str:
    return "" if cell is None else shown(cell)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit, the first always: titles wrap between words, and so do cells of several words."""
    taken = 0
    for index, column in enumerate(columns):
        words = [word for text in (column, *(row[index] for row in rows[:ROWS_SHOWN])) for word in text.split()]
        taken += max(map(len, words), default=0) + 2
        if taken > width and index:
            return index
    return len(columns)


def write(report: Report, place: Path) -> None:
    """Write a report as files: one JSON, and for each analysis a table (CSV) and a figure (HTML)."""
    import plotly.io  # noqa: PLC0415  only who draws pays it

    folder = place / report.suite
    folder.mkdir(parents=True, exist_ok=True)
    for analysis in report.analyses:
        plotly.io.write_html(analysis.figure, folder / f"{analysis.name}.html", include_plotlyjs="directory")
        with (folder / f"{analysis.name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([analysis.table.columns, *analysis.table.rows])
    (folder / "report.json").write_text(json.dumps(plain(report), indent=1) + "\n", encoding="utf-8")


def plain(report: Report) -> dict[str, Any]:
    """A report without its figures, for JSON."""
    return {
        "suite": report.suite,
        "seconds": report.seconds,
        "analyses": {analysis.name: _plain(analysis) for analysis in report.analyses},
    }


def _plain(analysis: Analysis) -> dict[str, Any]:
    return {
        "metrics": analysis.metrics,
        "columns": list(analysis.table.columns),
        "rows": [list(row) for row in analysis.table.rows],
        "limits": list(analysis.limits),
        "refusals": list(analysis.refusals),
    }


def _suites(text: str) -> list[str]:
    from trainables.evaluation.suites import SUITES  # noqa: PLC0415

    names = list(SUITES) if text == ALL else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise SpecError([Problem("--suite", f"must be of {', '.join(SUITES)} or {ALL}, got {', '.join(unknown)}")])
    return list(dict.fromkeys(names))


def _chosen(result: SweepResult, trials: str, k: int) -> list[str]:
    if trials:
        names = [name.strip() for name in trials.split(",")]
        if len(set(names)) < 2:
            raise SpecError([Problem("--trials", f"must name two trials or more, got {trials}")])
        return names
    done = [trial.id for trial in result.history.ranked(result.plan.spec.objective) if trial.status == "completed"]
    if len(done) < 2:
        raise OrchestratorError(
            f"{result.sweep}: {len(done)} trials ran their full budget, two are needed; use --trials"
        )
    return done[:k]


def _one_radius(subjects: Mapping[str, Subject], attack: str) -> float | None:
    """The radius that all trials are attacked at; none for an attack that finds its own.

    Raises:
        SpecError: no such attack, or the trials were measured at different radii or norms.
    """
    from trainables.attacks import ATTACKS  # noqa: PLC0415  imports torch

    known = [*ATTACKS, "lbfgs"]
    if attack not in known:
        raise SpecError([Problem("--attack", f"must be one of {', '.join(known)}, got {attack!r}")])
    if attack == "lbfgs":
        return None
    radii = {(subject.epsilon, subject.norm) for subject in subjects.values()}
    if len(radii) > 1:
        told = ", ".join(f"{epsilon:g} ({norm})" for epsilon, norm in sorted(radii))
        raise SpecError([Problem("--epsilon", f"must be given: the trials were measured at {told}")])
    ((epsilon, norm),) = radii
    if attack.endswith("-l2") != (norm == "l2"):
        raise SpecError([Problem("--attack", f"must be one under {norm}, as the trials' radius is, got {attack!r}")])
    return epsilon


def _data_of(checkpoint: Path) -> Any:
    from trainables import state  # noqa: PLC0415  imports torch
    from trainables.run import saved_config  # noqa: PLC0415

    return saved_config(checkpoint, state.load(checkpoint)).data


def _epoch(checkpoint: Path) -> int:
    from trainables import state  # noqa: PLC0415  imports torch

    return state.load(checkpoint).epoch


def _send(plan: SweepPlan, report: Report, *, epoch: int | None = None, trial: str | None = None) -> None:
    """What was measured is kept and written: a tracking server that is away costs nothing but a line."""
    from orchestrator.tracking.evaluations import log_report  # noqa: PLC0415

    try:
        log_report(plan, report, epoch=epoch, trial=trial)
    except OrchestratorError as error:
        typer.echo(f"not in MLflow: {error}", err=True)


def _finish(reports: list[Report], place: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({report.suite: plain(report) for report in reports}, indent=1))
    else:
        typer.echo(f"\ntables and figures: {place}")


def _console() -> Console:
    """The terminal; where output goes to a file, lines are as long as tables want them."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr, gone when it is over; nothing where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, done: bar.update(task, description=what, completed=done)
