"""Driver in the background: a process of its own, so that a notebook stays usable.

A kernel that is restarted does not end the sweep: open it once more with ``ravel.open``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Interrupted, OrchestratorError, PreflightError
from orchestrator.execution.progress import ProgressCallback
from orchestrator.planning.plan import Parent
from orchestrator.spec.model import SweepSpec
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.storage.locations import is_remote

if TYPE_CHECKING:
    from orchestrator.execution.progress import LagReport
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder

POLL_S = 0.1


@dataclass(frozen=True)
class DriverProcess:
    """Process that drives a sweep, and the file of what it prints."""

    folder: SweepFolder
    process: subprocess.Popen[bytes]
    output_file: Path

    @classmethod
    def start(cls, spec: SweepSpec, *, address: str | None, parent: Parent | None = None) -> DriverProcess:
        """Start the driver of a new sweep, and return when the sweep has begun; ``parent`` is the lineage of a fork.

        Raises:
            OrchestratorError: it ended before.
        """
        folder = Path(tempfile.mkdtemp(prefix="ravel-launch-"))
        request, began, output = folder / "request.json", folder / "began", folder / "output.txt"
        document = {"spec": spec.document(), "address": address, "began": str(began)}
        request.write_text(json.dumps({**document, "parent": parent and parent.model_dump()}))
        with output.open("wb") as file:
            command = [sys.executable, "-m", "ravel.background", str(request)]
            process = subprocess.Popen(  # noqa: S603  fixed words
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        while not began.exists():
            code = process.poll()
            if code is not None and not began.exists():
                raise _error_of(code, output.read_text(encoding="utf-8", errors="replace"))
            time.sleep(POLL_S)
        return cls(find_sweep("", began.read_text(encoding="utf-8")), process, output)

    @property
    def is_running(self) -> bool:
        """Return True while the process runs."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """Text that it has printed."""
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the process ends.

        Raises:
            TimeoutError: it still runs after ``timeout_s``.
            OrchestratorError: it ended with an error.
        """
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            message = f"still runs after {timeout_s} s; wait longer, or stop it"
            raise TimeoutError(f"{self.folder.sweep}: {message}") from None
        if code:
            raise _error_of(code, self.output)


def _error_of(code: int, output: str) -> OrchestratorError:
    """Return the error that a driver ended with."""
    lines = [line.removeprefix("error: ") for line in output.splitlines() if line.strip()]
    text = "\n".join(lines[-20:]) or f"the driver ended with exit code {code}"
    if code == Interrupted.exit_code:
        return Interrupted(lines[-1] if lines else text)
    return PreflightError([text]) if code == PreflightError.exit_code else OrchestratorError(text)


class _Begin(ProgressCallback):
    """Progress callback that writes where the sweep is, once it has begun."""

    def __init__(self, began: Path) -> None:
        self._began = began

    def on_start(self, plan: SweepPlan, store: EventStore, lag_report: LagReport) -> None:  # noqa: ARG002
        """Write the address of the sweep, whole or not at all."""
        unfinished = self._began.with_suffix(".part")
        storage = plan.spec.storage.uri
        place = storage.rstrip("/") if is_remote(storage) else str(Path(storage).expanduser().resolve())
        unfinished.write_text(f"{place}/{plan.sweep}", encoding="utf-8")
        unfinished.replace(self._began)


def _main(request: Path) -> None:
    from orchestrator import launching  # noqa: PLC0415

    asked = json.loads(request.read_text(encoding="utf-8"))
    parent = asked["parent"] and Parent.model_validate_json(json.dumps(asked["parent"]))
    callback = _Begin(Path(asked["began"]))
    launching.launch(SweepSpec(**asked["spec"]), address=asked["address"], callback=callback, parent=parent)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]))
    except OrchestratorError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
