"""Lock records of a sweep: files in its folder, or objects in S3."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.storage.s3 import Bucket

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
        """Read a holder from JSON."""
        return cls(**json.loads(text))


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


@dataclass(frozen=True)
class FolderLockRecords:
    """Lock records in a folder that all drivers see. Only one of them can create a link."""

    folder: Path

    @property
    def place(self) -> str:
        """Path of the folder."""
        return str(self.folder)

    def last(self) -> int:
        """Return the newest generation, or 0."""
        return max((int(path.stem) for path in self.folder.glob("*.json")), default=0)

    def newest(self) -> LockRecord | None:
        """Return the newest record, or None."""
        generation = self.last()
        if not generation:
            return None
        path = self.folder / _name(generation)
        return LockRecord(generation, Holder.from_json(path.read_bytes()), self._now() - path.stat().st_mtime)

    def create(self, generation: int, holder: Holder) -> bool:
        """Create a record; return False if another process did."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{holder.token}.draft"  # processes of two machines may have the same number
        draft.write_bytes(holder.as_json())
        try:
            os.link(draft, self.folder / _name(generation))  # atomic: creates the record with its content, or fails
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def renew(self, generation: int, holder: Holder) -> None:  # noqa: ARG002  the file has it already
        """Write a heartbeat of the holder."""
        os.utime(self.folder / _name(generation))

    def write(self, generation: int, holder: Holder) -> None:
        """Replace a record."""
        path = self.folder / _name(generation)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(holder.as_json())
        draft.replace(path)

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
        return max((int(record.key.partition(".")[0]) for record in self.bucket.list()), default=0)

    def newest(self) -> LockRecord | None:
        """Return the newest record, or None."""
        newest = max(self.bucket.list(), key=lambda record: record.key, default=None)
        if newest is None:
            return None
        age_s = (self.bucket.server_time() - newest.modified).total_seconds()
        return LockRecord(int(newest.key.partition(".")[0]), Holder.from_json(self.bucket.read(newest.key)), age_s)

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
