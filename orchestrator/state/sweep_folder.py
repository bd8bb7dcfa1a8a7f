"""One sweep's files.

::

    <storage>/<sweep>/plan.json        written once, before anything runs
                      environment.txt  the installed packages, as pip would pin them
                      events*.jsonl    the event log: the source of truth
                      tracking.json    how far MLflow has followed the log
                      sync.lock        held by the ``ravel sync`` that sends, while others wait
                      leases/          one file for each driver that ever ran the sweep
                      tune/            checkpoints, one folder for each trial and attempt

A sweep in S3 has the same objects under its prefix (the log under ``log/``), and a folder of this machine that mirrors
them: the driver writes there, and what it wrote follows to S3 (``orchestrator.state.s3_mirror``). Only checkpoints go
to S3 straight from the workers. The folder can be lost: it is made again from S3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.storage.s3 import Bucket

DEFAULT_STORAGE = "results"


@dataclass(frozen=True)
class SweepFolder:
    """The files of one sweep; ``remote`` is where they are kept, null where they are kept in this folder.

    Example:
        >>> from pathlib import Path
        >>> SweepFolder(Path("results/digits-20260101-120000")).sweep
        'digits-20260101-120000'
    """

    path: Path
    remote: Bucket | None = None

    @property
    def sweep(self) -> str:
        """The sweep's id, which is its folder's name."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """The plan, as JSON."""
        return self.path / "plan.json"

    @property
    def environment(self) -> Path:
        """The packages that were installed where the sweep was launched."""
        return self.path / "environment.txt"

    @property
    def events(self) -> Path:
        """The event log's first segment, which names the log; one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def cursor(self) -> Path:
        """How far MLflow has followed the log."""
        return self.path / "tracking.json"

    @property
    def sync_lock(self) -> Path:
        """Held while ``ravel sync`` sends."""
        return self.path / "sync.lock"

    @property
    def locks(self) -> Path:
        """The folder of leases."""
        return self.path / "leases"

    @property
    def tune(self) -> Path:
        """The folder Tune writes checkpoints under."""
        return self.path / "tune"

    @property
    def uri(self) -> str:
        """Where the sweep is kept: a folder's path, or ``s3://bucket/prefix/<sweep>``."""
        return str(self.path) if self.remote is None else self.remote.location.uri


def reference(folder: SweepFolder) -> str:
    """A sweep as a command of a person in the working directory names it: with its storage where that is elsewhere."""
    if folder.remote is not None:
        return folder.uri
    storage = folder.path.parent
    return (
        folder.sweep if storage.resolve() == Path(DEFAULT_STORAGE).resolve() else f"{folder.sweep} --storage {storage}"
    )
