"""Mirror of a sweep: its objects in S3, and a folder of this machine.

The driver writes its log to the folder and flushes it. During the sweep, ``Mirror.catch_up`` sends new events to
S3, segment by segment. Another machine pulls the plan and the log from S3, and can report or resume. Segments only
grow, so of two copies the longer one is the newer.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ObjectMissing
from orchestrator.state.log_segments import flush, is_segment, num_events, segments
from orchestrator.state.stray_files import leave_out
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.storage.s3 import Bucket

logger = logging.getLogger(__name__)
LOG = "log"


class Mirror:
    """Sends a sweep's log to S3 as it grows. A second sending of the same events changes nothing."""

    def __init__(self, folder: SweepFolder, remote: Bucket) -> None:
        self._folder, self._remote = folder, remote
        self._sent: dict[str, int] | None = None
        self._num_sent, self._sent_to = 0, 0

    @property
    def sent_to(self) -> int:
        """Offset of the log up to which S3 has it."""
        return self._sent_to

    @property
    def num_sent(self) -> int:
        """Number of events that S3 has; 0 before the first connection."""
        return self._num_sent

    def catch_up(self) -> bool:
        """Send all new events; return True if it sent any.

        Raises:
            StorageError: S3 refused or could not be reached; the next call sends the same events.
        """
        if self._sent is None:
            self._sent = {sent.key.rpartition("/")[2]: sent.size for sent in self._remote.list(LOG)}
        existing = segments(self._folder.events)
        new = [segment for segment in existing if segment.size > self._sent.get(segment.path.name, 0)]
        if new:
            flush(self._folder.events)
        for segment in new:
            with segment.path.open("rb") as file:
                content = file.read(segment.size)
            whole = content[: content.rfind(b"\n") + 1]
            self._remote.write(f"{LOG}/{segment.path.name}", whole)
            self._sent[segment.path.name] = len(whole)
        if existing and (new or not self._sent_to):
            last = existing[-1]
            before, self._sent_to = self._sent_to, last.start + self._sent.get(last.path.name, 0)
            self._num_sent += num_events(self._folder.events, before, self._sent_to)
        return bool(new)

    def advance(self) -> bool:
        """Send all new events, as a segment is sent whole. It raises the errors of ``catch_up``."""
        return self.catch_up()


def publish(folder: SweepFolder) -> None:
    """Upload the files that never change, before anything runs.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    if folder.remote is not None:
        for path in (folder.environment, folder.plan):  # the plan last: a sweep exists once it has one
            if path.exists():
                folder.remote.write(path.name, path.read_bytes())


def pull(folder: SweepFolder) -> bool:
    """Bring this machine's copy of a sweep's plan and log up to date; return False if S3 has no such sweep.

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
        with suppress(ObjectMissing):  # older sweeps have none
            write_atomically(folder.environment, remote.read(folder.environment.name))
        write_atomically(folder.plan, plan)
    for segment in remote.list(LOG):
        path = folder.path / segment.key.rpartition("/")[2]
        if not is_segment(folder.events, path.name):
            leave_out(remote.uri(segment.key), "no part of an event log has such a name")
        elif not path.exists() or path.stat().st_size < segment.size:
            write_atomically(path, remote.read(segment.key))
    return True


def fetch(folder: SweepFolder, path: str) -> Path:
    """Return a folder of a sweep (a checkpoint) on this machine, fetched from S3 if it is missing here.

    Args:
        folder: Folder of the sweep.
        path: Path in that folder, from the event log.

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
    """Download every object below a location, as files.

    Raises:
        StorageError: S3 refused or could not be reached.
    """
    for item in source.list():
        source.download(item.key, target / item.key)
