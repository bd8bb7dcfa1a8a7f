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
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import SweepNotFound

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

STAMP = "%Y%m%d-%H%M%S"
STAMP_SUFFIX = re.compile(r"-\d{8}-\d{6}(-\d+)?$")


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
    """A new, empty folder for a sweep called ``name``: ``<name>-<date>-<time>``, unique even within a second."""
    storage.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{now.strftime(STAMP)}"
    for attempt in range(1, 1000):
        path = storage / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return SweepFolder(path)
    raise FileExistsError(f"{storage / stem}: 999 sweeps of this name in one second")


def list_sweeps(storage: Path) -> list[SweepFolder]:
    """Every sweep in a storage folder, oldest plan first."""
    plans = storage.glob("*/plan.json")
    return [
        SweepFolder(plan.parent) for plan in sorted(plans, key=lambda plan: (plan.stat().st_mtime, plan.parent.name))
    ]


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
