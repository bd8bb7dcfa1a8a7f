"""Staging of data sets from S3 to a node: once, verified, and resumed after an interruption.

::

    <cache>/staged/<name>-<hash of the address>.lock        locked by the process that stages
                                               /data/       exactly the objects, at the paths of their keys
                                               /fetched/    files in transfer: complete ones, and *.part
                                               /manifest.json

A call lists the objects and fetches those that are new, changed, or damaged here. When all are complete and verified,
they move into ``data``. The manifest is written last, so a call that fails leaves the files of the previous one as they
were. A file has the time of its object, on every node; another size or time than in the manifest means damage. Do not
change a set while a sweep reads it: processes that read ``data`` hold no lock.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from orchestrator.errors import ObjectChanged, ObjectMissing, StorageError, quoted
from orchestrator.storage.atomic_files import write_atomically
from orchestrator.storage.etags import agrees
from orchestrator.storage.s3 import Bucket, Location, Object, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["FORMAT", "stage"]

logger = logging.getLogger(__name__)

FORMAT: Literal[1] = 1
FILES_AT_A_TIME = 8
LISTINGS = 3
LOG_INTERVAL_S = 10.0
UNSAFE = re.compile(r"[\\\x00-\x1f\x7f]")


class StagedFile(BaseModel):
    """One object as it was staged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    etag: str
    mtime_ns: int

    @property
    def on_disk(self) -> tuple[int, int]:
        """Size and time of its file."""
        return self.size, self.mtime_ns

    def holds_as(self, other: StagedFile) -> bool:
        """Return True if both have the same content: a second upload of it changes the time only."""
        return (self.size, self.etag) == (other.size, other.etag)


class StagingManifest(BaseModel):
    """Content of ``data``; `files` by key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    uri: str
    files: dict[str, StagedFile]


def stage(uri: str, cache: Path, settings: Settings | None = None) -> Path:
    """Stage the objects below `uri`, and return the folder of this node that holds exactly these.

    One process stages, and any other waits for it. A file is verified by its size, and by MD5 if the etag holds one:
    for an object written in one piece, or in equal parts whose size the server reports. Objects encrypted with a key of
    KMS have etags that are no hash; they, and objects of unequal parts, are verified by size.

    Args:
        uri: Address, ``s3://bucket/prefix``.
        cache: Folder of this machine for prepared data, on a local disk.
        settings: Settings of the connection; by default, those of the environment.

    Raises:
        WrongLocation: the address breaks the grammar.
        StorageError: no object, a key cannot be a file here, the disk is full or cannot be written, S3
            refused, or the content disagrees with the etag.
    """
    bucket = Bucket(Location.parse(uri), settings)
    place = _place(bucket, cache)
    with _writing(place):
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f"{place.name}.lock")):
            for attempt in range(1, LISTINGS + 1):
                try:
                    return _stage_listed(bucket, place, _listed(bucket))
                except (ObjectChanged, ObjectMissing):
                    logger.info("%s: changed while it was staged; listing it once more (%d)", uri, attempt)
    raise StorageError(f"{uri}: must not change while it is staged; wait until it is complete, then retry")


def _stage_listed(bucket: Bucket, place: Path, listed: Mapping[str, StagedFile]) -> Path:
    data, fetched = place / "data", place / "fetched"
    staged, present = _manifest(place), _regular_files(data)
    kept = {
        key: staged[key]
        for key, file in listed.items()
        if key in staged and staged[key].holds_as(file) and present.get(_path(data, key)) == staged[key].on_disk
    }
    missing = {key: file for key, file in listed.items() if key not in kept}
    if missing:
        _fetch_all(bucket, missing, fetched)
    _clear(data, {_path(data, key) for key in listed})
    for key, file in missing.items():
        _path(data, key).parent.mkdir(parents=True, exist_ok=True)
        (fetched / _name(key, file)).replace(_path(data, key))
    files = {key: kept.get(key, file) for key, file in listed.items()}
    if files != staged:
        write_atomically(
            place / "manifest.json", StagingManifest(uri=bucket.location.uri, files=files).model_dump_json()
        )
    shutil.rmtree(fetched, ignore_errors=True)
    return data


def _listed(bucket: Bucket) -> dict[str, StagedFile]:
    """Return the objects by key; each can be a file, and at least one exists."""
    files = {listed.key: _file(listed) for listed in bucket.list()}
    if not files and bucket.location.prefix and bucket.head("") is not None:
        folder = bucket.location.uri.rpartition("/")[0]
        raise StorageError(f"{bucket.location.uri}: must be a prefix of objects, got one object; name {folder}")
    if not files:
        remedy = "upload the data set there (aws s3 sync FOLDER URI), or correct the address"
        raise StorageError(f"{bucket.location.uri}: no object below this prefix; {remedy}")
    for key in files:
        parts = key.split("/")
        if any(part in {"", ".", ".."} for part in parts) or UNSAFE.search(key) or Path(key).is_absolute():
            raise StorageError(
                f"{bucket.uri(key)}: the key {quoted(key)} must be the path of a file below a folder; rename the object"
            )
        above = next((folder for n in range(1, len(parts)) if (folder := "/".join(parts[:n])) in files), None)
        if above is not None:
            raise StorageError(
                f"{bucket.uri(key)}: {quoted(above)} is an object too, and cannot be a folder; rename one"
            )
    return files


def _file(listed: Object) -> StagedFile:
    return StagedFile(size=listed.size, etag=listed.etag, mtime_ns=int(listed.modified.timestamp()) * 10**9)


def _fetch_all(bucket: Bucket, missing: Mapping[str, StagedFile], folder: Path) -> None:
    """Fetch every missing file into a folder of its own, complete and verified."""
    folder.mkdir(parents=True, exist_ok=True)
    _drop_stale(folder, {_name(key, file) for key, file in missing.items()})
    size = sum(file.size for file in missing.values())
    fetched = sum(path.stat().st_size for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if size - fetched > free:
        remedy = "make room, or name another folder in data.cache or RAVEL_CACHE"
        raise StorageError(
            f"{folder}: needs {_gib(size - fetched)} for {bucket.location.uri}, {_gib(free)} are free; {remedy}"
        )
    logger.info("%s: staging %d files, %s", bucket.location.uri, len(missing), _gib(size))
    with ThreadPoolExecutor(FILES_AT_A_TIME, thread_name_prefix="ravel-staging") as pool:
        stopped = threading.Event()
        futures = [pool.submit(_fetch, bucket, key, file, folder, stopped) for key, file in missing.items()]
        try:
            _log_progress(bucket, (future.result() for future in as_completed(futures)), len(missing))
        except BaseException:
            stopped.set()  # running transfers end at their next piece, where the next call continues
            pool.shutdown(cancel_futures=True)
            raise


def _log_progress(bucket: Bucket, sizes: Iterable[int], count: int) -> None:
    size, logged_s = 0, time.monotonic()
    for done, size_of_file in enumerate(sizes, start=1):
        size += size_of_file
        if done == count or time.monotonic() - logged_s >= LOG_INTERVAL_S:
            logged_s = time.monotonic()
            logger.info("%s: staged %d of %d files, %s", bucket.location.uri, done, count, _gib(size))


def _fetch(bucket: Bucket, key: str, file: StagedFile, folder: Path, stopped: threading.Event) -> int:
    """Fetch one file, from the end of a cut attempt; retry once if the content disagrees with the etag."""
    done = folder / _name(key, file)
    part = done.with_name(f"{done.name}.part")
    for _ in range(2):
        if not done.exists() and _append(bucket, key, file, part, stopped):
            os.utime(part, ns=(file.mtime_ns, file.mtime_ns))
            part.replace(done)
        if done.exists() or stopped.is_set():
            return file.size
        part.unlink()
    raise StorageError(f"{bucket.uri(key)}: its content disagreed twice with its etag {file.etag}; upload it once more")


def _append(bucket: Bucket, key: str, file: StagedFile, part: Path, stopped: threading.Event) -> bool:
    """Fetch the rest of a file; return True if it then agrees with its etag."""
    start = part.stat().st_size if part.exists() else 0
    with part.open("ab") as output:
        if start < file.size:
            for piece in bucket.stream(key, start=start, etag=file.etag):
                output.write(piece)
                if stopped.is_set():
                    return False
        output.flush()
        os.fsync(output.fileno())
    return part.stat().st_size == file.size and agrees(part, file.etag, bucket, key)


def _regular_files(data: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of the files in a folder, without following links."""
    stats = {Path(parent, name): Path(parent, name).lstat() for parent, _, names in os.walk(data) for name in names}
    return {path: (file.st_size, file.st_mtime_ns) for path, file in stats.items() if stat.S_ISREG(file.st_mode)}


