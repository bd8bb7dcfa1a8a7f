"""Objects in S3, on AWS and on any server with the same protocol. All access to S3 is here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast, final

from orchestrator.errors import ObjectMissing, StorageError
from orchestrator.storage.backoff import pause_s
from orchestrator.storage.connections import (
    Connection,
    Settings,
    client_error,
    cut_errors,
    filesystem,
    storage_errors,
    transfer,
)
from orchestrator.storage.locations import SCHEME, Location
from orchestrator.storage.refusals import code_of, status_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["Bucket", "Location", "Object", "Settings", "filesystem"]

DELETE_BATCH = 1000
READ_BYTES = 1 << 20
TEMPORARY = frozenset({"InternalError", "ServiceUnavailable", "SlowDown"})
BUSY = "ConditionalRequestConflict"
EXISTS = "PreconditionFailed"
RANGE_NOT_SATISFIABLE = 416
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0


@dataclass(frozen=True)
class Object:
    """An object of a listing; `key` is relative to the bucket's location, `etag` without quotes."""

    key: str
    size: int
    etag: str
    modified: datetime


@final
class Bucket:
    """The objects under one location; every key and prefix here is relative to it.

    A prefix names a folder: ``a/b`` is ``a/b/...`` and never ``a/bc``. A bucket can be pickled, and used by several
    threads; each process makes its client at its first request.

    Every method raises StorageError, which names the object, the server's message and the remedy; ObjectMissing, a
    StorageError, if an object to read does not exist.

    Example:
        >>> storage = Bucket(Location("team", "ravel"), Settings(endpoint="http://127.0.0.1:9000"))
        >>> storage.child("digits").uri("plan.json")
        's3://team/ravel/digits/plan.json'
    """

    def __init__(self, location: Location, settings: Settings | None = None) -> None:
        self.location = location
        self.settings = settings or Settings.from_environment()
        self._connection = Connection(self.settings)

    def __repr__(self) -> str:
        return f"Bucket({self.location.uri!r})"

    def child(self, path: str) -> Bucket:
        """Return the bucket at a path below, with the same client."""
        child = Bucket(self.location / path, self.settings)
        child._connection = self._connection
        return child

    def uri(self, key: str = "") -> str:
        """Return the address of an object, for messages."""
        return f"{SCHEME}{self.location.bucket}/{self._full(key)}".rstrip("/")

    def read(self, key: str) -> bytes:
        """Read a whole object."""
        return b"".join(self.stream(key))

    def read_from(self, key: str, start: int) -> bytes:
        """Read an object from byte `start` on; empty if it has no such byte."""
        return b"".join(self.stream(key, start=start))

    def stream(self, key: str, *, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        """Yield an object from byte `start` on, in pieces; after a lost connection, continue at the last byte.

        Args:
            key: Key of the object.
            start: First byte to read.
            etag: Etag of the version to read; by default, the current version.

        Raises:
            ObjectChanged: the object is not, or no longer, the version of that etag.
        """
        failures = 0
        with self._storage_errors("read", key):
            while (answer := self._get(key, start, etag)) is not None:
                etag = answer["ETag"]
                try:
                    for piece in answer["Body"].iter_chunks(READ_BYTES):
                        start, failures = start + len(piece), 0
                        yield piece
                except cut_errors():
                    failures += 1
                    if failures >= self.settings.attempts:
                        raise
                    _pause_after(failures)
                else:
                    return

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Put an object; return False if `if_absent` and it exists, which leaves it as it is.

        If the answer to a first attempt is lost, the server refuses the second attempt because of the first. After such
        a loss, an object with the same content counts as ours. So an object that only one process may create, such as
        a lock record, must name its process.
        """
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        for attempt in range(self.settings.attempts):
            try:
                with self._storage_errors("write", key, unless={BUSY, EXISTS}):
                    self._client.put_object(**self._at(key), Body=data, **condition)
            except client_error() as error:
                if code_of(error) == EXISTS:
                    lost = attempt + error.response["ResponseMetadata"].get("RetryAttempts", 0)
                    return bool(lost) and self._holds(key, data)
                _pause_after(attempt + 1)  # another writer at the same moment: AWS asks for a retry
            else:
                return True
        raise StorageError(f"{self.uri(key)}: cannot write: other writers kept writing it too; try later")

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Yield the objects below a prefix, in the order of their keys, without empty ones that represent folders."""
        skipped = len(self._folder(""))
        for entry in self._pages("Contents", prefix):
            if entry["Size"] or not entry["Key"].endswith("/"):
                yield _object(entry["Key"][skipped:], entry["Size"], entry)

    def list_folders(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the folders directly below a prefix, sorted."""
        skipped = len(self._folder(prefix))
        for entry in self._pages("CommonPrefixes", prefix, Delimiter="/"):
            yield entry["Prefix"][skipped:].rstrip("/")

    def head(self, key: str) -> Object | None:
        """Return an object without its content; None if it does not exist."""
        try:
            with self._storage_errors("inspect", key):
                answer = self._client.head_object(**self._at(key))
        except ObjectMissing:
            return None
        return _object(key, answer["ContentLength"], answer)

    def part_size(self, key: str) -> int | None:
        """Return the size of the parts of an object; None if they are unequal, or if the server does not report it."""
        with self._storage_errors("inspect", key):
            first = self._client.head_object(**self._at(key), PartNumber=1)
            count = first.get("PartsCount", 0)
            if count < 2:
                return None
            last = self._client.head_object(**self._at(key), PartNumber=count)
        size, whole = first["ContentLength"], self.head(key)
        is_even = whole is not None and (count - 1) * size + last["ContentLength"] == whole.size
        return size if is_even else None

    def is_opaque(self, key: str) -> bool:
        """Return True if an object is encrypted by a key of KMS or of a customer, so that its etag is no hash of it."""
        with self._storage_errors("inspect", key):
            answer = self._client.head_object(**self._at(key))
        return answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; an object that does not exist is no error.

        Raises:
            StorageError: also if some could not be deleted: it names the first, and the rest are gone.
        """
        self._delete([self._full(key) for key in keys])

    def delete_prefix(self, prefix: str = "") -> int:
        """Delete all objects below a prefix, and return their number.

        Raises:
            StorageError: also if that would be the whole bucket, which is never deleted.
        """
        if not self._folder(prefix):
            raise StorageError(f"{self.location.uri}: a whole bucket is never deleted; name a prefix")
        keys = [entry["Key"] for entry in self._pages("Contents", prefix)]
        self._delete(keys)
        return len(keys)

    def upload(self, path: Path, key: str) -> None:
        """Upload a file; from 8 MiB on in parts of 8 MiB, four at a time, each with its own retries."""
        with self._storage_errors("write", key), transfer(self._client) as carrier:
            carrier.upload_file(str(path), self.location.bucket, self._full(key))

    def download(self, key: str, path: Path) -> None:
        """Download a file under a temporary name, and rename it when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._storage_errors("read", key), transfer(self._client) as carrier:
            carrier.download_file(self.location.bucket, self._full(key), str(path))

    def server_time(self) -> datetime:
        """Return the server's clock, to the second. It needs the right to list."""
        with self._storage_errors("list", ""):
            answer = self._client.list_objects_v2(Bucket=self.location.bucket, Prefix=self._folder(""), MaxKeys=1)
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)

    @property
    def _client(self) -> Any:
        return self._connection.client()

    def _storage_errors(self, doing: str, key: str, *, unless: Collection[str] = ()) -> AbstractContextManager[None]:
        return storage_errors(doing, self.uri(key), self.settings.endpoint, unless=unless)

    def _full(self, key: str) -> str:
        return "/".join(part for part in (self.location.prefix, key) if part)

    def _folder(self, prefix: str) -> str:
        full = self._full(prefix.rstrip("/"))
        return f"{full}/" if full else ""

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.location.bucket, "Key": self._full(key)}

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.read(key) == data
        except ObjectMissing:
            return False

    def _get(self, key: str, start: int, etag: str | None) -> dict[str, Any] | None:
        """Return the server's answer; None if the object has no byte `start`."""
        version = {"IfMatch": f'"{_bare(etag)}"'} if etag else {}
        part = {"Range": f"bytes={start}-"} if start else {}
        try:
            return cast("dict[str, Any]", self._client.get_object(**self._at(key), **part, **version))
        except client_error() as error:
            if status_of(error) == RANGE_NOT_SATISFIABLE:
                return None
            raise

    def _pages(self, section: str, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        with self._storage_errors("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.location.bucket, Prefix=self._folder(prefix), **more
            )
            for page in pages:
                yield from page.get(section, ())

    def _delete(self, keys: Sequence[str]) -> None:
        """Delete objects by their full keys; temporary failures are retried."""
        failed: dict[str, dict[str, str]] = {}
        for attempt in range(self.settings.attempts):
            failed = {error["Key"]: error for batch in _batches(keys) for error in self._delete_batch(batch)}
            keys = [key for key, error in failed.items() if error.get("Code") in TEMPORARY]
            if not keys:
                break
            _pause_after(attempt + 1)
        if failed:
            key, error = next(iter(failed.items()))
            message = f"{error.get('Code')}: {error.get('Message') or 'no message'}"
            raise StorageError(
                f"{self.location.uri}: cannot delete {len(failed)} objects; the first is {key}: {message}"
            )

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[dict[str, str]]:
        request = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with self._storage_errors("delete", ""):
            answer = self._client.delete_objects(Bucket=self.location.bucket, Delete=request)
        return cast("Sequence[dict[str, str]]", answer.get("Errors", ()))


def _object(key: str, size: int, answer: Mapping[str, Any]) -> Object:
    return Object(key, size, _bare(answer["ETag"]), answer["LastModified"].astimezone(UTC))


def _bare(etag: str) -> str:
    return etag.strip('"')


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + DELETE_BATCH] for start in range(0, len(keys), DELETE_BATCH))


def _pause_after(failures: int) -> None:
    time.sleep(pause_s(failures, shortest_s=SHORTEST_PAUSE_S, longest_s=LONGEST_PAUSE_S))
