"""Where sweeps live on disk: one folder each, and the few files in it.

::

    <storage>/<sweep>/plan.json        written once, before anything runs
                      events.jsonl     the event log: the source of truth
                      tracking.json    how far MLflow has followed the log
                      leases/          one file for each driver that ever ran the sweep
                      tune/            checkpoints, one folder for each trial and attempt
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import SweepNotFound

if TYPE_CHECKING:
    from datetime import datetime

STAMP = "%Y%m%d-%H%M%S"
STAMP_SUFFIX = re.compile(r"-\d{8}-\d{6}(-[0-9a-f]{4})?$")
DEFAULT_STORAGE = "results"


@dataclass(frozen=True)
class SweepFolder:
    """The files of one sweep.

    Example:
        >>> from pathlib import Path
        >>> SweepFolder(Path("results/digits-20260101-120000")).sweep
        'digits-20260101-120000'
    """

    path: Path

    @property
    def sweep(self) -> str:
        """The sweep's id, which is its folder's name."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """The plan, as JSON."""
        return self.path / "plan.json"

    @property
    def events(self) -> Path:
        """The event log, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def cursor(self) -> Path:
        """How far MLflow has followed the log."""
        return self.path / "tracking.json"

    @property
    def leases(self) -> Path:
        """The folder of leases."""
        return self.path / "leases"

    @property
    def tune(self) -> Path:
        """The folder Tune writes checkpoints under."""
        return self.path / "tune"


def create_folder(storage: Path, name: str, *, now: datetime) -> SweepFolder:
    """A new, empty folder for a sweep called ``name``: ``<name>-<date>-<time>-<four random digits>``.

    The random part keeps sweeps apart that start in the same second on different machines and share an MLflow.
    """
    path = storage / f"{name}-{now.strftime(STAMP)}-{secrets.token_hex(2)}"
    path.mkdir(parents=True)
    return SweepFolder(path)


def list_sweeps(storage: Path) -> list[SweepFolder]:
    """Every sweep in a storage folder, oldest first."""
    folders = [SweepFolder(plan.parent) for plan in storage.glob("*/plan.json")]
    return sorted(folders, key=lambda folder: (_stamp_of(folder), folder.sweep))


def find_sweep(storage: Path, sweep: str | None = None) -> SweepFolder:
    """The sweep of that id; given a bare name, its latest sweep; given nothing, the latest of all.

    Raises:
        SweepNotFound: names the storage and what is there.
    """
    folders = list_sweeps(storage)
    exact = [folder for folder in folders if folder.sweep == sweep]
    named = [folder for folder in folders if sweep is None or _name_of(folder) == sweep]
    found = exact or named
    if found:
        return found[-1]
    there = ", ".join(folder.sweep for folder in folders[-5:]) or "none"
    wanted = f"no sweep {sweep!r}" if sweep else "no sweep"
    raise SweepNotFound(f"{storage}: {wanted} here (latest: {there}); give --storage DIR, or see `ravel list`")


def reference(folder: SweepFolder) -> str:
    """A sweep as a command of a person in the working directory names it: with its storage where that is elsewhere."""
    storage = folder.path.parent
    return (
        folder.sweep if storage.resolve() == Path(DEFAULT_STORAGE).resolve() else f"{folder.sweep} --storage {storage}"
    )


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _name_of(folder: SweepFolder) -> str:
    return STAMP_SUFFIX.sub("", folder.sweep)


def _stamp_of(folder: SweepFolder) -> str:
    found = STAMP_SUFFIX.search(folder.sweep)
    return found.group() if found else ""
