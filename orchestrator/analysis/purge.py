"""Purge: remove everything that a sweep wrote, and nothing else."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError, SweepLocked
from orchestrator.planning.changes.original import require_original
from orchestrator.redaction import without_password
from orchestrator.state.sweep_folder import reference, require_writable
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
    """Everything to remove: the sweep's folder and objects, and its runs and views in MLflow."""

    folder: SweepFolder
    num_files: int
    num_bytes: int
    num_objects: int
    traces: Traces

    def lines(self) -> list[str]:
        """Format the removal for confirmation, one line for each place."""
        mlflow = f"{self.traces.store}: {len(self.traces.runs)} runs with their artifacts"
        views = f", {len(self.traces.views)} prepared views" if self.traces.views else ""
        lines = [f"{self.folder.path}: {self.num_files} files, {self.num_bytes / 1e6:.1f} MB", mlflow + views]
        if self.folder.remote is not None:
            lines.insert(0, f"{self.folder.uri}: {self.num_objects} objects")
        return lines


def find(plan: SweepPlan, folder: SweepFolder) -> Purge:
    """Find what to remove; change nothing.

    Raises:
        SweepCopied: it is a copy, and its runs are the original's.
        SweepLocked: its driver runs.
        OrchestratorError: MLflow does not answer, or a model was registered from one of its runs.
        StorageError: the folder cannot be written, or S3 does not answer.
    """
    require_original(plan, folder)
    require_writable(folder, purpose="remove the sweep")  # before its runs go from MLflow
    if is_held(folder):
        raise SweepLocked(f"{folder.sweep}: its driver runs; stop it first")
    try:
        traces = removal.traces(plan)
    except Exception as error:
        reason = without_password(str(error).partition("\n")[0])
        raise OrchestratorError(f"{folder.sweep}: MLflow does not answer ({reason}); nothing was removed") from error
    if traces.models:
        reason = f"{', '.join(traces.models)} was registered from it"
        raise OrchestratorError(f"{folder.sweep}: {reason}; delete the version in MLflow first, or keep the sweep")
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    return Purge(
        folder=folder,
        num_files=len(files),
        num_bytes=sum(path.stat().st_size for path in files),
        num_objects=0 if folder.remote is None else sum(1 for _ in folder.remote.list()),
        traces=traces,
    )


def carry_out(plan: SweepPlan, purge: Purge) -> None:
    """Remove everything: MLflow's part first, the plan last, so that an interrupted purge can be repeated.

    Raises:
        SweepLocked: a driver runs it, or took it meanwhile.
        OrchestratorError: MLflow or S3 refused; a second call removes the rest.
    """
    folder = purge.folder
    lock = acquire(folder)
    try:
        with lock.renewing(on_lost=lambda: None):  # checked below, before each removal
            _remove_traces(plan, purge)
            _check_lock(lock, folder)
            if folder.remote is not None:
                _remove_folders(folder, folder.remote)
        _check_lock(lock, folder)
        if folder.remote is not None:
            _remove_files(folder, folder.remote)
    except BaseException:
        lock.release()
        raise
    if folder.remote is not None:  # the lock is removed too; releasing it would write it
        folder.remote.delete_prefix()
    _remove_local(folder.path)


def _remove_traces(plan: SweepPlan, purge: Purge) -> None:
    try:
        removal.remove(plan, purge.traces)
    except Exception as error:
        reason = without_password(str(error).partition("\n")[0])
        retry = f"ravel purge {reference(purge.folder)}"
        raise OrchestratorError(f"{purge.folder.sweep}: MLflow refused ({reason}); retry: {retry}") from error


def _check_lock(lock: SweepLock, folder: SweepFolder) -> None:
    if lock.is_lost():
        command = f"ravel status {reference(folder)}"
        raise SweepLocked(f"{folder.sweep}: another driver took it meanwhile; the rest was kept; see {command}")


def _remove_folders(folder: SweepFolder, remote: Bucket) -> None:
    """Remove all objects in folders, except the lock records, and the empty objects that represent folders."""
    for name in [name for name in remote.list_folders() if name != folder.locks.name]:
        remote.delete_prefix(name)


def _remove_files(folder: SweepFolder, remote: Bucket) -> None:
    """Remove the remaining objects, except empty ones: lock records and plan in one request, the plan last."""
    remote.delete(sorted((entry.key for entry in remote.list()), key=lambda key: key == folder.plan.name))


def _remove_local(path: Path) -> None:
    """Rename the folder, then remove it: an interrupted removal leaves no partial sweep."""
    aside = path.with_name(f".purged-{path.name}-{secrets.token_hex(4)}")
    path.rename(aside)
    shutil.rmtree(aside)
