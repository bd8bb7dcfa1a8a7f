"""Worker process: it trains one trial of a sweep after another, as its driver asks.

Requests and replies are JSON: what comes through a connection is data, never an object. A request has one of the keys

    begin   the configuration of a trial, with the folder of its output    reply: begun
    step    train one epoch                                                reply: result
    save    the place of a checkpoint                                      reply: saved, its size in bytes
    drop    places of checkpoints to delete                                no reply

and the reply to any of them may be an ``error``, after which the driver ends this process.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import platform
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from orchestrator.execution.processes.checkpoint_place import CheckpointPlace
from orchestrator.execution.trials.sweep_training import SweepTraining
from orchestrator.execution.trials.worker_error import raised_error
from trainables.engine.worker_process import prepare_process

OUTPUT = "output.txt"
"""File in the folder of an attempt: what its worker printed and logged."""
OOM_SCORE = Path("/proc/self/oom_score_adj")
PR_SET_PDEATHSIG = 1
MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])[0]; "
    "from orchestrator.execution.processes import worker; worker.main()"
)


def run(descriptor: int, settings: dict[str, Any]) -> None:
    """Serve the driver at the other end of a connection until it closes it.

    Args:
        descriptor: of this process's end of the connection.
        settings: ``environment``, variables to set; ``cpus`` of this worker; ``has_gpu``, ``shares_gpu``.
    """
    die_with_parent()
    os.environ.update(settings["environment"])
    prepare_process(cpus=settings["cpus"])
    np.random.seed()  # noqa: NPY002  else each worker would draw what its siblings do
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    work = _Work(shares_gpu=settings["shares_gpu"])
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError), work:
        while True:
            reply = work.answer(json.loads(connection.recv_bytes()))
            if reply is not None:
                connection.send_bytes(json.dumps(reply).encode())


def spawn(descriptor: int, settings: dict[str, Any]) -> int:
    """Start a worker as a new Python, and return its process id."""
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-c", MAIN, json.dumps([sys.path, settings])],
        {**os.environ, **settings["environment"]},
        file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 0)],
        setpgroup=0,
    )


def die_with_parent() -> None:
    """Have this process killed with the fork server, and before the driver where memory runs out; Linux alone can."""
    with suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that
            os._exit(1)
        with suppress(OSError):
            OOM_SCORE.write_text("1000", encoding="ascii")


class _Work:
    """Training in this process, one request after the other."""

    def __init__(self, *, shares_gpu: bool) -> None:
        self._training = SweepTraining()
        self._training.shares_gpu = shares_gpu
        self._training.leave_at_sigterm()
        self._place = CheckpointPlace()
        self._num_steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._training.cleanup()

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the reply to a request; None if it has none."""
        try:
            return self._answered(request)
        except Exception as error:  # noqa: BLE001  the driver decides what follows
            return {"error": raised_error(error, "".join(traceback.format_exception(error)))._asdict()}

    def _answered(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if "begin" in request:
            self._begin(request["begin"], Path(request["folder"]))
            return {"begun": True}
        if "save" in request:
            self._place.store(self._training, request["save"])
            return {"saved": self._training.saved_bytes}
        if "drop" in request:
            self._place.drop(request["drop"])
            return None
        self._num_steps += 1
        identity = {"hostname": platform.node(), "pid": os.getpid(), "iterations_since_restore": self._num_steps}
        return {"result": {**self._training.step(), **identity}}

    def _begin(self, config: dict[str, Any], folder: Path) -> None:
        _print_to(folder)
        self._num_steps = 0
        self._place = CheckpointPlace.of(config)
        self._training.begin(config)


def _print_to(folder: Path) -> None:
    """Have all that is printed from here on go to the file of an attempt."""
    folder.mkdir(exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    descriptor = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)


def main() -> None:
    """Be a worker that was started from zero."""
    descriptor = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    run(descriptor, json.loads(sys.argv[1])[1])
