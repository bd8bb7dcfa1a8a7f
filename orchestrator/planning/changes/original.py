"""The original of a sweep: a copy of its folder shares its MLflow runs, and must not change or remove them.

A folder is the original if it is the directory that was recorded at the launch (its inode and that of its plan), also
after a move on its file system, or mounted elsewhere; or if it is at the recorded place, as after a restore, and on
file systems whose inodes change. Without a record (older sweeps, sweeps in S3) the place is that of the plan's storage.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ObjectMissing, SweepCopied
from orchestrator.state.folder_identity import Identity, record
from orchestrator.state.sweep_folder import SweepFolder, reference
from orchestrator.storage.locations import Location, expanded, is_remote

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan


def require_original(plan: SweepPlan, folder: SweepFolder) -> None:
    """Return if this is the original of a sweep, and not a copy.

    Raises:
        SweepCopied: it is a copy; names the original, or what to do if that is gone.
        StorageError: the original is in S3, which does not answer.
    """
    recorded = Identity.load(folder) if folder.remote is None else None
    if recorded is None:
        _require_no_original_at(_launched_at(plan), plan, folder)
        return
    here = Identity.of(folder)
    if here.is_same_directory(recorded):
        if here.path != recorded.path:
            with suppress(OSError):  # a folder that cannot be written stays what it is
                record(folder)
        return
    if here.path == recorded.path:
        return
    _require_no_original_at(recorded.path, plan, folder)
    raise SweepCopied(
        f"{folder.path}: copied or moved here from {recorded.path}, and a copy must not change the original's runs in "
        f"MLflow; if the original is gone for good, delete {folder.identity.name} in this folder and retry"
    )


def _launched_at(plan: SweepPlan) -> str:
    storage = plan.spec.storage.uri
    if is_remote(storage):
        return f"{Location.parse(storage).uri}/{plan.sweep}"
    return str((Path(plan.working_directory) / expanded(storage) / plan.sweep).resolve())


def _require_no_original_at(place: str, plan: SweepPlan, folder: SweepFolder) -> None:
    if place == (folder.uri if folder.remote is not None else str(folder.path.resolve())):
        return
    content = _plan_at(place, folder)
    if content is None or (content.get("sweep"), content.get("created_at")) != (plan.sweep, plan.created_at):
        return
    original = place if is_remote(place) else reference(SweepFolder(Path(place)))
    raise SweepCopied(
        f"{folder.uri}: a copy of {place}, whose runs in MLflow it must not change; name the original in the command "
        f"(SWEEP: {original}), or delete this copy by hand"
    )


def _plan_at(place: str, folder: SweepFolder) -> dict[str, object] | None:
    """Return the document of the plan at a place; None if there is none, or if the place is this folder."""
    try:
        if is_remote(place):
            from orchestrator.storage.s3 import Bucket  # noqa: PLC0415  reads the settings of S3

            content = Bucket(Location.parse(place)).read(folder.plan.name)
        else:
            path = Path(place)
            if folder.remote is None and path.exists() and path.samefile(folder.path):
                return None
            content = (path / folder.plan.name).read_bytes()
        document = json.loads(content)
    except (ObjectMissing, OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
