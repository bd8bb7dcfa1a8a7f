"""Lock of a sweep, so that only one driver runs it.

A lock is the newest of the sweep's lock records, which only one process can create. Its generation, one higher than
that of the lock before, is the fencing token: events of an older generation never become part of the sweep.

A lock ends when it is released, or when its process ends. Another machine cannot see that process: for it, the lock
ends ``STALE_S`` after the last heartbeat.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import timeouts
from orchestrator.errors import StorageError, SweepLocked
from orchestrator.redaction import one_line
from orchestrator.state.lock_records import UNKNOWN, BucketLockRecords, FolderLockRecords, Holder, LockRecord
from orchestrator.state.sweep_folder import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.state.lock_records import LockRecords
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)
HEARTBEAT_S = 10.0
STALE_S = 60.0
LEAVE_S = 1.0  # a disk that hangs must not delay the end of a driver
RELEASE_S = 5.0  # nor must S3, but a lock that is not released delays the next driver for longer than this


@dataclass(frozen=True)
class SweepLock:
    """Right of this process to run a sweep, until ``release``."""

    records: LockRecords
    generation: int
    holder: Holder

    def renew(self) -> None:
        """Write a heartbeat, which shows other machines that this driver is alive."""
        self.records.renew(self.generation, self.holder)

    def is_lost(self) -> bool:
        """Return True if another driver has taken the sweep, because this one sent no heartbeat for too long."""
        return self.records.last() > self.generation

    @contextmanager
    def renewing(self, *, on_lost: Callable[[], None]) -> Iterator[None]:
        """Write heartbeats during the work, in a thread that does nothing else.

        Args:
            on_lost: Called once, from that thread, when another driver has taken the sweep.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_renewing, args=(ended, on_lost), name="ravel-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(LEAVE_S)

    def _keep_renewing(self, ended: threading.Event, on_lost: Callable[[], None]) -> None:
        failed = False
        while not ended.wait(HEARTBEAT_S):
            try:
                lost = self.is_lost()
                if not lost and not ended.is_set():
                    self.renew()
            except (OSError, StorageError) as error:
                if not failed:
                    reason = getattr(error, "strerror", None) or error
                    logger.warning("%s: the heartbeat was not written (%s); retrying", self.records.place, reason)
                failed = True
                continue
            failed = False
            if lost and not ended.is_set():
                on_lost()
            if lost:
                return

    def release(self) -> None:
        """Release the lock for the next driver. Its generation is never reused.

        Never raises, and takes at most ``RELEASE_S``: if the record cannot be written, the lock expires by itself.
        """
        failures: list[Exception] = []
        thread = threading.Thread(target=self._write_released, args=(failures,), name="ravel-release", daemon=True)
        thread.start()
        if not timeouts.ends(thread, RELEASE_S) or failures:
            reason = one_line(failures[0]) if failures else f"no answer within {RELEASE_S:.0f} s"
            later = f"it expires: a driver on another machine must wait up to {STALE_S:.0f} s"
            logger.warning("%s: the lock was not released (%s); %s", self.records.place, reason, later)

    def _write_released(self, failures: list[Exception]) -> None:
        try:
            self.records.write(self.generation, replace(self.holder, released=True))
        except Exception as error:  # noqa: BLE001  no error may hide the end of the sweep
            failures.append(error)


def acquire(folder: SweepFolder) -> SweepLock:
    """Acquire the lock of a sweep, in its next generation.

    Raises:
        SweepLocked: another driver runs this sweep; names its process and host.
        StorageError: the lock cannot be written, or the sweep is in S3, which does not answer.
    """
    records = _records_of(folder)
    newest = records.newest()
    if newest is not None and _is_alive(newest):
        gone = "" if _is_local(newest.holder) else f"; if it is gone, its lock expires within {STALE_S:.0f} s"
        holder = newest.holder
        runs = "an unknown process runs" if holder == UNKNOWN else f"process {holder.pid} on {holder.host} runs"
        raise SweepLocked(
            f"{folder.sweep}: {runs} this sweep; "
            f"stop it first (Ctrl-C there), or watch it with `ravel status {reference(folder)}`{gone}"
        )
    generation = newest.generation + 1 if newest is not None else 1
    holder = _this_process()
    if not _create(records, generation, holder):
        raise SweepLocked(f"{folder.sweep}: another driver took this sweep a moment ago")
    return SweepLock(records, generation, holder)


def is_held(folder: SweepFolder) -> bool:
    """Return True if a living driver runs the sweep.

    Raises:
        StorageError: the sweep is in S3, which does not answer.
    """
    return held_generation(folder) is not None


def held_generation(folder: SweepFolder) -> int | None:
    """Return the generation of the living driver that runs the sweep; None if none does.

    Raises:
        StorageError: the sweep is in S3, which does not answer.
    """
    newest = _records_of(folder).newest()
    return newest.generation if newest is not None and _is_alive(newest) else None


def _records_of(folder: SweepFolder) -> LockRecords:
    return (
        FolderLockRecords(folder.locks)
        if folder.remote is None
        else BucketLockRecords(folder.remote.child(folder.locks.name))
    )


def _create(records: LockRecords, generation: int, holder: Holder) -> bool:
    try:
        return records.create(generation, holder)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{records.place}: must be a folder that this process can write, for the lock of the sweep ({reason}); "
            "check its owner, its rights and the room on its disk"
        ) from error


def _this_process() -> Holder:
    pid = os.getpid()
    return Holder(
        host=socket.gethostname(),
        pid=pid,
        started=_start_of(pid),
        token=secrets.token_hex(8),
        machine=_machine(),
    )


def _is_alive(record: LockRecord) -> bool:
    holder = record.holder
    if holder.released:
        return False
    if not _is_local(holder):
        return record.age_s < STALE_S
    started = _start_of(holder.pid)
    return started is not None and started == holder.started


def _is_local(holder: Holder) -> bool:
    """Return True if the holder's process number is one of this machine. Old records name only the host."""
    return holder.host == socket.gethostname() and holder.machine in {"", _machine()}


def _machine() -> str:
    """Return the boot and the namespace of process numbers, as hosts and containers may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """Return a process's start in clock ticks since boot, which differs for a later process of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else fields[18]
