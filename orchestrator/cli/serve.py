"""``ravel ui`` and ``ravel serve``: MLflow's pages for one person, and MLflow for a team."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, MaybeSweep, StorageFolder
from orchestrator.errors import SpecError
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps
from search_spaces.errors import Problem

Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")]
SERVER_FOLDER = Path("ravel-server")


def ui(
    sweep: MaybeSweep = None,
    port: Port = 5000,
    folder: StorageFolder = RESULTS,
) -> None:
    """Serve MLflow's pages on this machine, until Ctrl-C."""
    from orchestrator.mlflow_server import host_check, processes  # noqa: PLC0415
    from orchestrator.redaction import without_password  # noqa: PLC0415
    from orchestrator.tracking.store import DEFAULT_URI, tracking_uri  # noqa: PLC0415

    there = list_sweeps(folder)
    uri = (
        tracking_uri(SweepResult.read(find_sweep(folder, sweep)).plan)
        if there or sweep
        else os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_URI)
    )
    if uri.startswith("http"):
        typer.echo(f"MLflow is served at {without_password(uri)}")
        return
    host_check.check_port("127.0.0.1", port)
    typer.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)")
    processes.serve(uri, port=port)


def serve(
    *,
    store: Annotated[
        str | None, typer.Option(help="postgresql://USER@HOST/DATABASE.  [default: $MLFLOW_BACKEND_STORE_URI]")
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option(help="s3://BUCKET/PREFIX, or a folder.  [default: artifacts in --folder]")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Port = 5000,
    allowed_hosts: Annotated[str, typer.Option(help="What clients call this server, with commas between.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where the generated password is kept.")] = SERVER_FOLDER,
) -> None:
    """Serve MLflow to a team: with a login, until Ctrl-C."""
    from orchestrator.mlflow_server import processes, team  # noqa: PLC0415

    _refuse_password(store)
    server = team.TeamServer(
        store=store or os.environ.get(team.STORE, ""),
        artifacts=_place(artifacts or str(folder / "artifacts")),
        folder=folder.expanduser().resolve(),
        host=host,
        port=port,
        allowed_hosts=tuple(name.strip() for name in allowed_hosts.split(",") if name.strip()),
        workers=workers,
    )
    team.prepare(server)
    typer.echo(
        f"MLflow on {server.address} (Ctrl-C stops it). Clients on this machine: . {server.client_file}, which does\n"
    )
    typer.echo("\n".join(f"  {line}" for line in team.client_environment(server)))
    typer.echo("\nElsewhere, set the same, and the password to what its file holds: it is shown nowhere else.")
    typer.echo(f"Accounts for others: {server.address}/signup, as {team.ADMIN}.")
    processes.serve_team(server)


def _refuse_password(store: str | None) -> None:
    """An argument can be read by anybody on the machine, and stays in the shell's history."""
    from orchestrator.mlflow_server import team  # noqa: PLC0415
    from orchestrator.redaction import without_password  # noqa: PLC0415

    given = (store or "").partition("://")[2]
    if ":" in given.rpartition("@")[0]:
        law = "a password is no argument: anybody on this machine can read it"
        raise SpecError([Problem("--store", f"{law}; set {team.STORE} instead of {without_password(store or '')}")])


def _place(artifacts: str) -> str:
    """A folder in full; a bucket as it is."""
    return artifacts if "://" in artifacts else str(Path(artifacts).expanduser().resolve())
