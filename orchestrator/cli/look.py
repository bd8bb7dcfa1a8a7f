"""Commands of the panel Look: status, list, best, logs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.analysis.comparison.comparison import compare as compare_at
from orchestrator.analysis.comparison.epochs import epoch_of_best
from orchestrator.analysis.forecast.checkpoint_sizes import checkpoint_sizes, free_on_disk, room_line, size_line
from orchestrator.analysis.leaderboard import (
    by_epoch,
    comparison_of_best,
    describe_status,
    failures,
    log_line,
    measured,
)
from orchestrator.analysis.lineage import schedule_lines
from orchestrator.analysis.order_history import as_json as orders_json
from orchestrator.analysis.order_history import lineage, lineage_lines, order_history, order_lines
from orchestrator.analysis.result import SweepResult
from orchestrator.analysis.sweep_progress import headline, progress
from orchestrator.cli.shared.arguments import RESULTS, AsJson, Epoch, MaybeSweep, StorageFolder, Sweep
from orchestrator.cli.shared.live_display import overview
from orchestrator.decisions.hosts import unreliable_hosts
from orchestrator.errors import Interrupted, OrchestratorError, SweepNotFound, quoted
from orchestrator.formatting import shown
from orchestrator.planning.batch_choice import batch_line
from orchestrator.planning.seeds import configurations_of, searched_state
from orchestrator.redaction import one_line
from orchestrator.state.event_log import read_events
from orchestrator.state.log_following import follow_events
from orchestrator.state.log_segments import num_events
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps
from orchestrator.storage.locations import expanded, is_remote

if TYPE_CHECKING:
    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.forecast.checkpoint_sizes import CheckpointSizes
    from orchestrator.analysis.sweep_progress import Progress
    from orchestrator.scheduling.configurations import Configuration
    from orchestrator.spec.objective import Objective
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState

PANEL = "Look"
TOP = 20

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel status digits")
def status(sweep: MaybeSweep = None, folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show the progress of a sweep, its leaderboard, and the orders that changed it."""
    result = _read(folder, sweep)
    summary, plain = _state(result)
    orders = order_history(result.state, result.folder)
    if as_json:
        compared = comparison_of_best(result.plan, result.state)
        batch = {"size": result.plan.batch, "reason": batch_line(result.plan.spec.resources, result.plan.batch_choice)}
        more = {"comparison": compared and compared.as_json(), "batch": batch}
        _print_json({**plain, **more, "orders": orders_json(orders), "plan": lineage(result.plan)})
        return
    _say(f"{result.sweep}  {_alive(result, summary.status)}")
    ended = result.state.ended
    if ended is not None and ended.status == "failed" and ended.reason:
        _say(ended.reason)
    Console().print(overview(result.plan, result.state, summary, top=TOP))
    if (line := batch_line(result.plan.spec.resources, result.plan.batch_choice)) is not None:
        _say(f"batch: {line}")
    for line in _size_lines(result, summary):
        _say(line)
    if plain["mlflow_behind"]:
        _say(f"MLflow has {plain['mlflow_behind']} events yet to take")
    for host, counts in unreliable_hosts(result.state.hosts, now=time.time()).items():
        _say(f"{host}: {counts.lost} trials lost their workers on it within an hour; it gets none if others are left")
    for line in failures(result.state):
        _say(line)
    for title, lines in {"plan": lineage_lines(result.plan), "orders": order_lines(orders)}.items():
        for line in ["", title, *(f"  {line}" for line in lines)] if lines else []:
            _say(line)


