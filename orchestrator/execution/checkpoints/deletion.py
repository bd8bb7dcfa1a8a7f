"""Deletion of the files of dropped checkpoints, on disk and in S3, in a thread of its own.

The log says that a trial's checkpoints are dropped before the first file goes. So a deletion that is broken off leaves
files that no reader counts on, and the next driver deletes them. For a sweep in S3 the line must be in S3 too: another
machine may continue from there.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.redaction import one_line
from orchestrator.state.sweep_folder import reference
from orchestrator.storage.backoff import JITTER, pause_s

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path
    from random import Random

    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState, Trial

logger = logging.getLogger(__name__)
POLL_S = 0.5
BATCH = 100
"""Folders whose objects are deleted by the same requests to S3."""
ATTEMPTS = 4
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
TUNE_PREFIX = "checkpoint_"
"""Beginning of the names of Tune's checkpoint folders; a killed driver has not logged the last one."""


@dataclass(frozen=True)
class AttemptFolder:
    """Folder of one attempt below a sweep's, and the names of checkpoints in it.

    They are those that the log has, and all others in the folder go with them; unless ``is_exact``.
    """

    path: str
    names: frozenset[str]
    is_exact: bool = False

    def holds(self, name: str) -> bool:
        """Return True if a name in the folder is that of a checkpoint to delete."""
        return name in self.names or (not self.is_exact and name.startswith(TUNE_PREFIX))


def dropped_folders(trial: Trial, folder: SweepFolder) -> list[AttemptFolder]:
    """Return the folders whose checkpoints were dropped; a path that leads out of ``tune/`` is named and left out."""
    names: dict[str, set[str]] = {}
    for saved in trial.dropped:
        parts = PurePosixPath(saved.path).parts
        if len(parts) != 3 or parts[0] != folder.tune.name or ".." in parts:
            place = f"{folder.tune.name}/ATTEMPT/"
            logger.warning(
                "%s: %r: must be a folder in %s to be deleted; it is left there", trial.id, saved.path, place
            )
            continue
        names.setdefault("/".join(parts[:2]), set()).add(parts[2])
    return [AttemptFolder(path, frozenset(logged)) for path, logged in names.items()]


def all_dropped(state: SweepState, folder: SweepFolder) -> Iterator[AttemptFolder]:
    """Yield the folders of all checkpoints that were dropped, except those in which a trial has saved others since."""
    for trial in state.trials.values():
        if trial.dropped:
            used = {str(PurePosixPath(saved.path).parent) for saved in trial.checkpoints}
            yield from (attempt for attempt in dropped_folders(trial, folder) if attempt.path not in used)


def delete(folder: SweepFolder, attempts: Iterable[AttemptFolder]) -> None:
    """Delete the checkpoints in folders of attempts; what is gone already is no error.

    Raises:
        OSError: a file cannot be deleted.
        StorageError: S3 refused or could not be reached.
    """
    attempts = list(attempts)
    for attempt in attempts:
        _delete_here(folder.path / attempt.path, attempt)
    remote = folder.remote
    if remote is not None:
        remote.delete(
            f"{attempt.path}/{item.key}"
            for attempt in attempts
            for item in remote.child(attempt.path).list()
            if attempt.holds(item.key.partition("/")[0])
        )


