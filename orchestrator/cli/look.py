"""Commands of the panel Look: status, list, best, compare, logs."""

from __future__ import annotations

import json
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.analysis import leaderboard
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, AsJson, MaybeSweep, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SweepNotFound
from orchestrator.formatting import shown
from orchestrator.state.event_log import num_events, read_events
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps

if TYPE_CHECKING:
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.tracking.cursor import Cursor

Server = Annotated[str, typer.Option(help="Where MLflow's pages are served.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the first page in a browser.")]
SERVED_HERE = "http://127.0.0.1:5000"
RUNS_LOADED = 100


def status(sweep: MaybeSweep = None, folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Show how far a sweep is, and its leaderboard."""
    result = _read(folder, sweep)
    summary, plain = _state(result)
    if as_json:
        _print_json(plain)
        return
    _say(f"{result.sweep}  {_alive(result, summary.status)}")
    _say(leaderboard.headline(summary))
    _say(leaderboard.where_trials_ended(summary))
    if plain["mlflow_behind"]:
        _say(f"MLflow has {plain['mlflow_behind']} events yet to take")
    Console().print(leaderboard.table(result.plan, result.state, top=20))
    for line in leaderboard.failures(result.state):
        _say(line)


def list_all(folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the sweeps in a storage folder."""
    results = [_read_or_say(found) for found in list_sweeps(folder)]
    states = [(result, _state(result)) for result in results if result is not None]
    if as_json:
        _print_json([summary for _, (_, summary) in states])
        return
    for result, (summary, _) in states:
        _say(f"{result.sweep}  {_alive(result, summary.status)}  {leaderboard.headline(summary)}")


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


def compare(
    sweep: Sweep,
    server: Server = "",
    open_first: Open = False,  # noqa: FBT002
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Print the leaderboard of a sweep and the MLflow pages that compare its trials.

    Prepared views where the server's version is known to open them, and the plain pages.
    """
    from orchestrator.redaction import server_address  # noqa: PLC0415
    from orchestrator.tracking import pages  # noqa: PLC0415
    from orchestrator.tracking.store import tracking_uri  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    cursor = _runs_of(result)
    uri = tracking_uri(result.plan)
    base = server_address(server or (uri if uri.startswith("http") else SERVED_HERE))
    version = pages.served_version(base, uri)
    views = _views(result, cursor, base, version)
    plain = {"compare": pages.compare_page(base, cursor), "runs": pages.runs_page(base, cursor, result.sweep)}
    if as_json:
        typer.echo(json.dumps({**plain, "views": {name: link for name, _, link in views}}, indent=1))
    else:
        Console().print(leaderboard.table(result.plan, result.state, top=20))
        _say_links(views, plain, version, trials=len(cursor.runs))
    if open_first:
        _open(views[0][2] if views else plain["compare"])


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


def _runs_of(result: SweepResult) -> Cursor:
    """The runs this machine sent to MLflow; where it sent none, those MLflow has: another machine may have."""
    from orchestrator.tracking.cursor import Cursor  # noqa: PLC0415
    from orchestrator.tracking.store import look_up  # noqa: PLC0415

    sent = Cursor.load(result.folder.cursor)
    cursor = sent if sent.runs else look_up(result.plan)
    if not cursor.runs:
        sync = f"ravel sync {reference(result.folder)}"
        raise OrchestratorError(f"{result.sweep}: MLflow has no run of it yet; {sync}")
    return cursor


def _views(result: SweepResult, cursor: Cursor, base: str, version: str | None) -> list[tuple[str, str, str]]:
    """Name, title and link of each prepared view; none where the pages were not seen to open them."""
    from orchestrator.tracking import pages, views  # noqa: PLC0415

    if version is None or not views.supports_views(version):
        return []
    return [(view.name, view.title, pages.view_page(base, cursor, view)) for view in views.views(result.plan)]


def _say_links(views: list[tuple[str, str, str]], plain: dict[str, str], version: str | None, *, trials: int) -> None:
    from orchestrator.tracking import pages  # noqa: PLC0415

    if not views:
        which = "the MLflow there does not tell its version" if version is None else f"MLflow there is {version}"
        typer.echo(f"\n{which}, so no prepared views (seen with 3.17); its plain pages:")
    elif trials > RUNS_LOADED:
        typer.echo(f"\nMLflow's pages load {RUNS_LOADED} trials at a time, the best first; more by Load more")
    most = pages.MAX_RUNS_IN_ADDRESS
    covered = "all trials" if trials <= most else f"the first {most} trials"
    told = [
        *((title, link) for _, title, link in views),
        (f"plain: parallel coordinates, scatter and contour over {covered} (choose the axes there)", plain["compare"]),
        ("plain: table and charts of the sweep's runs", plain["runs"]),
    ]
    typer.echo("\n" + "\n".join(f"{title}:\n  {link}" for title, link in told))


def _open(link: str) -> None:
    if not webbrowser.open(link):
        typer.echo(f"no browser could be started here; open {link}", err=True)


def _say(line: str) -> None:
    typer.echo(line)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1))
