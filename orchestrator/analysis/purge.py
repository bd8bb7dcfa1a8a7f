"""Everything a sweep wrote, and taking away all of it and nothing else."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError, SweepLocked
from orchestrator.redaction import without_password
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lock import acquire, is_held
from orchestrator.tracking import removal

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_lock import SweepLock
    from orchestrator.storage.s3 import Bucket
    from orchestrator.tracking.removal import Traces


@dataclass(frozen=True)
class Purge:
    """What would go: the sweep's folder and objects, and what MLflow holds of it."""

    folder: SweepFolder
    num_files: int
    num_bytes: int
    num_objects: int
    traces: Traces

    def lines(self) -> list[str]:
        """In words, for who is about to agree."""
        mlflow = f"{self.traces.store}: {len(self.traces.runs)} runs with their artifacts"
        views = f", {len(self.traces.views)} prepared views" if self.traces.views else ""
        told = [f"{self.folder.path}: {self.num_files} files, {self.num_bytes / 1e6:.1f} MB", mlflow + views]
        if self.folder.remote is not None:
            told.insert(0, f"{self.folder.uri}: {self.num_objects} objects")
        return told


def find(plan: SweepPlan, folder: SweepFolder) -> Purge:
    """Look, and change nothing.

    Raises:
        SweepLocked: its driver runs.
        OrchestratorError: MLflow does not answer, or a model was registered from one of its runs.
        StorageError: S3 does not answer.
    """
    if is_held(folder):
        raise SweepLocked(f"{folder.sweep}: its driver runs; stop it first")
    try:
        traces = removal.traces(plan)
    except Exception as error:
        told = without_password(str(error).partition("\n")[0])
        raise OrchestratorError(f"{folder.sweep}: MLflow does not answer ({told}); nothing was removed") from error
    if traces.models:
        told = f"{', '.join(traces.models)} was registered from it"
        raise OrchestratorError(f"{folder.sweep}: {told}; delete the version in MLflow first, or keep the sweep")
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    return Purge(
        folder=folder,
        num_files=len(files),
        num_bytes=sum(path.stat().st_size for path in files),
        num_objects=0 if folder.remote is None else sum(1 for _ in folder.remote.list()),
        traces=traces,
    )


def carry_out(plan: SweepPlan, purge: Purge) -> None:
    """Remove it: MLflow's part first, the plan last, so that what is cut off in the middle can be begun again.

    Raises:
        SweepLocked: a driver runs it, or took it meanwhile.
        OrchestratorError: MLflow or S3 refused; what is left is removed by a second call.
    """
    folder = purge.folder
    held = acquire(folder)
    try:
        with held.renewing(on_lost=lambda: None):  # asked below, where it matters
            _remove_traces(plan, purge)
            _refuse_lost(held, folder)
            if folder.remote is not None:
                _remove_folders(folder, folder.remote)
        _refuse_lost(held, folder)
        if folder.remote is not None:
            _remove_files(folder, folder.remote)
    except BaseException:
        held.release()
        raise
    if folder.remote is not None:  # the lease went too, and is therefore not released: that would write it again
        folder.remote.delete_prefix()
    _remove_local(folder.path)


def _remove_traces(plan: SweepPlan, purge: Purge) -> None:
    try:
        removal.remove(plan, purge.traces)
    except Exception as error:
        told = without_password(str(error).partition("\n")[0])
        again = f"ravel purge {reference(purge.folder)}"
        raise OrchestratorError(f"{purge.folder.sweep}: MLflow refused ({told}); again: {again}") from error


def _refuse_lost(held: SweepLock, folder: SweepFolder) -> None:
    if held.is_lost():
        see = f"ravel status {reference(folder)}"
        raise SweepLocked(f"{folder.sweep}: another driver took it meanwhile; what is left stays; see {see}")


def _remove_folders(folder: SweepFolder, remote: Bucket) -> None:
    """All that has a folder, but for the leases, and with the empty objects that stand for folders."""
    for name in [name for name in remote.list_folders() if name != folder.locks.name]:
        remote.delete_prefix(name)


def _remove_files(folder: SweepFolder, remote: Bucket) -> None:
    """What is left but for empty objects: the leases and the plan go in one request, the plan last."""
    remote.delete(sorted((found.key for found in remote.list()), key=lambda key: key == folder.plan.name))


def _remove_local(path: Path) -> None:
    """Out of sight first: what is cut off in the middle is no half sweep."""
    aside = path.with_name(f".purged-{path.name}-{secrets.token_hex(4)}")
    path.rename(aside)
    shutil.rmtree(aside)
