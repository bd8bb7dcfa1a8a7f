"""One driver for a sweep: a lease is one more record in the sweep's book of leases, which only one process can make.

A lease ends when it is released, when its process is gone (seen from the same host and its process numbers), or, seen
from elsewhere, when it was not renewed for ``STALE_S``.
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

from orchestrator.errors import StorageError, SweepLocked
from orchestrator.redaction import one_line
from orchestrator.state.lock_records import BucketLockRecords, FolderLockRecords, Holder, LockRecord
from orchestrator.state.sweep_folder import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.state.lock_records import LockRecords
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)
RENEW_S = 10.0
STALE_S = 60.0
LEAVE_S = 1.0  # a disk that hangs must not hold back a driver that wants to leave
RELEASE_S = 5.0  # nor must S3; but a lease that is not released keeps the next driver waiting for longer than this


@dataclass(frozen=True)
class SweepLock:
    """The right of this process to run a sweep, until ``release``."""

    records: LockRecords
    generation: int
    holder: Holder

    def renew(self) -> None:
        """Show other hosts that this driver lives."""
        self.records.renew(self.generation, self.holder)

    def is_lost(self) -> bool:
        """Whether another driver has taken the sweep since: this one was silent for too long."""
        return self.records.last() > self.generation

    @contextmanager
    def renewing(self, *, on_lost: Callable[[], None]) -> Iterator[None]:
        """Renew beside the work, in a thread that waits for nothing else.

        Args:
            on_lost: called once, from that thread, when another driver has taken the sweep.
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
        while not ended.wait(RENEW_S):
            try:
                lost = self.is_lost()
                if not lost and not ended.is_set():
                    self.renew()
            except (OSError, StorageError) as error:
                if not failed:
                    told = getattr(error, "strerror", None) or error
                    logger.warning("%s: the lease was not renewed (%s); trying again", self.records.place, told)
                failed = True
                continue
            failed = False
            if lost and not ended.is_set():
                on_lost()
            if lost:
                return

    def release(self) -> None:
        """Let the next driver in; the generation stays used.

        Never raises, and takes at most ``RELEASE_S``: where the book cannot be written, the lease runs out by itself.
        """
        failures: list[Exception] = []
        thread = threading.Thread(target=self._write_released, args=(failures,), name="ravel-release", daemon=True)
        thread.start()
        thread.join(RELEASE_S)
        if thread.is_alive() or failures:
            told = one_line(failures[0]) if failures else f"no answer within {RELEASE_S:.0f} s"
            later = f"it runs out: a driver on another machine must wait up to {STALE_S:.0f} s"
            logger.warning("%s: the lease was not released (%s); %s", self.records.place, told, later)

    def _write_released(self, failures: list[Exception]) -> None:
        try:
            self.records.write(self.generation, replace(self.holder, released=True))
        except Exception as error:  # noqa: BLE001  whatever it is, it must not mask how the sweep ended
            failures.append(error)


def acquire(folder: SweepFolder) -> SweepLock:
    """The lease of the next generation.

    Raises:
        SweepLocked: another driver runs this sweep; says which process on which host.
        StorageError: S3, where the sweep lies there, does not answer.
    """
    records = _records_of(folder)
    newest = records.newest()
    if newest is not None and _is_alive(newest):
        gone = "" if _is_near(newest.holder) else f"; if it is gone, its lease runs out within {STALE_S:.0f} s"
        raise SweepLocked(
            f"{folder.sweep}: process {newest.holder.pid} on {newest.holder.host} runs this sweep; "
            f"stop it first (Ctrl-C there), or watch it with `ravel status {reference(folder)}`{gone}"
        )
    generation = newest.generation + 1 if newest is not None else 1
    holder = _this_process()
    if not records.create(generation, holder):
        raise SweepLocked(f"{folder.sweep}: another driver took this sweep a moment ago")
    return SweepLock(records, generation, holder)


def is_held(folder: SweepFolder) -> bool:
    """Whether a living driver runs the sweep.

    Raises:
        StorageError: S3, where the sweep lies there, does not answer.
    """
    newest = _records_of(folder).newest()
    return newest is not None and _is_alive(newest)


def _records_of(folder: SweepFolder) -> LockRecords:
    return (
        FolderLockRecords(folder.locks)
        if folder.remote is None
        else BucketLockRecords(folder.remote.child(folder.locks.name))
    )


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
    if not _is_near(holder):
        return record.age_s < STALE_S
    started = _start_of(holder.pid)
    return started is not None and started == holder.started


def _is_near(holder: Holder) -> bool:
    """Whether its process number means something here; a lease of before machines were noted goes by the host."""
    return holder.host == socket.gethostname() and holder.machine in {"", _machine()}


def _machine() -> str:
    """The boot and the namespace that process numbers are of: hosts, and containers, may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: tells a process from a later one of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else fields[18]
