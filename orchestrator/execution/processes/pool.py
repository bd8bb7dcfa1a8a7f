"""Worker processes as their driver sees them: start one, send it a request, read what it replied, kill it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeAlias

from orchestrator.errors import PreflightError
from orchestrator.execution.trials.worker_error import KILLED, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.execution.processes.slots import Slot

MAIN = (
    "import sys; sys.path.append(sys.argv[1]); from orchestrator.execution.processes import fork_server as s; s.main()"
)
ROOT = Path(__file__).parents[3]
"""Folder of this package, from which the server imports it where it is not installed."""
STOP_S, RELEASE_S = 5.0, 3.0
LAST_LINES = 3
LONGEST_READ = 65536


@dataclass(frozen=True)
class Worker:
    """A worker process in its slot."""

    number: int
    slot: Slot
    connection: Connection

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request; a worker that is gone is reported by the pool."""
        with suppress(OSError):
            self.connection.send_bytes(json.dumps(request).encode())


@dataclass(frozen=True)
class Lost:
    """End of a worker's process: killed, or crashed; ``is_own`` unless it ended with the server of all workers."""

    error: WorkerError
    is_own: bool = True


Message: TypeAlias = "dict[str, Any] | Lost"


class WorkerPool:
    """Worker processes of one driver, started by a fork server.

    The server starts with the pool, and imports torch while the driver goes on. It and its workers are out of reach of
    the signals of a terminal, and end with this process, however it ends.

    Args:
        cpus: of a worker.
        environ: variables of the driver.
    """

    def __init__(self, *, cpus: float, environ: Mapping[str, str]) -> None:
        self._cpus = cpus
        threads = {"OMP_NUM_THREADS": str(max(1, int(cpus))), "OPENBLAS_NUM_THREADS": "1"}
        self._environ = {**threads, **environ}
        self._count = 0
        self._workers: dict[int, Worker] = {}
        self._selector = selectors.DefaultSelector()
        """Connections that are open: each is registered once, so that a message costs the same among any number."""
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Wait until workers can be started.

        Raises:
            PreflightError: they cannot be started on this machine.
        """
        while not self._is_ready:
            if self._receive() is None:
                raise self._failure()

    def start(self, slot: Slot) -> Worker:
        """Start a worker in a slot; if it does not come up, its loss is a message."""
        self._count += 1
        ours, theirs = socket.socketpair()
        settings = {
            "environment": slot.environment,
            "cpus": self._cpus,
            "has_gpu": slot.gpu is not None,
            "shares_gpu": slot.shares_gpu,
        }
        with theirs, suppress(OSError):  # the server was killed, as the next messages say
            socket.send_fds(self._control, [_line({"start": self._count, "worker": settings})], [theirs.fileno()])
        worker = Worker(self._count, slot, Connection(ours.detach()))
        self._workers[worker.number] = worker
        self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """Kill a worker, and what it has started; its loss is a message."""
        with suppress(OSError):  # the server is gone, and the workers with it
            self._control.sendall(_line({"kill": worker.number}))

    def discard(self, worker: Worker) -> None:
        """Kill a worker of which no message is awaited."""
        if self._workers.pop(worker.number, None) is not None:
            self.kill(worker)
            self._disconnect(worker)

    def messages(self, *, timeout_s: float) -> Iterator[tuple[Worker, Message]]:
        """Wait for messages, for a limited time, and yield those that are there, each with its worker.

        Raises:
            PreflightError: no further worker can be started on this machine.
        """
        ready = [key.data for key, _ in self._selector.select(timeout_s)]
        for worker in ready:
            if worker is not None and not worker.connection.closed:
                yield from self._replies(worker)
        if None in ready:
            yield from self._losses()

    def release(self, busy: Iterable[Worker]) -> None:
        """End all workers: those that are busy at once, the others by themselves, for a short while."""
        for worker in busy:
            self.discard(worker)
        for worker in self._workers.values():
            self._disconnect(worker)
        deadline = time.monotonic() + RELEASE_S
        while self._workers and (left_s := deadline - time.monotonic()) > 0:
            if self._control in wait([self._control], left_s) and (ended := self._receive()) is not None:
                for number, _ in ended:
                    self._workers.pop(number, None)
            else:
                break
        for worker in list(self._workers.values()):
            self.discard(worker)

    def close(self) -> None:
        """End the server, and with it all workers."""
        self._selector.close()
        self._control.close()
        try:
            self._server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        for worker in self._workers.values():
            worker.connection.close()
        self._errors.close()

    def _launch(self) -> None:
        self._control, theirs = socket.socketpair()
        self._selector.register(self._control, selectors.EVENT_READ)
        self._unread, self._is_ready = b"", False
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the server runs
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", MAIN, str(ROOT)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,
                env=self._environ,
            )

    def _failure(self) -> PreflightError:
        """Return the error of a server that ended by itself."""
        self._server.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        complaint = "; ".join(line.strip() for line in lines[-LAST_LINES:]) or f"exit code {self._server.returncode}"
        return PreflightError([f"--address processes: workers cannot be started on this machine ({complaint})"])

    def _receive(self) -> list[tuple[int, int]] | None:
        """Read what the server has sent, and return the workers that ended, with their statuses; None if it is gone."""
        try:
            data = self._control.recv(LONGEST_READ)
        except ConnectionError:
            data = b""
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        events = [json.loads(line) for line in lines]
        self._is_ready = self._is_ready or any("ready" in event for event in events)
        return [(event["ended"], event["status"]) for event in events if "ended" in event]

    def _replies(self, worker: Worker) -> Iterator[tuple[Worker, Message]]:
        """Yield a reply; the end of a connection says nothing: the server reports the end of the process."""
        try:
            yield worker, json.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._disconnect(worker)

    def _disconnect(self, worker: Worker) -> None:
        if not worker.connection.closed:
            self._selector.unregister(worker.connection)
            worker.connection.close()

    def _losses(self) -> Iterator[tuple[Worker, Message]]:
        """Yield the workers whose process has ended; all of them if the server is gone, in whose place is a new one."""
        ended: Iterable[tuple[int, int | None]] | None = self._receive()
        if ended is None:
            if self._server.wait() >= 0:  # it failed, and another one would
                raise self._failure()
            self._selector.unregister(self._control)
            self._control.close()
            self._errors.close()
            self._launch()
            ended = [(number, None) for number in self._workers]
        for number, status in ended:
            if number in self._workers:
                yield from self._lost(self._workers[number], status)

    def _lost(self, worker: Worker, status: int | None) -> Iterator[tuple[Worker, Message]]:
        """Yield what a worker replied before it ended, then its loss, unless it was discarded for what it replied."""
        while not worker.connection.closed and wait([worker.connection], 0):
            yield from self._replies(worker)
        if self._workers.pop(worker.number, None) is not None:
            yield worker, Lost(WorkerError("infrastructure", reason_of(status), None), is_own=status is not None)


def _line(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def reason_of(status: int | None) -> str:
    """Return one line about the end of a worker; ``status`` is that of ``waitpid``, None if it is not known.

    >>> [reason_of(status).partition(";")[0] for status in (9, None)]
    ['SIGKILL: its worker was killed or crashed', 'its worker was killed or crashed']
    """
    if status is None:
        return KILLED
    if os.WIFSIGNALED(status):
        return f"{signal.Signals(os.WTERMSIG(status)).name}: {KILLED}"
    return f"exit code {os.waitstatus_to_exitcode(status)}: {KILLED}"
