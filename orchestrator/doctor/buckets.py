"""A storage in S3: what the server lets these credentials do, tried below a prefix of its own that is removed."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, skipped, split, warn
from orchestrator.doctor.folders import clock_finding, skew
from orchestrator.errors import StorageError, WrongLocation
from orchestrator.storage.connections import PART_BYTES
from orchestrator.storage.s3 import Bucket, Location, Settings, filesystem
from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = ".ravel-doctor-"
PATIENCE = {"attempts": 2, "connect_timeout_s": 3.0, "read_timeout_s": 10.0}
"""Less than a sweep has: it waits for a server, the doctor says that it is away."""


def bucket_findings(storage: str) -> Iterator[Finding]:
    """Yield the findings on a storage in S3. After a request that fails, only those that may still work are tried."""
    try:
        bucket = _patient(storage)
    except (StorageError, WrongLocation) as error:
        yield fail("address", *split(str(error)))
        return
    except MissingExtraError as error:
        yield fail("library", str(error), "pip install 'ravel-sweeps[s3]'")
        return
    yield ok("server", f"{bucket.settings.endpoint or 'AWS'}, region {bucket.settings.region}")
    try:
        yield from _clock(bucket)
    except StorageError as error:
        yield fail("list", *split(str(error)))
        if not _may_write(error):
            return
    folder = bucket.child(f"{PREFIX}{secrets.token_hex(4)}")
    try:
        for name, check in CHECKS.items():
            try:
                yield check(folder)
            except StorageError as error:
                yield fail(name, *split(str(error)))
                if name == "put":
                    return
    finally:
        with suppress(StorageError):
            folder.delete_prefix()
    yield _removal(folder)


def _patient(storage: str) -> Bucket:
    location = Location.parse(storage)
    return Bucket(location, replace(Settings.from_environment(), **PATIENCE))  # type: ignore[arg-type]


def _may_write(error: StorageError) -> bool:
    """Return True if the right to list is all that may be missing."""
    return "AccessDenied" in str(error)


def _clock(bucket: Bucket) -> Iterator[Finding]:
    before_s = time.time()
    server_s = bucket.server_time().timestamp()  # to the second
    yield ok("list", f"answers after {1000 * (time.time() - before_s):.0f} ms")
    yield clock_finding("its clock", skew(server_s, before_s - 1.0, time.time()))


def _put(folder: Bucket) -> Finding:
    started_s = time.monotonic()
    folder.write("object", b"may be deleted")
    return ok("put", f"takes {1000 * (time.monotonic() - started_s):.0f} ms")


def _get(folder: Bucket) -> Finding:
    content = folder.read("object")
    listed = [one.key for one in folder.list()]
    if content != b"may be deleted" or listed != ["object"]:
        text = f"the object that was written is read as {len(content)} bytes and listed as {listed}"
        return fail("get", text, "use another server: a sweep needs to read and list what was just written")
    return ok("get", "reads and lists what was just written")


def _conditional(folder: Bucket) -> Finding:
    if folder.write("object", b"other", if_absent=True) or folder.read("object") != b"may be deleted":
        text = "an object that exists is written over (If-None-Match is ignored)"
        return fail("conditional put", text, "use another server: two drivers could run one sweep")
    return ok("conditional put", "one driver alone can lock a sweep")


def _multipart(folder: Bucket) -> Finding:
    with tempfile.TemporaryDirectory(prefix="ravel-doctor-") as name:
        path, started_s = Path(name) / "parts", time.monotonic()
        path.write_bytes(os.urandom(PART_BYTES + 1))
        folder.upload(path, "parts")
        seconds = time.monotonic() - started_s
        entry = folder.head("parts")
    if entry is None or entry.size != PART_BYTES + 1:
        return fail("multipart", "a file of two parts does not arrive whole", "use another server, or see its log")
    return ok("multipart", f"8 MiB in two parts take {seconds:.1f} s")


def _checkpoints(folder: Bucket) -> Finding:
    """Try the client of checkpoints, which is pyarrow's, with a chain of credentials of its own."""
    try:
        system, path = filesystem(folder.location, folder.settings)
    except MissingExtraError:
        return skipped("checkpoints", "pyarrow is not installed; it comes with the extra tune")
    try:
        with system.open_output_stream(f"{path}/checkpoint") as stream:
            stream.write(b"may be deleted")
        with system.open_input_stream(f"{path}/checkpoint") as stream:
            content = stream.read()
    except OSError as error:
        reason = str(error).partition("\n")[0][:150]
        fix = 'run eval "$(aws configure export-credentials --format env)": pyarrow knows fewer ways than boto3'
        return fail("checkpoints", f"pyarrow, which writes them, is refused ({reason})", fix)
    if content != b"may be deleted":
        return fail("checkpoints", "pyarrow reads other bytes than it wrote", "use another server, or see its log")
    return ok("checkpoints", "pyarrow writes and reads them")


def _delete(folder: Bucket) -> Finding:
    folder.delete(["object"])
    if folder.head("object") is not None:
        return warn("delete", "a deleted object still exists", "see the bucket's rules: it may be locked")
    return ok("delete", "works")


CHECKS: dict[str, Callable[[Bucket], Finding]] = {
    "put": _put,
    "get": _get,
    "conditional put": _conditional,
    "multipart": _multipart,
    "checkpoints": _checkpoints,
    "delete": _delete,
}
"""Checks of a bucket, by name; they build on each other."""


def _removal(folder: Bucket) -> Finding:
    """Return the finding on what is left below the prefix of the check."""
    try:
        left = sum(1 for _ in folder.list())
    except StorageError as error:
        return warn("clean up", *split(str(error)))
    if left:
        return fail("clean up", f"{left} objects are left below {folder.location.uri}", "delete them by hand")
    return ok("clean up", "nothing of this check is left")