def left_over(folder: SweepFolder, attempts: Collection[AttemptFolder]) -> list[AttemptFolder]:
    """Return the folders that still have dropped checkpoints, by one listing of all.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    by_path = {attempt.path: attempt for attempt in attempts}
    present = {path for path, attempt in by_path.items() if _checkpoints(folder.path / path, attempt)}
    if folder.remote is not None and by_path:
        for item in folder.remote.list(folder.tune.name):
            parts = item.key.split("/")
            attempt = by_path.get("/".join(parts[:2]))
            if attempt is not None and len(parts) > 2 and attempt.holds(parts[2]):
                present.add(attempt.path)
    return [attempt for path, attempt in by_path.items() if path in present]


def _delete_here(path: Path, attempt: AttemptFolder) -> None:
    for entry in _checkpoints(path, attempt):
        if entry.is_dir() and not entry.is_symlink():  # a link may lead anywhere
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def _checkpoints(path: Path, attempt: AttemptFolder) -> list[Path]:
    if path.is_symlink() or not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if attempt.holds(entry.name))


class Deleter:
    """Thread that deletes the checkpoints of folders; it may lag, it never blocks training.

    A folder that cannot be deleted is tried again with growing pauses, then named in a warning and left to the next
    driver.

    Args:
        folder: Files of the sweep.
        num_recorded: Returns the number of events that the next driver will read, wherever it runs.
        is_lost: Returns True if another driver has taken the sweep: nothing is deleted then.
        rng: Source of the jitter after failures.
        shortest_pause_s: Pause after a first failure.
    """

    def __init__(
        self,
        folder: SweepFolder,
        *,
        num_recorded: Callable[[], int],
        is_lost: Callable[[], bool],
        rng: Random = JITTER,
        shortest_pause_s: float = SHORTEST_PAUSE_S,
    ) -> None:
        self._folder, self._num_recorded, self._is_lost = folder, num_recorded, is_lost
        self._rng, self._shortest_pause_s = rng, shortest_pause_s
        self._queue: deque[tuple[int, AttemptFolder]] = deque()
        self._unchecked: list[AttemptFolder] = []
        self._check_after = 0
        self._changed, self._ending, self._deadline = threading.Event(), threading.Event(), math.inf
        self._is_cancelled, self._num_working = False, 0
        self._thread: threading.Thread | None = None

    @property
    def num_left(self) -> int:
        """Number of folders that are yet to be deleted."""
        return len(self._queue) + self._num_working + len(self._unchecked)

    def put(self, attempts: Iterable[AttemptFolder], *, after: int) -> None:
        """Queue folders, to be deleted once so many events are recorded."""
        self._queue.extend((after, attempt) for attempt in attempts)
        self._wake()

    def check(self, attempts: Iterable[AttemptFolder], *, after: int) -> None:
        """Delete what earlier drivers dropped and did not delete, once so many events are recorded."""
        self._check_after, self._unchecked = after, list(attempts)
        if self._unchecked:
            self._wake()

    def finish(self, *, timeout_s: float) -> int:
        """Wait for the rest, as far as it is recorded, and stop; return the number of folders left."""
        self._deadline = time.monotonic() + timeout_s
        self._ending.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self.num_left

    def cancel(self) -> None:
        """Stop after the folders that are being deleted now."""
        self._is_cancelled = True
        self._ending.set()
        self._changed.set()

    def _wake(self) -> None:
        self._changed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ravel-deletion", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._is_cancelled:
            if self._unchecked and self._num_recorded() >= self._check_after:
                self._attempt(self._unchecked, self._check)
                self._unchecked = []
            batch = self._recorded()
            if batch:
                self._num_working = len(batch)
                self._attempt(batch, partial(delete, self._folder, batch))
                self._num_working = 0
            elif self._ending.is_set():
                return
            else:
                self._changed.wait(POLL_S if self._queue or self._unchecked else None)
                self._changed.clear()

    def _check(self) -> None:
        left = left_over(self._folder, self._unchecked)
        self._queue.extend((self._check_after, attempt) for attempt in left)

    def _recorded(self) -> list[AttemptFolder]:
        """Take the next folders from the queue whose line is where the next driver finds it; one if it is on disk."""
        recorded, batch = self._num_recorded(), list[AttemptFolder]()
        limit = 1 if self._folder.remote is None else BATCH
        while self._queue and self._queue[0][0] <= recorded and len(batch) < limit:
            batch.append(self._queue.popleft()[1])
        return batch

    def _attempt(self, attempts: list[AttemptFolder], work: Callable[[], None]) -> None:
        """Delete, and repeat after a failure; give up after ``ATTEMPTS``, or at the deadline of the sweep's end."""
        for failures in range(1, ATTEMPTS + 1):
            try:
                if self._is_lost():
                    self.cancel()
                    return
                work()
            except Exception as error:  # noqa: BLE001  a disk or an outage of any kind
                failure = error
            else:
                return
            if time.monotonic() > self._deadline:
                break
            pause = pause_s(failures, shortest_s=self._shortest_pause_s, longest_s=LONGEST_PAUSE_S, rng=self._rng)
            self._ending.wait(pause if failures < ATTEMPTS else 0.0)
        self._warn(attempts, failure)

    def _warn(self, attempts: list[AttemptFolder], error: Exception) -> None:
        more = f" and {len(attempts) - 1} more" if len(attempts) > 1 else ""
        logger.warning(
            "dropped checkpoints were not deleted: %s/%s%s (%s); the next driver tries once more: ravel resume %s",
            self._folder.uri,
            attempts[0].path,
            more,
            one_line(error),
            reference(self._folder),
        )
