"""Options of ``ravel evaluate`` and ``ravel transfer``, and the checks of their values."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.errors import OrchestratorError, SpecError, quoted
from orchestrator.planning.seeds import searched_state
from search_spaces import Problem
from trainables.errors import ConfigError
from trainables.import_paths import find_in, registered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.analysis.result import SweepResult
    from orchestrator.planning.plan import SweepPlan
    from trainables.evaluation.core.report import Report
    from trainables.evaluation.core.results import Subject

ALL = "all"
PIPE_WIDTH = 160
Model = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="SWEEP/TRIAL, SWEEP for its best trial, the id of an MLflow run, or a checkpoint folder."
    ),
]
Suites = Annotated[
    str,
    typer.Option(
        "--suite",
        metavar="NAMES",
        help=f"Suites, separated by commas, or {ALL}; your own as module:function (entry point group ravel.suites).",
    ),
]
Subset = Annotated[int | None, typer.Option("--subset", min=1, metavar="N", help="Test images, at most.")]
DataRoot = Annotated[str | None, typer.Option(help="Folder of the data set; default: the trial's.")]
Epsilon = Annotated[float | None, typer.Option(min=0, help="Radius of attacks, in pixels of [0, 1].")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Default: evaluations/<name>.")]
Track = Annotated[bool, typer.Option("--track/--no-track", help="Send a trial's numbers to its run in MLflow.")]


def suites_of(text: str) -> list[str]:
    """Return the names of suites in ``--suite``.

    A user's own is imported here, from the working directory or an installed package.

    Raises:
        SpecError: there is no such suite, or a user's own cannot be imported.
    """
    from trainables.evaluation.core.own_suites import REGISTRY, is_own, own_suite  # noqa: PLC0415  imports torch
    from trainables.evaluation.core.suites import SUITES  # noqa: PLC0415

    names = list(SUITES) if text == ALL else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SUITES and not is_own(name)]
    if unknown:
        known = ", ".join([*SUITES, *registered(REGISTRY)])
        requirement = f"must be of {known} or {ALL}, or module:function of your own"
        raise SpecError([Problem("--suite", f"{requirement}, got {', '.join(unknown)}")])
    find_in(Path.cwd())
    try:
        for name in (name for name in names if name not in SUITES):
            own_suite(name)
    except ConfigError as error:
        raise SpecError([Problem(path, message) for path, message in error.problems]) from error
    return list(dict.fromkeys(names))


def chosen_trials(result: SweepResult, trials: str, k: int) -> list[str]:
    """Return the trials in ``--trials``, or the best ``k`` that ran their full budget.

    Raises:
        SpecError: fewer than two are named.
        OrchestratorError: fewer than two ran their full budget.
    """
    if trials:
        names = [name.strip() for name in trials.split(",")]
        if len(set(names)) < 2:
            raise SpecError([Problem("--trials", f"must name two trials or more, got {trials}")])
        return names
    ranked = searched_state(result.plan, result.state).ranked(result.plan.spec.objective)
    done = [trial.id for trial in ranked if trial.status == "completed"]
    if len(done) < 2:
        raise OrchestratorError(
            f"{result.sweep}: {len(done)} trials ran their full budget, two are needed; use --trials"
        )
    return done[:k]


def one_radius(subjects: Mapping[str, Subject], attack: str) -> float | None:
    """Return the radius at which all trials are attacked; None for an attack that searches its own.

    Raises:
        SpecError: there is no such attack, or the trials were measured at different radii or norms.
    """
    from trainables.attacks import ATTACKS  # noqa: PLC0415  imports torch

    known = [*ATTACKS, "lbfgs"]
    if attack not in known:
        raise SpecError([Problem("--attack", f"must be one of {', '.join(known)}, got {quoted(attack)}")])
    if attack == "lbfgs":
        return None
    radii = {(subject.epsilon, subject.norm) for subject in subjects.values()}
    if len(radii) > 1:
        listed = ", ".join(f"{epsilon:g} ({norm})" for epsilon, norm in sorted(radii))
        raise SpecError([Problem("--epsilon", f"must be given: the trials were measured at {listed}")])
    ((epsilon, norm),) = radii
    if attack.endswith("-l2") != (norm == "l2"):
        raise SpecError(
            [Problem("--attack", f"must be one under {norm}, as the trials' radius is, got {quoted(attack)}")]
        )
    return epsilon


def send_report(plan: SweepPlan, report: Report, *, epoch: int | None = None, trial: str | None = None) -> None:
    """Log a report in MLflow; if the server does not answer, print a line: the report is already on disk."""
    from orchestrator.tracking.evaluations import log_report  # noqa: PLC0415

    try:
        log_report(plan, report, epoch=epoch, trial=trial)
    except OrchestratorError as error:
        typer.echo(f"not in MLflow: {error}", err=True)


def evaluation_console() -> Console:
    """Return the terminal, or for output to a file a console wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


@contextmanager
def evaluation_bar(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Draw a progress bar on stderr and clear it at the end; draw nothing if stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda suite, done: bar.update(task, description=suite, completed=done)
