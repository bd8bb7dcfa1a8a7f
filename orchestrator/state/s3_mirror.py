"""A sweep in S3 and the folder of this machine that mirrors it.

The driver writes its log to the folder, flushed as everywhere; ``Mirror.push`` brings what is new to S3, segment by
segment, while the sweep runs. Another machine pulls the plan and the log from there, and can report or go on. Segments
only ever grow, so of two copies the longer is the newer.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ObjectMissing
from orchestrator.state.event_log import flush, num_events, segments
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.storage.s3 import Bucket

logger = logging.getLogger(__name__)
LOG = "log"


class Mirror:
    """Brings a sweep's log to S3 as it grows; anything of it may be done twice, and changes nothing then."""

    def __init__(self, folder: SweepFolder, remote: Bucket) -> None:
        self._folder, self._remote = folder, remote
        self._sent: dict[str, int] | None = None
        self._num_sent, self._sent_to = 0, 0

    @property
    def sent_to(self) -> int:
        """The offset of the log up to which S3 has it."""
        return self._sent_to

    @property
    def num_sent(self) -> int:
        """How many events S3 has; 0 until it was first reached."""
        return self._num_sent

    def catch_up(self) -> bool:
        """Send what is new; True when there was something.

        Raises:
            StorageError: S3 refused or could not be reached; the next call sends it again.
        """
        if self._sent is None:
            self._sent = {found.key.rpartition("/")[2]: found.size for found in self._remote.list(LOG)}
        there = segments(self._folder.events)
        new = [segment for segment in there if segment.size > self._sent.get(segment.path.name, 0)]
        if new:
            flush(self._folder.events)
        for segment in new:
            with segment.path.open("rb") as file:
                content = file.read(segment.size)
            whole = content[: content.rfind(b"\n") + 1]
            self._remote.write(f"{LOG}/{segment.path.name}", whole)
            self._sent[segment.path.name] = len(whole)
        if there and (new or not self._sent_to):
            last = there[-1]
            before, self._sent_to = self._sent_to, last.start + self._sent.get(last.path.name, 0)
            self._num_sent += num_events(self._folder.events, before, self._sent_to)
        return bool(new)

    def advance(self) -> bool:
        """Send what is new, all of it: a segment is sent whole. It raises what ``catch_up`` raises."""
        return self.catch_up()


def publish(folder: SweepFolder) -> None:
    """Put the files that never change into S3, before anything runs.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    if folder.remote is not None:
        for path in (folder.environment, folder.plan):  # the plan last: with it, there is a sweep
            if path.exists():
                folder.remote.write(path.name, path.read_bytes())


def pull(folder: SweepFolder) -> bool:
    """Bring this machine's copy of a sweep's plan and log up to date; False where S3 has no such sweep.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    remote = folder.remote
    if remote is None:
        return folder.plan.exists()
    if not folder.plan.exists():
        try:
            plan = remote.read(folder.plan.name)
        except ObjectMissing:
            return False
        with suppress(ObjectMissing):  # of a sweep of before it was written
            write_atomically(folder.environment, remote.read(folder.environment.name))
        write_atomically(folder.plan, plan)
    for found in remote.list(LOG):
        path = folder.path / found.key.rpartition("/")[2]
        if not path.exists() or path.stat().st_size < found.size:
            write_atomically(path, remote.read(found.key))
    return True


def fetch(folder: SweepFolder, path: str) -> Path:
    """A folder of a sweep (a checkpoint) on this machine, brought from S3 where it is not there yet.

    Args:
        folder: of the sweep.
        path: relative to it, as the event log says.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    target = folder.path / path
    if folder.remote is not None and not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".fetching-", dir=target.parent))
        try:
            download_folder(folder.remote.child(path), draft)
            if not target.exists() and any(draft.iterdir()):
                draft.replace(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def download_folder(source: Bucket, target: Path) -> None:
    """Every object below a place, as files.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    for found in source.list():
        source.download(found.key, target / found.key)
