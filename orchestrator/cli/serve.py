"""Commands of the panel Serve: ui, serve, register."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.shared.arguments import RESULTS, AsJson, MaybeSweep, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps
from search_spaces.errors import Problem

if TYPE_CHECKING:
    from orchestrator.analysis.result import TrialResult

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
PANEL = "Serve"
SERVER_FOLDER = Path("ravel-server")

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel ui --port 5001")
def ui(
    sweep: MaybeSweep = None,
    port: Port = 5000,
    folder: StorageFolder = RESULTS,
) -> None:
    """Serve MLflow's pages on this machine, until Ctrl-C."""
    from orchestrator.mlflow_server import host_check, processes  # noqa: PLC0415
    from orchestrator.redaction import without_password  # noqa: PLC0415
    from orchestrator.tracking.store.store import store_here, tracking_uri  # noqa: PLC0415

    uri = (
        tracking_uri(SweepResult.read(find_sweep(folder, sweep)).plan)
        if sweep or list_sweeps(folder)
        else os.environ.get("MLFLOW_TRACKING_URI") or store_here()
    )
    if uri.startswith("http"):
        typer.echo(f"MLflow is served at {without_password(uri)}")
        return
    host_check.check_port("127.0.0.1", port)
    typer.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)")
    processes.serve(uri, port=port)


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: ravel serve --artifacts s3://team-mlflow/files --host 0.0.0.0 --allowed-hosts ml.example",
)
def serve(
    *,
    store: Annotated[
        str | None, typer.Option(help="postgresql://USER@HOST/DATABASE.  [default: $MLFLOW_BACKEND_STORE_URI]")
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option(help="s3://BUCKET/PREFIX, or a folder.  [default: artifacts in --folder]")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = 5000,
    allowed_hosts: Annotated[
        str, typer.Option(help="Names by which clients reach this server, separated by commas.")
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="Server processes.")] = 1,
    folder: Annotated[Path, typer.Option(help="Folder of the generated password.")] = SERVER_FOLDER,
) -> None:
    """Serve MLflow to a team, with a login, until Ctrl-C."""
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
    typer.echo("\nOn another machine set the same, with the password from its file: it is printed nowhere.")
    typer.echo(f"Add an account for each member: {server.address}/signup, as {team.ADMIN}.")
    processes.serve_team(server)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel register digits --alias candidate")
def register(
    sweep: Sweep,
    *,
    trial: Annotated[str | None, typer.Option(metavar="TRIAL", help="Trial; default: the best at full budget.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Name of the model; default: the spec's name.")
    ] = None,
    alias: Annotated[str, typer.Option(help="Alias to point at this version.")] = "champion",
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Register the best trial's model in MLflow.

    Add its signature, its metrics and its sweep. Load it by its alias: mlflow.pyfunc.load_model("models:/NAME@ALIAS").
    """
    from orchestrator.tracking import registry  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    chosen = best_at_full_budget(result) if trial is None else result.named(trial)
    model = registry.register(result.plan, chosen, name=name, alias=alias)
    if as_json:
        typer.echo(json.dumps({**asdict(model), "uri": model.uri}, indent=1))
        return
    score = f"{result.plan.spec.objective.metric} {chosen.score:.4f} after epoch {chosen.trial.epoch}"
    origin = "new" if model.is_new else "registered before"
    typer.echo(f"{model.uri}: version {model.version} ({origin}), {model.trial}, {score}")


def best_at_full_budget(result: SweepResult) -> TrialResult:
    """Return the best trial that ran its full budget.

    Raises:
        OrchestratorError: no trial did.
    """
    best = result.best()
    if best.trial.status != "completed":
        reason = f"no trial has run its full budget yet, the best so far is {best.trial.id}"
        raise OrchestratorError(f"{result.sweep}: {reason}; wait, or choose one with --trial")
    return best


def _refuse_password(store: str | None) -> None:
    """Refuse a password in an argument: every user of the machine can read it, and the shell's history keeps it."""
    from orchestrator.mlflow_server import team  # noqa: PLC0415
    from orchestrator.redaction import without_password  # noqa: PLC0415

    address = (store or "").partition("://")[2]
    if ":" in address.rpartition("@")[0]:
        reason = "must not hold a password: every user of this machine can read an argument"
        raise SpecError([Problem("--store", f"{reason}; set {team.STORE} instead of {without_password(store or '')}")])


def _place(artifacts: str) -> str:
    """Return the absolute path of a folder; return the address of a bucket as it is."""
    return artifacts if "://" in artifacts else str(Path(artifacts).expanduser().resolve())