def _manifest(place: Path) -> dict[str, StagedFile]:
    path = place / "manifest.json"
    try:
        return StagingManifest.model_validate_json(path.read_bytes()).files
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logger.warning("%s: cannot be read, so everything is staged from the start: %s", path, error)
        return {}


def _clear(data: Path, needed: set[Path]) -> None:
    """Remove everything from the folder except the needed files, and everything at the path of one."""
    for parent, folders, files in os.walk(data, topdown=False):
        for name in files:
            if Path(parent, name) not in needed:
                Path(parent, name).unlink()
        for folder in (Path(parent, name) for name in folders):
            if folder.is_symlink():
                folder.unlink()
            elif folder in needed:
                shutil.rmtree(folder)
            elif not any(folder.iterdir()):
                folder.rmdir()


def _drop_stale(folder: Path, needed: set[str]) -> None:
    for path in folder.iterdir():
        if path.name.removesuffix(".part") not in needed:
            path.unlink()


def _path(data: Path, key: str) -> Path:
    return data.joinpath(*key.split("/"))


def _name(key: str, file: StagedFile) -> str:
    """Return the name of a file in transfer; each version of an object has its own."""
    return hashlib.blake2b(f"{file.etag} {file.size} {file.mtime_ns} {key}".encode(), digest_size=16).hexdigest()


def _place(bucket: Bucket, cache: Path) -> Path:
    """Return the folder of a set. Equal addresses at two servers are two sets."""
    name = (bucket.location.prefix or bucket.location.bucket).rpartition("/")[2]
    address = f"{bucket.settings.endpoint or ''} {bucket.location.uri}"
    digest = hashlib.blake2b(address.encode(), digest_size=8).hexdigest()
    return cache / "staged" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:64]}-{digest}"


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "repair it, or name another folder in data.cache or RAVEL_CACHE"
        raise StorageError(f"{place}: cannot be written: {error}; {remedy}") from error


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
