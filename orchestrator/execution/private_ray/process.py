"""Start and stop the keeper of a private Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import timeouts
from orchestrator.execution.private_ray import folder as folders
from orchestrator.execution.private_ray.bytecode import bytecode_variables
from orchestrator.execution.private_ray.failure import complaint_in, in_one_line
from orchestrator.storage.locations import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEPER = Path(__file__).with_name("keeper.py")
ADDRESS_FILE = "address"
OBJECT_STORE_BYTES = 200_000_000  # trials exchange a few numbers; the default would take a third of the memory
PATIENT = {
    "RAY_health_check_failure_threshold": "1000",  # the GCS would declare its only node dead
    "RAY_agent_register_timeout_ms": "600000",  # the raylet would end after 30 s without its agent for environments
    "RAY_worker_register_timeout_seconds": "600",
}
"""On a busy machine Ray's processes would take each other for dead; the driver's watch tells dead from slow."""
LEAN = {
    "RAY_prestart_worker_first_driver": "0",  # one for each core, and no trial runs in one: Tune's actors start theirs
}
CLOSED = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a machine that joins no cluster: all of Ray listens on the loopback
    "RAY_enable_metrics_collection": "0",  # the port of the metrics asks for no token
}
"""No other machine reaches a private Ray."""
START_S = 180.0  # Ray itself gives up earlier, unless one of its processes hangs
STOP_S = 10.0
POLL_S = 0.05


class RayNotStarted(Exception):
    """A private Ray whose processes have not come up."""


@dataclass(frozen=True)
class PrivateRay:
    """A keeper and the folder of its Ray."""

    folder: Path
    keeper: subprocess.Popen[bytes]

    @property
    def temp_dir(self) -> str:
        """The folder that Ray was given."""
        return str(self.folder / folders.RAY_FOLDER)

    def address(self) -> str:
        """Wait until Ray is up, and return its address.

        Raises:
            RayNotStarted: Ray has given up, or took too long.
        """
        published, deadline = self.folder / ADDRESS_FILE, time.monotonic() + START_S
        while not published.exists():
            if self.keeper.poll() is not None:
                raise RayNotStarted("it has stopped")
            if time.monotonic() > deadline:
                raise RayNotStarted(f"it is not up after {START_S:.0f} s")
            time.sleep(POLL_S)
        return published.read_text(encoding="utf-8")

    def cause(self, error: Exception) -> str:
        """Return what Ray complains about in its logs, else the error."""
        return self.complaint() or in_one_line(f"{type(error).__name__}: {error}")

    def complaint(self) -> str | None:
        """Return the last complaint in Ray's logs, if there is one."""
        return complaint_in(folders.logs_of(self.folder), self.folder / folders.KEEPER_LOG)

    def keep_logs(self) -> Path | None:
        """Copy the logs to where they outlive this Ray."""
        return folders.keep_logs(self.folder)


@contextmanager
def starting(cpus: int) -> Iterator[PrivateRay]:
    """Start Ray in a session of its own; at the end stop it and remove its folder.

    It starts while the caller goes on; ``PrivateRay.address`` waits for it. The environment holds its token.
    """
    with folders.owned_folder() as folder, (folder / folders.KEEPER_LOG).open("wb") as log:
        temp_dir = str(folder / folders.RAY_FOLDER)
        settings = {"temp_dir": temp_dir, "num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES}
        keeper = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", str(KEEPER), str(folder), json.dumps(settings), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **PATIENT,
                **LEAN,
                **os.environ,
                **bytecode_variables(cache_folder()),
                **CLOSED,
                folders.FOLDER_VARIABLE: str(folder),
            },
        )
        try:
            yield PrivateRay(folder, keeper)
        finally:
            _stop(keeper)


def _stop(keeper: subprocess.Popen[bytes]) -> None:
    if keeper.stdin is not None:
        keeper.stdin.close()
    if not timeouts.waited(lambda seconds: _has_ended(keeper, seconds), STOP_S):
        with suppress(ProcessLookupError):
            os.killpg(keeper.pid, signal.SIGKILL)  # Ray's processes are in its group; the workers follow the raylet
        keeper.wait()


def _has_ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=timeout_s)
    return process.returncode is not None
