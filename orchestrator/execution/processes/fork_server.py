"""Fork server: the process that starts a sweep's workers and ends them; it imports torch once for all.

A worker is forked from it, in a process group of its own, so it starts in milliseconds and shares the memory of the
imports. Nothing is forked while a thread runs here, nor for a GPU, whose driver survives no fork: such a worker is a
new Python.

The driver holds the other end of ``control``. Requests and events are lines of JSON:

    {"start": NUMBER, "worker": {...}}      with the worker's end of its connection as a descriptor
    {"kill": NUMBER}                        kill the worker, and what it has started
    {"ready": true}                         workers can be started
    {"ended": NUMBER, "status": STATUS}     a worker has ended, with the status of ``waitpid``

When the driver closes its end, or is dead, all workers are killed. When this process is killed, Linux kills them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections import deque
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.execution.processes import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_READ = 65536
IMPORTED = ("torch._dynamo", "trainables.tasks.classifier.run")
"""Imported before the first worker, beside torch: every optimizer imports the first, most trials the second."""
THREADS = Path("/proc/self/task")
"""Folder with an entry for each thread of this process, on Linux."""


class ForkServer:
    """Workers of one driver, by number."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}
        self._unread, self._descriptors = b"", deque[int]()
        self._wake, self._woken = os.pipe()

    def serve(self) -> None:
        """Start and end workers until the driver is gone, then kill all of them."""
        for end in (self._wake, self._woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            waited: list[socket.socket | int] = [self._control, self._wake]
            while True:
                ready, _, _ = select.select(waited, [], [])
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, LONGEST_READ)
                    self._reap()
                if self._control in ready and not self._answer():
                    return
        finally:
            for number in list(self._pids):
                self._kill(number)

    def _answer(self) -> bool:
        """Carry out the requests that have come; return False if the driver is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, LONGEST_READ, 1)
        if not data:
            return False
        self._descriptors.extend(descriptors)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "kill" in request:
                self._kill(request["kill"])
            else:
                self._start(request["start"], self._descriptors.popleft(), request["worker"])
        return True

    def _start(self, number: int, descriptor: int, settings: dict[str, Any]) -> None:
        forks = not settings["has_gpu"] and can_fork()
        pid = os.fork() if forks else worker.spawn(descriptor, settings)
        if pid == 0:
            self._become(descriptor, settings)
        with contextlib.suppress(OSError):  # the worker has done it
            os.setpgid(pid, pid)
        os.close(descriptor)
        self._pids[number] = pid

    def _become(self, descriptor: int, settings: dict[str, Any]) -> None:
        """Be a worker from here on: release what belongs to the server, and never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake)
            os.close(self._woken)
            for other in self._descriptors:
                os.close(other)
            worker.run(descriptor, settings)
            code = 0
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def _kill(self, number: int) -> None:
        """Kill a worker and what it has started; one that has ended is reaped, so its number is no other process's."""
        if number in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pids[number], signal.SIGKILL)

    def _reap(self) -> None:
        for number, status in list(self._ended()):
            self._kill_group_of(self._pids.pop(number))
            with contextlib.suppress(OSError):  # the driver is gone, as the next read says
                self._control.sendall(json.dumps({"ended": number, "status": status}).encode() + b"\n")

    def _ended(self) -> Iterator[tuple[int, int]]:
        """Yield the workers that have ended, with their statuses."""
        for number, pid in self._pids.items():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                yield number, status

    @staticmethod
    def _kill_group_of(pid: int) -> None:
        """Kill what a worker that has ended has started and left: processes that load data, for example."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def can_fork() -> bool:
    """Return True if a fork of this process is a whole process: Linux, and no thread but this one."""
    return sys.platform == "linux" and len(list(THREADS.iterdir())) == 1


def main() -> None:
    """Serve the driver at the other end of standard input, which then is empty."""
    with socket.socket(fileno=os.dup(0)) as control:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for name in IMPORTED:
            import_module(name)
        control.sendall(b'{"ready": true}\n')
        ForkServer(control).serve()
