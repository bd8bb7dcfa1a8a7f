"""Commands of the panel Serve: ui, serve, register."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, AsJson, MaybeSweep, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.state.sweep_lookup import find_sweep, list_sweeps
from search_spaces.errors import Problem

if TYPE_CHECKING:
    from orchestrator.analysis.result import TrialResult

Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")]
SERVER_FOLDER = Path("ravel-server")


def ui(
    sweep: MaybeSweep = None,
    port: Port = 5000,
    folder: StorageFolder = RESULTS,
) -> None:
    """Serve MLflow's pages on this machine, until Ctrl-C."""
    from orchestrator.mlflow_server import host_check as hosts  # noqa: PLC0415
    from orchestrator.mlflow_server import processes as serving  # noqa: PLC0415
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
    hosts.check_port("127.0.0.1", port)
    typer.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)")
    serving.serve(uri, port=port)


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
    from orchestrator.mlflow_server import processes as serving  # noqa: PLC0415
    from orchestrator.mlflow_server import team  # noqa: PLC0415

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
    serving.serve_team(server)


def register(
    sweep: Sweep,
    *,
    trial: Annotated[str | None, typer.Option(metavar="TRIAL", help="Default: the best at full budget.")] = None,
    name: Annotated[str | None, typer.Option(metavar="MODEL", help="Default: the spec's name.")] = None,
    alias: Annotated[str, typer.Option(help="Moved to this version.")] = "champion",
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Register the best trial's model in MLflow.

    With its signature, metrics and sweep; mlflow.pyfunc.load_model takes it by its alias.
    """
    from orchestrator.tracking import registry  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    chosen = best_at_full_budget(result) if trial is None else result.named(trial)
    found = registry.register(result.plan, chosen, name=name, alias=alias)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "uri": found.uri}, indent=1))
        return
    measured = f"{result.plan.spec.objective.metric} {chosen.score:.4f}"
    made = "made" if found.is_new else "there already"
    typer.echo(
        f"{found.uri}: version {found.version} ({made}), {found.trial}, {measured} after epoch {chosen.trial.epoch}"
    )


def best_at_full_budget(result: SweepResult) -> TrialResult:
    """The best trial that ran its full budget.

    Raises:
        OrchestratorError: none did.
    """
    best = result.best()
    if best.trial.status != "completed":
        told = f"no trial has run its full budget yet, the best of the others is {best.trial.id}"
        raise OrchestratorError(f"{result.sweep}: {told}; wait, or choose one with --trial")
    return best


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
