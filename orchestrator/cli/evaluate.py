"""``ravel evaluate`` and ``ravel transfer``: what the papers measure, of models that are trained."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator import storage
from orchestrator.analysis.evaluation_output import plain, show, show_matrix, write
from orchestrator.analysis.evaluation_target import find_target, subject_of, target_of
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, AsJson, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SpecError
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.planning.plan import SweepPlan
    from trainables.evaluation.core.report import Report
    from trainables.evaluation.core.results import Subject

ALL = "all"
ATTACKING = {"robust", "dknn"}
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
    from trainables.evaluation.core import report  # noqa: PLC0415
    from trainables.evaluation.core.results import EvaluationBudget  # noqa: PLC0415

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
    budget = EvaluationBudget(images=subset, aa_lite=aa_lite)
    kept, place = cache_folder(_data_of(target.checkpoint)) / "evaluations", out or Path("evaluations") / target.slug
    found, failed = [], []
    with _bar(quiet=as_json) as progress:
        for name in names:
            try:
                (each,) = report.evaluate(subject, [name], budget, cache=kept, progress=progress, recompute=anew)
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
    from trainables.evaluation.core import report  # noqa: PLC0415  imports torch
    from trainables.evaluation.core.prediction import within  # noqa: PLC0415
    from trainables.evaluation.robustness.transfer import transfer as measure  # noqa: PLC0415

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


def _suites(text: str) -> list[str]:
    from trainables.evaluation.core.suites import SUITES  # noqa: PLC0415

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
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch
    from trainables.tasks.classifier.run import saved_config  # noqa: PLC0415

    return saved_config(checkpoint, state.load(checkpoint)).data


def _epoch(checkpoint: Path) -> int:
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch

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
