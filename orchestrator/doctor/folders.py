"""A storage that is a folder: what its file system can do, tried in a folder of its own that is removed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, skipped, warn
from orchestrator.doctor.machine import nearest
from orchestrator.storage.atomic_files import UNSUPPORTED, create_exclusively, flush_folder, write_atomically
from orchestrator.storage.locations import expanded, variable_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = ".ravel-doctor-"
SLOW_FLUSH_S = 0.25
"""Seconds: the driver flushes its log at the end of each epoch of each trial."""
SKEW_S = 5.0
OTHER_FOLDER = "choose another folder (storage.uri)"
REASONS = {
    errno.ENOSPC: "free some space on its disk, or choose another folder (storage.uri)",
    errno.EDQUOT: "free some of your quota, or choose another folder (storage.uri)",
    errno.EROFS: "mount it for writing, or choose another folder (storage.uri)",
    errno.EACCES: "give yourself the right to write to it, or choose another folder (storage.uri)",
    errno.EPERM: "give yourself the right to write to it, or choose another folder (storage.uri)",
    errno.ENOTDIR: "a part of its path is a file; choose another folder (storage.uri)",
    errno.ESTALE: "mount the file server once more",
}


def folder_findings(storage: str) -> Iterator[Finding]:
    """Yield the findings on a storage folder. One that is still to come is not made: its parent is tried."""
    if problem := variable_problem(storage):
        yield fail("folder", f"{storage} {problem.partition(': ')[0]}", problem.partition(": ")[2])
        return
    folder = expanded(storage).absolute()
    place = nearest(folder)
    later = "" if place == folder else " (a launch makes it)"
    try:
        trial = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    except OSError as error:
        yield fail("write", f"{folder}{later}: {reason_of(error)}", fix_of(error))
        return
    try:
        yield ok("folder", f"{folder}{later}")
        for name, check in CHECKS.items():
            try:
                yield check(trial)
            except OSError as error:
                yield fail(name, f"{folder}: {reason_of(error)}", fix_of(error))
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    yield removal_finding(trial)


def reason_of(error: OSError) -> str:
    """Return an error of a file system in words.

    >>> reason_of(OSError(28, "")), reason_of(TimeoutError("slow"))
    ('No space left on device', 'slow')
    """
    return os.strerror(error.errno) if error.errno else str(error)


def fix_of(error: OSError) -> str:
    """Return what to do about an error of a file system."""
    return REASONS.get(error.errno or 0, OTHER_FOLDER)


def _write(folder: Path) -> Finding:
    content, path, started_s = os.urandom(1 << 20), folder / "written", time.monotonic()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    flush_folder(folder)
    flush_s = time.monotonic() - started_s
    if path.read_bytes() != content:
        return fail("write", "what is read is not what was written", OTHER_FOLDER)
    text = f"1 MB is on disk after {1000 * flush_s:.0f} ms"
    if flush_s > SLOW_FLUSH_S:
        return warn(
            "write", f"{text}, which every epoch of every trial waits for", "choose a faster disk (storage.uri)"
        )
    return ok("write", text)


def _rename(folder: Path) -> Finding:
    path = folder / "renamed"
    write_atomically(path, "old")
    write_atomically(path, "new")
    if path.read_text(encoding="utf-8") != "new":
        return fail("rename", "a renamed file does not replace the old one", OTHER_FOLDER)
    return ok("rename", "replaces a file in one step")


def _hard_links(folder: Path) -> Finding:
    draft, path = folder / "draft", folder / "linked"
    draft.touch()
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return ok("hard links", "not on this file system; lock records are created exclusively instead")
    return ok("hard links", "work")


def _exclusive(folder: Path) -> Finding:
    path = folder / "record"
    if not create_exclusively(path, b"first") or create_exclusively(path, b"second"):
        fix = "choose another file system: two drivers could run one sweep"
        return fail("exclusive creation", "a file that exists is created once more", fix)
    return ok("exclusive creation", "one process alone creates a lock record")


def _locks(folder: Path) -> Finding:
    try:
        import fcntl  # noqa: PLC0415  not on Windows
    except ImportError:
        return skipped("file locks", "this system has none")
    with (folder / "locked").open("wb") as first, (folder / "locked").open("rb") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            fix = "mount it with locks (NFS: nolock off), or run `ravel sync` of one sweep once at a time"
            return warn("file locks", f"refused ({reason_of(error)})", fix)
        with suppress(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fix = "mount it with locks, or run `ravel sync` of one sweep once at a time"
            return warn("file locks", "two processes get the same one", fix)
    return ok("file locks", "work")


def _clock(folder: Path) -> Finding:
    before_s = time.time()
    path = folder / "clock"
    path.touch()
    return clock_finding("its clock", skew(path.stat().st_mtime, before_s - 1.0, time.time()))


CHECKS: dict[str, Callable[[Path], Finding]] = {
    "write": _write,
    "rename": _rename,
    "hard links": _hard_links,
    "exclusive creation": _exclusive,
    "file locks": _locks,
    "its clock": _clock,
}
"""Checks of a file system, by name: each gets an empty folder."""


def removal_finding(folder: Path) -> Finding:
    """Return the finding on the removal of what was written."""
    if folder.exists():
        return fail(
            "delete", f"{folder} cannot be removed", "give yourself the right to delete in its folder, and remove it"
        )
    return ok("delete", "nothing of this check is left")


def skew(clock_s: float, before_s: float, after_s: float) -> float:
    """Return by how much a clock is wrong at least, if it was read between two times of this machine.

    >>> skew(10.5, 10.0, 11.0), skew(4.0, 10.0, 11.0), skew(71.0, 10.0, 11.0)
    (0.0, -6.0, 60.0)
    """
    return min(0.0, clock_s - before_s) or max(0.0, clock_s - after_s)


def clock_finding(name: str, skew_s: float) -> Finding:
    """Return the finding on another machine's clock.

    >>> print(clock_finding("its clock", -1200.0))
    warn its clock: 1200 s behind this machine's; set both by NTP (timedatectl set-ntp true)
    """
    if abs(skew_s) <= SKEW_S:
        return ok(name, f"agrees with this machine's within {SKEW_S:g} s")
    text = f"{abs(skew_s):.0f} s {'behind' if skew_s < 0 else 'ahead of'} this machine's"
    return warn(name, text, "set both by NTP (timedatectl set-ntp true)")
