"""Where leases are written down: a file each in the sweep's folder, or an object each in S3."""

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
"""How long a server of S3 may need until all who created an object at once see the same one."""


@dataclass(frozen=True)
class Holder:
    """The process that a lease was given to; ``token`` tells it from every other, ``started`` from its namesakes.

    ``machine`` says where its number means it; empty in a lease of before it was written, and where it is not known.
    """

    host: str
    pid: int
    started: str | None
    token: str = ""
    released: bool = False
    machine: str = ""

    def as_json(self) -> bytes:
        """As it is written down."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Holder:
        """As it was written down."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class LockRecord:
    """A lease as others see it; ``age_s`` is how long ago it was renewed."""

    generation: int
    holder: Holder
    age_s: float


class LockRecords(Protocol):
    """The leases of one sweep."""

    @property
    def place(self) -> str:
        """Where it lies, for messages."""

    def last(self) -> int:
        """The newest generation; 0 where there is none."""

    def newest(self) -> LockRecord | None:
        """The newest lease."""

    def create(self, generation: int, holder: Holder) -> bool:
        """Write a new lease down; False if somebody else did."""

    def renew(self, generation: int, holder: Holder) -> None:
        """Note that its holder lives."""

    def write(self, generation: int, holder: Holder) -> None:
        """Replace what is written of a lease."""


def _name(generation: int) -> str:
    return f"{generation:06d}.json"


@dataclass(frozen=True)
class FolderLockRecords:
    """Leases in a folder that all drivers see: a link is made by one of them alone."""

    folder: Path

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def last(self) -> int:
        """The newest generation; 0 where there is none."""
        return max((int(path.stem) for path in self.folder.glob("*.json")), default=0)

    def newest(self) -> LockRecord | None:
        """The newest lease."""
        generation = self.last()
        if not generation:
            return None
        path = self.folder / _name(generation)
        return LockRecord(generation, Holder.from_json(path.read_bytes()), self._now() - path.stat().st_mtime)

    def create(self, generation: int, holder: Holder) -> bool:
        """Write a new lease down; False if somebody else did."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{holder.token}.draft"  # machines that share the folder may share process numbers
        draft.write_bytes(holder.as_json())
        try:
            os.link(draft, self.folder / _name(generation))  # creates with its content, or fails: never half a lease
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def renew(self, generation: int, holder: Holder) -> None:  # noqa: ARG002  the file says it already
        """Note that its holder lives."""
        os.utime(self.folder / _name(generation))

    def write(self, generation: int, holder: Holder) -> None:
        """Replace what is written of a lease."""
        path = self.folder / _name(generation)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(holder.as_json())
        draft.replace(path)

    def _now(self) -> float:
        """The clock that dates the files here, which may be a server's; this machine's where nothing can be written."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".now-") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return time.time()


@dataclass(frozen=True)
class BucketLockRecords:
    """Leases in S3: objects that are only made where there is none.

    Not every server keeps that promise to writers of the same moment, so a lease counts when it is still there after
    they have settled.
    """

    bucket: Bucket

    @property
    def place(self) -> str:
        """The prefix."""
        return self.bucket.uri()

    def last(self) -> int:
        """The newest generation; 0 where there is none."""
        return max((int(found.key.partition(".")[0]) for found in self.bucket.list()), default=0)

    def newest(self) -> LockRecord | None:
        """The newest lease."""
        found = max(self.bucket.list(), key=lambda each: each.key, default=None)
        if found is None:
            return None
        age_s = (self.bucket.server_time() - found.modified).total_seconds()
        return LockRecord(int(found.key.partition(".")[0]), Holder.from_json(self.bucket.read(found.key)), age_s)

    def create(self, generation: int, holder: Holder) -> bool:
        """Write a new lease down; False if somebody else did."""
        if not self.bucket.write(_name(generation), holder.as_json(), if_absent=True):
            return False
        time.sleep(SETTLE_S)
        return self.bucket.read(_name(generation)) == holder.as_json()

    def renew(self, generation: int, holder: Holder) -> None:
        """Note that its holder lives."""
        self.write(generation, holder)

    def write(self, generation: int, holder: Holder) -> None:
        """Replace what is written of a lease."""
        self.bucket.write(_name(generation), holder.as_json())