@app.command("list", rich_help_panel=PANEL, epilog="Example: ravel list --storage s3://team/ravel")
def list_all(folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the sweeps of a storage, oldest first."""
    listed = [entry for entry in map(_entry_or_warning, list_sweeps(folder)) if entry is not None]
    if as_json:
        _print_json([plain for _, plain in listed])
        return
    if not listed:
        where = folder if is_remote(folder) else expanded(folder).absolute()
        _say(f"no sweeps in {where}; start one with ravel launch SPEC, or name another storage with --storage")
    for line, _ in listed:
        _say(line)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel best digits -k 3")
def best(
    sweep: Sweep,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of trials.")] = 1,
    epoch: Epoch = None,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show the best trials of a sweep, and those that cannot be told apart.

    The best trial is the best with a full budget, at its last epoch; before there is one, the best of all. With --epoch
    it is the best of all trials at that one.
    """
    result = _read(folder, sweep)
    searched = searched_state(result.plan, result.state)
    comparison, chosen = _best_trials(result, searched, k, epoch)
    if as_json:
        _print_json([{**plain, "inseparable": plain["trial"] in comparison.inseparable} for plain in chosen])
        return
    if epoch is None and chosen[0]["status"] != "completed":
        _say("no trial has run its full budget yet; the best so far:")
    for plain in chosen:
        trial = searched.trials[plain["trial"]]
        _say(f"{trial.id}  {measured(result.plan, plain['score'])}  {describe_status(trial)}, epoch {plain['epoch']}")
        for name, value in trial.config.items():
            _say(f"  {name}: {shown(value)}")
        for line in schedule_lines(result.plan, searched, trial):
            _say(line)
    for line in comparison.lines():
        _say(line)


def _best_trials(
    result: SweepResult, searched: SweepState, k: int, epoch: int | None
) -> tuple[Comparison, list[dict[str, Any]]]:
    """Return the comparison at an epoch, and the best trials as plain data: at that epoch, or each at its last.

    With several seeds ``searched`` has configurations, and a score is a mean.
    """
    objective, trials = result.plan.spec.objective, searched.trials
    configurations = configurations_of(result.plan, result.state)
    if epoch is None:
        first = trials[result.best().trial.id]
        comparison = compare_at(result.plan, result.state, epoch=epoch_of_best(result.plan, result.state))
        scores = {trial.id: trial.score(objective) for trial in (first, *by_epoch(searched, objective))}
    else:
        comparison = compare_at(result.plan, result.state, epoch=epoch)
        scores = {**comparison.values}
    return comparison, [
        {
            "trial": name,
            "status": trials[name].status,
            "epoch": trials[name].epoch if epoch is None else epoch,
            "score": score,
            "config": trials[name].config,
            **(
                {"seeds": _seeds(configurations[name], epoch or trials[name].epoch, objective)}
                if configurations
                else {}
            ),
        }
        for name, score in list(scores.items())[:k]
    ]


def _seeds(configuration: Configuration, level: int, objective: Objective) -> dict[int, float]:
    """Return what the seeds of a configuration measured at a level, by their numbers."""
    sign = 1 if objective.mode == "max" else -1
    return {number: sign * value[0] for number, value in configuration.values(level).items()}


@app.command(rich_help_panel=PANEL, epilog="Example: ravel logs digits t003 -f")
def logs(
    sweep: Sweep,
    name: Annotated[
        str | None, typer.Argument(metavar="TRIAL", help="Print only this trial's events, with its traceback.")
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new events too, until the sweep ends; Ctrl-C leaves it alone.")
    ] = False,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Print the events of a sweep, or of one trial."""
    sweep_folder = find_sweep(folder, sweep)
    events = follow_events(sweep_folder) if follow else [event for event, _ in read_events(sweep_folder.events)]
    is_known = name is None
    try:
        for event in events:
            if name in {None, getattr(event, "trial", None)}:
                is_known = True
                _say_event(event, as_json=as_json, with_traceback=name is not None)
    except KeyboardInterrupt:
        if not follow:
            raise
        typer.echo("\nno longer following; the sweep goes on", err=True)
        raise typer.Exit(Interrupted.exit_code) from None
    if not is_known:
        raise SweepNotFound(f"{sweep_folder.sweep}: no trial {quoted(name)}; see `ravel status {sweep_folder.sweep}`")


def _say_event(event: Event, *, as_json: bool, with_traceback: bool) -> None:
    _say(event.model_dump_json() if as_json else log_line(event))
    if with_traceback and not as_json and (text := getattr(event, "traceback", None)):
        _say(text)


def _read(folder: str, sweep: str | None) -> SweepResult:
    return SweepResult.read(find_sweep(folder, sweep))


def _sizes(result: SweepResult, summary: Progress) -> CheckpointSizes:
    free = None if summary.is_finished else free_on_disk(result.folder)
    return checkpoint_sizes(result.plan, result.state, is_finished=summary.is_finished, free=free)


def _size_lines(result: SweepResult, summary: Progress) -> list[str]:
    """Return the size of the checkpoints, and a warning if the disk is too small for those to come."""
    sizes = _sizes(result, summary)
    remedy = f"keep fewer: ravel extend {reference(result.folder)} --set storage.keep_best=10"
    return [line for line in (size_line(sizes), room_line(sizes, remedy=remedy)) if line is not None]


def _entry_or_warning(folder: SweepFolder) -> tuple[str, dict[str, Any]] | None:
    """Return the line and the data of a sweep of a list; name one that cannot be read on stderr and leave it out."""
    try:
        result = SweepResult.read(folder)
        summary, plain = _state(result)
        return f"{result.sweep}  {_alive(result, summary.status)}  {headline(summary)}", plain
    except OrchestratorError as error:
        typer.echo(f"left out: {error}", err=True)
    except Exception as error:  # noqa: BLE001  no damage of one sweep may hide the others
        typer.echo(f"left out: {folder.uri}: {type(error).__name__}: {one_line(error)}", err=True)
    return None


def _state(result: SweepResult) -> tuple[Progress, dict[str, Any]]:
    """Return the progress of a sweep, and the same as plain data with its best trial, its driver and MLflow's lag.

    The lag is null if this machine sent MLflow nothing: what another machine sent is not known here.
    """
    from orchestrator.state.sweep_lock import is_held  # noqa: PLC0415
    from orchestrator.tracking.cursor import Cursor  # noqa: PLC0415

    folder, is_running = result.folder, is_held(result.folder)
    summary = progress(result.plan, result.state, now=time.time() if is_running else result.state.last_time)
    elsewhere = folder.remote is not None and not folder.cursor.exists()  # another machine tracks it, or did
    lag = None if elsewhere else num_events(folder.events, Cursor.load(folder.cursor).offset)
    driver = "running" if is_running else "gone"
    more = {"best": _best_json(result), "driver": driver, "mlflow_behind": lag}
    return summary, {**summary.as_json(), **more, "checkpoints": _sizes(result, summary).as_json()}


def _best_json(result: SweepResult) -> dict[str, Any] | None:
    objective = result.plan.spec.objective
    trial = searched_state(result.plan, result.state).best(objective)
    if trial is None:
        return None
    return {"trial": trial.id, "score": trial.score(objective), "epoch": trial.epoch, "parameters": trial.point}


def _alive(result: SweepResult, status: str) -> str:
    """Return the status in the log; if that is ``running`` and no driver holds the lock, the command that resumes."""
    from orchestrator.state.sweep_lock import is_held  # noqa: PLC0415

    if status != "running" or is_held(result.folder):
        return status
    return f"its driver is gone: ravel resume {reference(result.folder)}"


def _say(line: str) -> None:
    typer.echo(line)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1))
