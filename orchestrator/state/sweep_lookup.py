"""Lookup of sweeps in a storage: a folder of this machine, or ``s3://bucket/prefix``."""

from __future__ import annotations

import hashlib
import re
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from orchestrator.errors import SweepNotFound, WrongLocation, quoted
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.storage.locations import Location, cache_folder, expanded, is_remote, variable_problem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from orchestrator.storage.s3 import Bucket

PULLS_AT_ONCE = 8
STAMP = "%Y%m%d-%H%M%S"
STAMP_SUFFIX = re.compile(r"-\d{8}-\d{6}(-[0-9a-f]{4})?$")


def try_out(storage: str | Path) -> None:
    """Write a small file to a storage, and delete it.

    Raises:
        WrongLocation: it has a variable, which nothing expands.
        StorageError: S3 refused, or could not be reached.
        OSError: the folder cannot be written.
    """
    _refuse_variables(storage)
    if is_remote(storage):
        bucket, probe = _bucket(storage), f".ravel-{secrets.token_hex(4)}"
        bucket.write(probe, b"may be deleted")
        bucket.delete([probe])
        return
    folder = _absolute(storage)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder):
        pass


def new_id(name: str, *, now: datetime) -> str:
    """Return the id of a new sweep called ``name``: ``<name>-<date>-<time>-<four random digits>``.

    The random part separates sweeps that start in the same second on different machines and share an MLflow.
    """
    return f"{name}-{now.strftime(STAMP)}-{secrets.token_hex(2)}"


def create_folder(storage: str | Path, sweep: str) -> SweepFolder:
    """Create an empty folder for a sweep of this id.

    Raises:
        FileExistsError: the storage has a sweep of that id.
        WrongLocation: the storage has a variable, which nothing expands.
    """
    _refuse_variables(storage)
    folder = _folder(storage, sweep)
    folder.path.mkdir(parents=True)
    return folder


def list_sweeps(storage: str | Path) -> list[SweepFolder]:
    """Return every sweep of a storage, oldest first. Sweeps in S3 are mirrored to this machine.

    Raises:
        StorageError: S3 does not answer.
    """
    if not is_remote(storage):
        plans = _absolute(storage).glob("[!.]*/plan.json")  # a purge hides the folder that it removes
        return _in_order(SweepFolder(plan.parent) for plan in plans)
    folders = _remote_folders(storage)
    with ThreadPoolExecutor(PULLS_AT_ONCE, thread_name_prefix="ravel-pull") as pool:
        is_sweep = list(pool.map(pull, folders))
    return [folder for folder, is_one in zip(folders, is_sweep, strict=True) if is_one]


def find_sweep(storage: str | Path, sweep: str | None = None) -> SweepFolder:
    """Find a sweep by its id; by a name, the latest sweep of that name; by default, the latest of all.

    Args:
        storage: Folder, or ``s3://bucket/prefix``.
        sweep: Id or name; or a whole address, ``s3://bucket/prefix/SWEEP``, or the path of its folder, which replace
            ``storage``.

    Raises:
        SweepNotFound: no such sweep; names the storage and its latest sweeps.
        StorageError: S3 does not answer.
    """
    if sweep is not None and is_remote(sweep):
        storage, _, sweep = sweep.rstrip("/").rpartition("/")
    elif sweep is not None and "/" in sweep:
        sweep = sweep.rstrip("/") or "/"
        if "/" in sweep:
            path = _absolute(sweep)
            storage, sweep = path.parent, path.name
    if is_remote(storage):
        folders = _remote_folders(storage)
    else:
        storage = _absolute(storage)
        folders = list_sweeps(storage)
    exact = [folder for folder in folders if folder.sweep == sweep]
    named = [folder for folder in folders if sweep is None or _name_of(folder) == sweep]
    for folder in reversed(exact or named):
        if folder.remote is None or pull(folder):
            return folder
    latest = ", ".join(folder.sweep for folder in folders[-5:]) or "none"
    missing = f"no sweep {quoted(sweep)}" if sweep else "no sweep"
    raise SweepNotFound(f"{storage}: {missing} here (latest: {latest}); give --storage DIR, or see `ravel list`")


def _folder(storage: str | Path, sweep: str) -> SweepFolder:
    if not is_remote(storage):
        return SweepFolder(_absolute(storage) / sweep)
    bucket = _bucket(storage)
    return SweepFolder(_mirrors(bucket.location) / sweep, bucket.child(sweep))


def _remote_folders(storage: str | Path) -> list[SweepFolder]:
    """Return the folders in S3 that may be sweeps, oldest first; they share one client."""
    bucket = _bucket(storage)
    mirrors = _mirrors(bucket.location)
    return _in_order(SweepFolder(mirrors / sweep, bucket.child(sweep)) for sweep in bucket.list_folders())


def _bucket(storage: str | Path) -> Bucket:
    from orchestrator.storage.s3 import Bucket  # noqa: PLC0415  reads the settings of S3

    return Bucket(Location.parse(str(storage)))


def _mirrors(location: Location) -> Path:
    """Return the folder of this machine that mirrors a storage in S3."""
    return cache_folder() / "sweeps" / hashlib.sha256(location.uri.encode()).hexdigest()[:16]


def _absolute(storage: str | Path) -> Path:
    return expanded(storage).resolve()


def _refuse_variables(storage: str | Path) -> None:
    """Refuse to write where no one would look; a folder of that name which exists can still be read."""
    problem = variable_problem(str(storage))
    if problem is not None:
        raise WrongLocation(f"{storage}: {problem}")


def _in_order(folders: Iterable[SweepFolder]) -> list[SweepFolder]:
    return sorted(folders, key=lambda folder: (_stamp_of(folder), folder.sweep))


def _name_of(folder: SweepFolder) -> str:
    return STAMP_SUFFIX.sub("", folder.sweep)


def _stamp_of(folder: SweepFolder) -> str:
    stamp = STAMP_SUFFIX.search(folder.sweep)
    return stamp.group() if stamp else ""
