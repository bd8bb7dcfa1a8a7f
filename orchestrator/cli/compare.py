"""Command of the panel Look: compare."""

from __future__ import annotations

import json
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.analysis.comparison.across import compare_across, differences
from orchestrator.analysis.comparison.comparison import compare as compare_at
from orchestrator.analysis.comparison.rungs import rungs_of
from orchestrator.analysis.comparison_output import LEGEND, across_table, rung_table, rungs_table, trials_table
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.shared.arguments import RESULTS, AsJson, Epoch, StorageFolder, Sweeps
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem

if TYPE_CHECKING:
    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.comparison.rungs import Rung
    from orchestrator.tracking.cursor import Cursor

Server = Annotated[str, typer.Option(help="Server of MLflow's pages; default: the sweep's, or that of ravel ui.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the first page in a browser.")]
PANEL = "Look"
TOP = 20
RUNG_ROWS = 8

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel compare digits digits-wide --epoch 9")
def compare(
    sweeps: Sweeps,
    *,
    epoch: Epoch = None,
    rungs: Annotated[bool, typer.Option("--rungs", help="Compare the trials of one sweep at each rung.")] = False,
    server: Server = "",
    open_first: Open = False,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Compare trials of one sweep or of several at one epoch; link to MLflow's pages.

    The epoch is the highest that at least 12 trials of each sweep measured, or --epoch. Of one sweep, also print the
    prepared views of MLflow if the server's version is known to open them, and its plain pages.
    """
    from orchestrator.tracking import pages  # noqa: PLC0415

    read = (SweepResult.read(find_sweep(folder, sweep)) for sweep in sweeps)
    results = list({result.sweep: result for result in read}.values())
    if len(results) > 1:
        _compare_sweeps(results, epoch=epoch, is_single=rungs or open_first, as_json=as_json)
        return
    if rungs and epoch is not None:
        raise SpecError(
            [Problem("--epoch", f"must be left out with --rungs, which compares at each rung; got {epoch}")]
        )
    (result,) = results
    compared = _compared(result, epoch)
    at_rungs = rungs_of(result.plan, result.state) if rungs else []
    links, cursor = None, None
    try:
        cursor = _runs_of(result)
        links = pages.links(result.plan, cursor, server=server)
    except (OrchestratorError, ImportError) as error:
        if open_first:
            raise
        typer.echo(f"no links to MLflow's pages: {error}", err=True)
    if as_json:
        views = {} if links is None else {name: link for name, _, link in links.views}
        plain = {"compare": links and links.compare, "runs": links and links.runs, "views": views}
        more = {"rungs": [rung.as_json() for rung in at_rungs]} if rungs else {}
        _print_json({**plain, "comparison": compared and compared.as_json(), **more})
    else:
        _say_compared(result, compared, at_rungs)
        for line in [] if links is None or cursor is None else links.lines(trials=len(cursor.runs)):
            typer.echo(line)
    if open_first and links is not None:
        _open(links.first)


def _compared(result: SweepResult, epoch: int | None) -> Comparison | None:
    """Return the comparison at an epoch; by default at that of ``comparable_epoch``, or None before any value."""
    try:
        return compare_at(result.plan, result.state, epoch=epoch)
    except OrchestratorError:
        if epoch is not None:
            raise
        return None


def _say_compared(result: SweepResult, compared: Comparison | None, at_rungs: list[Rung]) -> None:
    plan, state, console = result.plan, result.state, Console()
    if at_rungs:
        console.print(rungs_table(at_rungs))
        for rung in at_rungs:
            console.print("", rung_table(plan, state, rung, top=RUNG_ROWS), sep="\n")
    elif compared is not None:
        console.print(trials_table(plan, state, compared, top=TOP))
        for line in (LEGEND, *compared.lines()):
            typer.echo(line)
    typer.echo("")


def _compare_sweeps(results: list[SweepResult], *, epoch: int | None, is_single: bool, as_json: bool) -> None:
    if is_single:
        raise SpecError([Problem("SWEEP", f"must be one for --rungs and --open, got {len(results)}")])
    pairs = [(result.plan, result.state) for result in results]
    compared = compare_across(pairs, epoch=epoch)
    notes = differences(pairs)
    if as_json:
        _print_json({"sweeps": [result.sweep for result in results], "comparison": compared.as_json(), "notes": notes})
        return
    Console().print(across_table(pairs, compared, top=TOP))
    for line in (LEGEND, *compared.lines(), *notes):
        typer.echo(line)


def _runs_of(result: SweepResult) -> Cursor:
    """Return the MLflow runs that this machine sent; if it sent none, those that MLflow has from another machine."""
    from orchestrator.tracking.cursor import Cursor  # noqa: PLC0415
    from orchestrator.tracking.store.store import look_up  # noqa: PLC0415

    sent = Cursor.load(result.folder.cursor)
    cursor = sent if sent.runs else look_up(result.plan)
    if not cursor.runs:
        sync = f"ravel sync {reference(result.folder)}"
        raise OrchestratorError(f"{result.sweep}: MLflow has no run of it yet; {sync}")
    return cursor


def _open(link: str) -> None:
    if not webbrowser.open(link):
        typer.echo(f"no browser could be started here; open {link}", err=True)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=1))
