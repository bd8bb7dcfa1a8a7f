"""Files of one sweep.

::

    <storage>/<sweep>/plan.json        written once, before anything runs
                      folder.json      place and identity of this folder, to tell a copy from the original
                      environment.txt  the installed packages, as pip would pin them
                      events*.jsonl    the event log: the source of truth
                      tracking.json    position of MLflow in the log
                      orders/          orders of users, whose answers are in the log
                      claim.json       measured claim, of a confirmation whose test split was read
                      sync.lock        lock of the ``ravel sync`` that is sending
                      leases/          lock records: one file for each driver that ever ran the sweep
                      tune/            checkpoints, one folder for each trial and attempt

A sweep in S3 has the same objects under its prefix (the log under ``log/``), and a folder of this machine that mirrors
them. The driver writes to the folder, and the mirror sends its files to S3 (``orchestrator.state.s3_mirror``); workers
upload checkpoints to S3 themselves. The folder can be lost: it is recreated from S3.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import StorageError

if TYPE_CHECKING:
    from orchestrator.storage.s3 import Bucket

DEFAULT_STORAGE = "results"


@dataclass(frozen=True)
class SweepFolder:
    """Files of one sweep; ``remote`` is their place in S3, None if they are in this folder only.

    Example:
        >>> from pathlib import Path
        >>> SweepFolder(Path("results/digits-20260101-120000")).sweep
        'digits-20260101-120000'
    """

    path: Path
    remote: Bucket | None = None

    @property
    def sweep(self) -> str:
        """Id of the sweep, which is its folder's name."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """File of the plan, in JSON."""
        return self.path / "plan.json"

    @property
    def identity(self) -> Path:
        """File of the place and the identity of this folder."""
        return self.path / "folder.json"

    @property
    def environment(self) -> Path:
        """File of the packages that were installed at the launch."""
        return self.path / "environment.txt"

    @property
    def events(self) -> Path:
        """First segment of the event log, which names the log; one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def cursor(self) -> Path:
        """File of MLflow's position in the log."""
        return self.path / "tracking.json"

    @property
    def claim(self) -> Path:
        """File of the claim of a confirmation."""
        return self.path / "claim.json"

    @property
    def sync_lock(self) -> Path:
        """Lock file of a ``ravel sync`` that is sending."""
        return self.path / "sync.lock"

    @property
    def locks(self) -> Path:
        """Folder of the lock records."""
        return self.path / "leases"

    @property
    def tune(self) -> Path:
        """Folder of Tune's checkpoints."""
        return self.path / "tune"

    @property
    def uri(self) -> str:
        """Address of the sweep: a folder's path, or ``s3://bucket/prefix/<sweep>``."""
        return str(self.path) if self.remote is None else self.remote.location.uri


def reference(folder: SweepFolder) -> str:
    """Return the arguments that name a sweep in a command; with its storage, unless that is the default."""
    if folder.remote is not None:
        return folder.uri
    storage = folder.path.parent
    return (
        folder.sweep if storage.resolve() == Path(DEFAULT_STORAGE).resolve() else f"{folder.sweep} --storage {storage}"
    )


def named(folder: SweepFolder) -> str:
    """Return the name of a sweep in commands for readers elsewhere: its id, or its whole address in S3."""
    return folder.sweep if folder.remote is None else folder.uri


def require_writable(folder: SweepFolder, *, purpose: str) -> None:
    """Return if this user can write a sweep's folder, and change its name; all commands that only look need neither.

    Raises:
        StorageError: the folder is another user's, or on a disk that can only be read.
    """
    for path in (folder.path, folder.path.parent):
        if not os.access(path, os.W_OK | os.X_OK):
            remedy = f"have its owner do it, or get write access; to look at it: ravel status {reference(folder)}"
            raise StorageError(f"{path}: must be a folder that this user can write, to {purpose}; {remedy}")
