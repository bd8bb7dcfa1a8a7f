"""Orphaned checkpoints: a worker wrote them, and its driver was killed before the log had them. No event names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.execution.checkpoints.deletion import TUNE_PREFIX, AttemptFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState

QUIET_S = 3600.0
"""Age from which a checkpoint is no longer being written: a worker waits ten minutes at most for its storage."""


@dataclass(frozen=True)
class Orphans:
    """Orphaned checkpoints of a sweep: the folders of attempts that hold them, their number and their size."""

    attempts: tuple[AttemptFolder, ...]
    num_bytes: int

    @property
    def count(self) -> int:
        """Number of checkpoints."""
        return sum(len(attempt.names) for attempt in self.attempts)


@dataclass(frozen=True)
class _File:
    """File of a checkpoint, or the folder itself; its time is in seconds since 1970."""

    attempt: str
    checkpoint: str
    size: int
    modified: float


def orphans(state: SweepState, folder: SweepFolder, *, now: float) -> Orphans:
    """Find the checkpoints in folders of a sweep's trials that no event names, and that were not written lately.

    The caller holds the lock of the sweep, or its driver has ended: no other worker may be writing a checkpoint whose
    event is still to come.

    Raises:
        OSError: a folder cannot be read.
        StorageError: S3 refused or could not be reached.
    """
    events = [saved for trial in state.trials.values() for saved in (*trial.checkpoints, *trial.dropped)]
    named = {PurePosixPath(saved.path).parts[-2:] for saved in events}
    size: dict[tuple[str, str], int] = {}
    written: dict[tuple[str, str], float] = {}
    for file in (*_files_here(folder), *_files_in_s3(folder)):
        key = file.attempt, file.checkpoint
        if key not in named and file.attempt.partition("-")[0] in state.trials:
            size[key] = size.get(key, 0) + file.size
            written[key] = max(written.get(key, 0.0), file.modified)
    names: dict[str, set[str]] = {}
    quiet = [key for key, modified in written.items() if modified <= now - QUIET_S]
    for attempt, checkpoint in quiet:
        names.setdefault(attempt, set()).add(checkpoint)
    attempts = (
        AttemptFolder(f"{folder.tune.name}/{attempt}", frozenset(some), is_exact=True)
        for attempt, some in sorted(names.items())
    )
    return Orphans(tuple(attempts), sum(size[key] for key in quiet))


def _files_here(folder: SweepFolder) -> Iterator[_File]:
    """Yield the files of checkpoints on disk; no link is followed."""
    if folder.tune.is_symlink():
        return
    for checkpoint in sorted(folder.tune.glob(f"*/{TUNE_PREFIX}*")):
        attempt = checkpoint.parent
        if attempt.is_symlink() or checkpoint.is_symlink() or not checkpoint.is_dir():
            continue
        for path in (checkpoint, *checkpoint.rglob("*")):
            facts = path.lstat()
            yield _File(attempt.name, checkpoint.name, 0 if path.is_dir() else facts.st_size, facts.st_mtime)


def _files_in_s3(folder: SweepFolder) -> Iterator[_File]:
    if folder.remote is None:
        return
    for item in folder.remote.list(folder.tune.name):
        parts = item.key.split("/")
        if len(parts) > 3 and parts[2].startswith(TUNE_PREFIX):
            yield _File(parts[1], parts[2], item.size, item.modified.timestamp())
