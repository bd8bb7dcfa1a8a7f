"""Worker process: it trains trials of a sweep, one after another or several at a time, as its driver asks.

Requests and replies are JSON: what comes through a connection is data, never an object. A trial is in a *lane*, which a
number names; a worker with one lane has one trial at a time. A request has one of the keys

    begin    a lane; with the configuration of a trial and the folder of its output    reply: begun
    step     lanes, of each of which an epoch is trained                               reply: results
    save     a lane; with the place of a checkpoint                                    reply: saved, its size in bytes
    drop     a lane; with places of checkpoints to delete                              no reply
    end      a lane, whose trial is released                                           no reply
    measure  configurations of trials                                                  reply: measured, see `epoch_s`

Replies to ``begin`` and ``save`` have their ``lane``, and may be an ``error`` instead. So may each of the ``results``.
After an error the driver gives this process no further trial.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from orchestrator.execution.cluster.local_data import with_local_data
from orchestrator.execution.processes.lanes import Lanes, reply_of
from trainables.batched.measurement import epoch_s
from trainables.config.trial import TrialConfig
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
    signal.signal(signal.SIGTERM, work.leave)
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
    """Work in this process, one request after the other."""

    def __init__(self, *, shares_gpu: bool) -> None:
        self._lanes = Lanes(shares_gpu=shares_gpu, print_to=_Output().print_to)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lanes.end_all()

    def leave(self, *_: object) -> None:
        """Have all trials go on elsewhere after their epoch."""
        self._lanes.leave()

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the reply to a request; None if it has none."""
        try:
            return self._answered(request)
        except Exception as error:  # noqa: BLE001  the driver decides what follows
            reply = reply_of(error)
        lanes = [request[key] for key in ("begin", "save", "drop", "end") if key in request]
        return {**reply, "lane": lanes[0]} if lanes else reply

    def _answered(self, request: dict[str, Any]) -> dict[str, Any] | None:
        match request:
            case {"begin": lane, "config": config, "folder": folder}:
                self._lanes.begin(lane, config, Path(folder))
                return {"lane": lane, "begun": True}
            case {"step": lanes}:
                return {"results": self._lanes.step(lanes)}
            case {"save": lane, "place": place}:
                return {"lane": lane, "saved": self._lanes.save(lane, place)}
            case {"drop": lane, "places": places}:
                self._lanes.drop(lane, places)
            case {"end": lane}:
                self._lanes.end(lane)
            case {"measure": configs}:
                return {"measured": measured_epoch_s(configs)}
            case _:
                keys = ", ".join(request)
                raise ValueError(f"request: must be begin, step, save, drop, end or measure, got {keys}")
        return None


class _Output:
    """Output of this process: the file of the attempt for which it works."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def print_to(self, folder: Path) -> None:
        """Have all that is printed from here on go to the file of an attempt."""
        if folder == self._folder:
            return
        self._folder = folder
        folder.mkdir(exist_ok=True)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        descriptor = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number in (1, 2):
            os.dup2(descriptor, number)
        os.close(descriptor)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)


def measured_epoch_s(configs: list[dict[str, Any]]) -> float:
    """Return the seconds of an epoch of trials with these configurations, batched as far as they can be."""
    points = [
        {name: value for name, value in with_local_data(config).items() if not name.startswith("ravel.")}
        for config in configs
    ]
    return epoch_s([TrialConfig.from_point(point) for point in points])


def main() -> None:
    """Be a worker that was started from zero."""
    descriptor = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    run(descriptor, json.loads(sys.argv[1])[1])
