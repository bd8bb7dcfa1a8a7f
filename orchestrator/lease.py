"""One driver for a sweep: a lease is a file that only one process can create, one for each generation.

A lease ends when it is released, when its process is gone (seen from the same host), or, seen from another host, when
it was not renewed for ``STALE_S``.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import LeaseHeld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.storage import SweepFolder

logger = logging.getLogger(__name__)
RENEW_S = 10.0
STALE_S = 60.0
LEAVE_S = 1.0  # a disk that hangs must not hold back a driver that wants to leave


@dataclass(frozen=True)
class Lease:
    """The right of this process to run a sweep, until ``release``."""

    path: Path
    generation: int

    def renew(self) -> None:
        """Show other hosts that this driver lives."""
        os.utime(self.path)

    def is_lost(self) -> bool:
        """Whether another driver has taken the sweep since: this one was silent for too long."""
        return max(self.path.parent.glob("*.json"), default=self.path) > self.path

    @contextmanager
    def renewing(self, *, on_lost: Callable[[], None]) -> Iterator[None]:
        """Renew beside the work, in a thread that waits for nothing else.

        Args:
            on_lost: called once, from that thread, when another driver has taken the sweep.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_renewing, args=(ended, on_lost), name="ravel-lease", daemon=True)
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
                if not lost:
                    self.renew()
            except OSError as error:
                if not failed:
                    logger.warning("%s: the lease was not renewed (%s); trying again", self.path, error.strerror)
                failed = True
                continue
            failed = False
            if lost and not ended.is_set():
                on_lost()
            if lost:
                return

    def release(self) -> None:
        """Let the next driver in; the generation stays used."""
        _write(self.path.with_suffix(".tmp"), released=True).replace(self.path)


def acquire(folder: SweepFolder) -> Lease:
    """The lease of the next generation.

    Raises:
        LeaseHeld: another driver runs this sweep; says which process on which host.
    """
    folder.leases.mkdir(parents=True, exist_ok=True)
    newest = max(folder.leases.glob("*.json"), default=None)
    if newest is not None:
        _refuse_if_alive(folder.sweep, newest)
    generation = int(newest.stem) + 1 if newest is not None else 1
    path = folder.leases / f"{generation:06d}.json"
    draft = _write(folder.leases / f".{os.getpid()}.draft", released=False)
    try:
        os.link(draft, path)  # creates with its content, or fails: never half a lease
    except FileExistsError:
        raise LeaseHeld(f"{folder.sweep}: another driver took this sweep a moment ago") from None
    finally:
        draft.unlink()
    return Lease(path, generation)


def is_held(folder: SweepFolder) -> bool:
    """Whether a living driver runs the sweep."""
    newest = max(folder.leases.glob("*.json"), default=None)
    return newest is not None and _is_alive(newest, json.loads(newest.read_text(encoding="utf-8")))


def _refuse_if_alive(sweep: str, path: Path) -> None:
    holder = json.loads(path.read_text(encoding="utf-8"))
    if _is_alive(path, holder):
        raise LeaseHeld(
            f"{sweep}: process {holder['pid']} on {holder['host']} runs this sweep; "
            f"stop it first (Ctrl-C there), or watch it with `ravel status {sweep}`"
        )


def _is_alive(path: Path, holder: dict[str, object]) -> bool:
    if holder["released"]:
        return False
    if holder["host"] != socket.gethostname():
        return time.time() - path.stat().st_mtime < STALE_S
    pid = holder["pid"]
    return isinstance(pid, int) and _start_of(pid) is not None and _start_of(pid) == holder["started"]


def _start_of(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: tells a process from a later one of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else fields[18]


def _write(path: Path, *, released: bool) -> Path:
    pid = os.getpid()
    holder = {"host": socket.gethostname(), "pid": pid, "started": _start_of(pid), "released": released}
    path.write_text(json.dumps(holder), encoding="utf-8")
    return path
