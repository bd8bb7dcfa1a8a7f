"""Lock records of a sweep: files in its folder, or objects in S3."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.state.stray_files import leave_out
from orchestrator.storage.atomic_files import UNSUPPORTED, create_exclusively, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orchestrator.storage.s3 import Bucket

RECORD = re.compile(r"\d{6,}\.json")
SETTLE_S = 1.5
"""Time that a server of S3 may take until all writers of the same moment see the same object."""


@dataclass(frozen=True)
class Holder:
    """Process that holds a lock.

    Args:
        host: Name of its host.
        pid: Its process number.
        started: Its start in clock ticks since boot, which differs for a later process of the same number.
        token: Random text that no other holder has.
        released: True once the lock is released.
        machine: Boot and namespace of its process number; empty in old records, and if unknown.
    """

    host: str
    pid: int
    started: str | None
    token: str = ""
    released: bool = False
    machine: str = ""

    def as_json(self) -> bytes:
        """Return the holder as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Holder:
        """Read a holder from JSON.

        Raises:
            TypeError, ValueError: it is not the JSON of a holder.
        """
        holder = cls(**json.loads(text))
        texts = (holder.host, holder.token, holder.machine, holder.started or "")
        if not (
            all(isinstance(text, str) for text in texts) and type(holder.pid) is int and type(holder.released) is bool
        ):
            raise TypeError("a field has another type")
        return holder


UNKNOWN = Holder(host="", pid=0, started=None)
"""Holder of a record that cannot be read: like one on another machine, it holds the lock until the record is old."""


@dataclass(frozen=True)
class LockRecord:
    """A lock as other processes see it; ``age_s`` is the time since its last heartbeat."""

    generation: int
    holder: Holder
    age_s: float


class LockRecords(Protocol):
    """Lock records of one sweep."""

    @property
    def place(self) -> str:
        """Place of the records, for messages."""

    def last(self) -> int:
        """Return the newest generation, or 0."""

    def newest(self) -> LockRecord | None:
        """Return the newest record, or None."""

    def create(self, generation: int, holder: Holder) -> bool:
        """Create a record; return False if another process did."""

    def renew(self, generation: int, holder: Holder) -> None:
        """Write a heartbeat of the holder."""

    def write(self, generation: int, holder: Holder) -> None:
        """Replace a record."""


def _name(generation: int) -> str:
    return f"{generation:06d}.json"


def _generations(place: object, names: Iterable[str]) -> Iterator[int]:
    """Yield the generations of lock records; name any other file of the place, and leave it out."""
    for name in names:
        if RECORD.fullmatch(name):
            yield int(name.removesuffix(".json"))
        else:
            leave_out(f"{place}/{name}", "no lock record has such a name")


def _content(path: Path) -> bytes:
    return b"" if path.is_dir() else path.read_bytes()


def _holder(place: object, content: bytes) -> Holder:
    """Return the holder of a record; of one that is being written, or was damaged, an unknown one."""
    try:
        return Holder.from_json(content)
    except (TypeError, ValueError):
        leave_out(str(place), "a lock record without a holder: empty or damaged")
        return UNKNOWN


@dataclass(frozen=True)
class FolderLockRecords:
    """Lock records in a folder that all drivers see. Only one of them can create a record."""

    folder: Path

    @property
    def place(self) -> str:
        """Path of the folder."""
        return str(self.folder)

    def last(self) -> int:
        """Return the newest generation, or 0."""
        return max(_generations(self.folder, (path.name for path in self.folder.glob("*.json"))), default=0)

    def newest(self) -> LockRecord | None:
        """Return the newest record, or None."""
        generation = self.last()
        if not generation:
            return None
        path = self.folder / _name(generation)
        return LockRecord(generation, _holder(path, _content(path)), self._now() - path.stat().st_mtime)

    def create(self, generation: int, holder: Holder) -> bool:
        """Create a record; return False if another process did."""
        return create_exclusively(self.folder / _name(generation), holder.as_json())

    def renew(self, generation: int, holder: Holder) -> None:
        """Write a heartbeat of the holder."""
        try:
            os.utime(self.folder / _name(generation))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.write(generation, holder)

    def write(self, generation: int, holder: Holder) -> None:
        """Replace a record."""
        if not self.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder))
        write_atomically(self.folder / _name(generation), holder.as_json())

    def _now(self) -> float:
        """Return the time of the folder's clock, which may be a server's; in a read-only folder, this machine's."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".now-") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return time.time()


@dataclass(frozen=True)
class BucketLockRecords:
    """Lock records in S3: objects that are created only if they do not exist.

    Some servers let several writers of the same moment succeed. So a record counts only if it is still the same after
    ``SETTLE_S``.
    """

    bucket: Bucket

    @property
    def place(self) -> str:
        """Address of the prefix."""
        return self.bucket.uri()

    def last(self) -> int:
        """Return the newest generation, or 0."""
        return max(_generations(self.place, (record.key for record in self.bucket.list())), default=0)

    def newest(self) -> LockRecord | None:
        """Return the newest record, or None."""
        records = {record.key: record for record in self.bucket.list()}
        generation = max(_generations(self.place, records), default=0)
        if not generation:
            return None
        newest = records[_name(generation)]
        age_s = (self.bucket.server_time() - newest.modified).total_seconds()
        return LockRecord(generation, _holder(self.bucket.uri(newest.key), self.bucket.read(newest.key)), age_s)

    def create(self, generation: int, holder: Holder) -> bool:
        """Create a record; return False if another process did."""
        if not self.bucket.write(_name(generation), holder.as_json(), if_absent=True):
            return False
        time.sleep(SETTLE_S)
        return self.bucket.read(_name(generation)) == holder.as_json()

    def renew(self, generation: int, holder: Holder) -> None:
        """Write a heartbeat of the holder."""
        self.write(generation, holder)

    def write(self, generation: int, holder: Holder) -> None:
        """Replace a record."""
        self.bucket.write(_name(generation), holder.as_json())
