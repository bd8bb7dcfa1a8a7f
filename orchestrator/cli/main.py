"""The command line: one call for each command; everything is decided elsewhere.

Exit codes: 0 done, 1 finished with more failed trials than allowed, 2 the spec or the arguments are wrong, 3 something
outside failed, 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.analysis import leaderboard
from orchestrator.analysis.result import SweepResult
from orchestrator.cli import compare as compare_commands
from orchestrator.cli import evaluate as evaluation_commands
from orchestrator.cli import maintain as upkeep_commands
from orchestrator.cli import registry as registry_commands
from orchestrator.cli import schedule as schedule_commands
from orchestrator.cli import serve as server_commands
from orchestrator.cli import spaces as space_commands
from orchestrator.cli.arguments import RESULTS, Address, AsJson, MaybeSweep, Set, Spec, StorageFolder, Sweep
from orchestrator.errors import Interrupted, OrchestratorError, SpecError, SweepNotFound
from orchestrator.formatting import shown
from orchestrator.planning.loading import load_spec, load_trial
from orchestrator.state.event_log import num_events, read_events
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps

if TYPE_CHECKING:
    from orchestrator.spec.model import SweepSpec

app = typer.Typer(
    name="ravel",
    help="Sweeps over Soft Nearest Neighbor Loss, Mixup and adversarial training, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(space_commands.app)


@app.command()
def launch(
    spec: Spec,
    overrides: Set = None,
    address: Address = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, run nothing.")] = False,  # noqa: FBT002
) -> None:
    """Run a new sweep."""
    loaded = load_spec(spec, overrides or [])
    if dry_run:
        from orchestrator.execution import preflight  # noqa: PLC0415  imports torch when it asks for models

        preflight.check_here(loaded, address=address)
        _say(f"{spec}: ready to launch. {_describe(loaded)}")
        return
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.live_display import display_for  # noqa: PLC0415

    _finish(launching.launch(loaded, address=address, callback=display_for(Console())))


@app.command()
def resume(sweep: Sweep, address: Address = "local", folder: StorageFolder = RESULTS) -> None:
    """Go on with an interrupted or killed sweep."""
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.live_display import display_for  # noqa: PLC0415

    found = find_sweep(folder, sweep)
    _finish(launching.resume(found, address=address, callback=display_for(Console())))


@app.command()
def check(spec: Spec, overrides: Set = None) -> None:
    """Check a spec, without starting anything: every mistake at once."""
    _say(f"{spec}: valid. {_describe(load_spec(spec, overrides or []))}")


@app.command()
def status(sweep: MaybeSweep = None, folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show how far a sweep is, and its leaderboard."""
    result = _read(folder, sweep)
    summary, plain = _state(result)
    if as_json:
        _print_json(plain)
        return
    _say(f"{result.sweep}  {_alive(result, summary.status)}")
    _say(leaderboard.headline(summary))
    _say(leaderboard.outcomes_line(summary))
    if plain["mlflow_behind"]:
        _say(f"MLflow has {plain['mlflow_behind']} events yet to take")
    Console().print(leaderboard.table(result.plan, result.state, top=20))
    for line in leaderboard.failures(result.state):
        _say(line)


