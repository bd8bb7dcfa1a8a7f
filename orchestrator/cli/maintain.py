"""The commands that look after what a sweep wrote: ``ravel sync`` and ``ravel purge``."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.analysis import purge as purging
from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, SweepLocked
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lock import is_held
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces.errors import MissingExtraError


def sync(sweep: Sweep, folder: StorageFolder = RESULTS) -> None:
    """Bring MLflow, and S3 where the sweep is kept there, up to date with its event log."""
    from orchestrator.redaction import without_password  # noqa: PLC0415
    from orchestrator.tracking.store import tracking_uri  # noqa: PLC0415
    from orchestrator.tracking.tracker import Tracker  # noqa: PLC0415  needs MLflow

    try:
        from filelock import FileLock  # noqa: PLC0415  comes with MLflow's extra
    except ImportError as error:
        raise MissingExtraError("filelock", extra="track") from error
    result = SweepResult.read(find_sweep(folder, sweep))
    found = result.folder
    if is_held(found):
        see = f"ravel status {reference(found)}"
        raise SweepLocked(f"{found.sweep}: its driver runs and sends everything itself; see how far it is: {see}")
    if found.remote is not None:
        Mirror(found, found.remote).catch_up()
        typer.echo(f"{found.sweep}: {found.uri} has the whole log of this machine")
    tracker = Tracker(result.plan, found, replay=True)
    with FileLock(found.sync_lock):  # of two at once, each would make the runs it does not find
        try:
            tracker.catch_up()
        except Exception as error:
            told = without_password(f"{tracking_uri(result.plan)}: MLflow did not take it ({error}); try again later")
            raise OrchestratorError(told) from error
    left_out = f", but for {', '.join(tracker.skipped)}, which it refuses" if tracker.skipped else ""
    typer.echo(f"{found.sweep}: MLflow has everything the log has{left_out}")


def purge(
    sweep: Sweep,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this, only say what would go.")] = False,  # noqa: FBT002
    folder: StorageFolder = RESULTS,
) -> None:
    """Remove everything a sweep wrote: its folder or prefix, its MLflow runs, artifacts and views; nothing else."""
    result = SweepResult.read(find_sweep(folder, sweep))
    found = purging.find(result.plan, result.folder)
    for line in found.lines():
        typer.echo(line)
    if not yes:
        typer.echo(f"nothing was removed; to remove all of this: ravel purge {reference(result.folder)} --yes")
        return
    purging.carry_out(result.plan, found)
    later = "" if found.traces.for_good else "; its server keeps deleted runs until `mlflow gc` runs there"
    typer.echo(f"{result.sweep}: removed{later}")
