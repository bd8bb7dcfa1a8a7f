"""``ravel compare``: a sweep's leaderboard, and the MLflow pages that compare its trials."""

from __future__ import annotations

import json
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orchestrator.analysis import leaderboard
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, AsJson, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep

if TYPE_CHECKING:
    from orchestrator.tracking.cursor import Cursor

Server = Annotated[str, typer.Option(help="Where MLflow's pages are served.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the first page in a browser.")]
SERVED_HERE = "http://127.0.0.1:5000"
RUNS_LOADED = 100


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