@app.command("list")
def list_all(folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the sweeps in a storage folder."""
    results = [_read_or_say(found) for found in list_sweeps(folder)]
    states = [(result, _state(result)) for result in results if result is not None]
    if as_json:
        _print_json([summary for _, (_, summary) in states])
        return
    for result, (summary, _) in states:
        _say(f"{result.sweep}  {_alive(result, summary.status)}  {leaderboard.headline(summary)}")


@app.command()
def best(
    sweep: Sweep,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 1,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show the best trials of a sweep and their configurations."""
    result = _read(folder, sweep)
    objective = result.plan.spec.objective
    first = result.best().trial
    others = [trial for trial in result.state.ranked(objective) if trial.id != first.id]
    chosen = [first, *others][:k]
    if as_json:
        _print_json(
            [
                {
                    "trial": trial.id,
                    "status": trial.status,
                    "epoch": trial.epoch,
                    "score": trial.score(objective),
                    "config": trial.config,
                }
                for trial in chosen
            ]
        )
        return
    for trial in chosen:
        score, status = trial.score(objective), leaderboard.describe_status(trial)
        _say(f"{trial.id}  {objective.metric} {score:.4f}  {status}, epoch {trial.epoch}")
        for name, value in trial.config.items():
            _say(f"  {name}: {shown(value)}")


@app.command()
def trial(spec: Spec, overrides: Set = None) -> None:
    """Run one trial in this process, without Ray: the spec's baseline, with ``--set trial.NAME=VALUE`` on top."""
    from orchestrator.execution import local_trial as single  # noqa: PLC0415  imports torch

    single.run(load_trial(spec, overrides or []), say=_say)


@app.command()
def logs(
    sweep: Sweep,
    name: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="Only this trial, its traceback included.")
    ] = None,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Print what happened in a sweep, or in one trial."""
    found = find_sweep(folder, sweep)
    events = [event for event, _ in read_events(found.events) if name in {None, getattr(event, "trial", None)}]
    if name is not None and not events:
        raise SweepNotFound(f"{found.sweep}: no trial {name!r}; see `ravel status {found.sweep}`")
    for event in events:
        _say(event.model_dump_json() if as_json else leaderboard.log_line(event))
        if name is not None and not as_json and (text := getattr(event, "traceback", None)):
            _say(text)


for command in (
    compare_commands.compare,
    evaluation_commands.evaluate,
    evaluation_commands.transfer,
    registry_commands.import_mlflow,
    registry_commands.register,
    schedule_commands.plan,
    schedule_commands.replay,
    schedule_commands.audit,
    server_commands.ui,
    server_commands.serve,
    upkeep_commands.sync,
    upkeep_commands.purge,
):
    app.command()(command)


def main() -> None:
    """Run the command line; every error of ours becomes its exit code and its own words."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app()
    except SpecError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        sys.exit(error.exit_code)
    except Interrupted as error:
        typer.echo(f"\n{error}", err=True)
        sys.exit(error.exit_code)
    except OrchestratorError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted before a sweep began", err=True)
        sys.exit(Interrupted.exit_code)
    except Exception as error:  # data that is missing, a disk that is full, Ray that broke, a bug of ours
        if os.environ.get("RAVEL_DEBUG"):
            raise
        typer.echo(f"error: {type(error).__name__}: {error} (RAVEL_DEBUG=1 shows where)", err=True)
        sys.exit(OrchestratorError.exit_code)


def _finish(result: SweepResult) -> None:
    from orchestrator.cli.live_display import print_summary  # noqa: PLC0415

    print_summary(Console(), result.plan, result.state, command=_command(), sweep=reference(result.folder))
    if len(result.state.with_status("failed")) > result.plan.spec.failures.allowed:
        raise typer.Exit(1)


def _read(folder: str, sweep: str | None) -> SweepResult:
    return SweepResult.read(find_sweep(folder, sweep))


def _read_or_say(folder: SweepFolder) -> SweepResult | None:
    """A sweep of a list; one that cannot be read is named on stderr and left out."""
    try:
        return SweepResult.read(folder)
    except OrchestratorError as error:
        typer.echo(f"left out: {error}", err=True)
        return None


def _state(result: SweepResult) -> tuple[leaderboard.Progress, dict[str, Any]]:
    """How far a sweep is, and the same as plain data, with whether a driver lives and what MLflow has yet to take.

    The latter is null where nothing was sent from this machine: what another has sent is not known here.
    """
    from orchestrator.state.sweep_lock import is_held  # noqa: PLC0415
    from orchestrator.tracking.cursor import Cursor  # noqa: PLC0415

    summary = leaderboard.progress(result.plan, result.state, now=time.time())
    folder = result.folder
    elsewhere = folder.remote is not None and not folder.cursor.exists()  # another machine tracks it, or did
    behind = None if elsewhere else num_events(folder.events, Cursor.load(folder.cursor).offset)
    driver = "running" if is_held(folder) else "gone"
    return summary, {**summary.as_json(), "driver": driver, "mlflow_behind": behind}


def _alive(result: SweepResult, status: str) -> str:
    """``running`` is what the log says; whether a driver lives is what its lease says."""
    from orchestrator.state.sweep_lock import is_held  # noqa: PLC0415

    if status != "running" or is_held(result.folder):
        return status
    return f"its driver is gone: ravel resume {reference(result.folder)}"


def _describe(spec: SweepSpec) -> str:
    searched = len(spec.space.names)
    return f"{spec.search.num_trials} trials over {searched} parameters, {spec.objective.mode} {spec.objective.metric}."


def _command() -> str:
    """How this command was called, so that the commands we print can be pasted."""
    called = sys.argv[0]
    return "ravel" if shutil.which("ravel") == called else called


def _say(line: str) -> None:
    typer.echo(line)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1))
