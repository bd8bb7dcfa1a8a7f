"""Launch of a sweep from Python, in this process or in the background.

In the background the driver is a process of its own, so that a notebook stays usable, and a kernel that is restarted
does not end the sweep: open it once more with ``ravel.open``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from orchestrator.errors import Interrupted, OrchestratorError, PreflightError
from orchestrator.execution.progress import ProgressCallback
from orchestrator.planning.validation import check_spec
from orchestrator.spec.model import SweepSpec
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.storage.locations import is_remote
from ravel.sweep import Sweep

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult
    from orchestrator.execution.progress import LagReport
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder

POLL_S = 0.1
STOP_S = 60.0


class RunningSweep(Sweep):
    """A sweep whose driver runs in the background: a ``Sweep`` that can be waited for and stopped."""

    def __init__(self, folder: SweepFolder, process: subprocess.Popen[bytes], output: Path) -> None:
        super().__init__(folder)
        self._process, self._output = process, output

    @property
    def is_running(self) -> bool:
        """Return True while the driver runs."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """Text that the driver has printed."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout_s: float | None = None) -> SweepResult:
        """Wait until the driver ends, and return the result.

        Raises:
            TimeoutError: it still runs after ``timeout_s``.
            Interrupted: it was stopped; continue with ``ravel.resume``.
            OrchestratorError: it ended with an error.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name}: still runs after {timeout_s} s; wait longer, or stop it") from None
        if code:
            raise _error_of(code, self.output)
        return self.result

    def stop(self) -> None:
        """Stop the sweep, as Ctrl-C does: nothing measured is lost, and ``ravel.resume`` continues it.

        Raises:
            OrchestratorError: the driver still runs after a minute.
        """
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                message = f"process {self._process.pid} was asked to stop and still runs after {STOP_S:.0f} s"
                raise OrchestratorError(f"{self.name}: {message}; see `output`") from None


@overload
def launch(
    spec: SweepSpec,
    *,
    address: str | None = None,
    callback: ProgressCallback | None = None,
    background: Literal[False] = False,
) -> SweepResult: ...


@overload
def launch(
    spec: SweepSpec, *, address: str | None = None, callback: None = None, background: Literal[True]
) -> RunningSweep: ...


def launch(
    spec: SweepSpec, *, address: str | None = None, callback: ProgressCallback | None = None, background: bool = False
) -> SweepResult | RunningSweep:
    """Run a new sweep to its end, or start it in the background.

    Args:
        spec: from ``load_spec``, or made in Python.
        address: ``local`` (start a private Ray), ``auto`` or ``host:port`` (join a running cluster); by default that of
            ``RAY_ADDRESS``, else ``local``.
        callback: notified of each event while the sweep runs in this process.
        background: run the driver as a process of its own, and return as soon as the sweep has begun.

    Raises:
        SpecError: the spec cannot run; nothing was started.
        PreflightError: this machine lacks something that the spec requires; nothing was started.
        Interrupted: Ctrl-C or SIGTERM; continue with ``resume``.

    Example:
        >>> launch(load_spec("examples/digits.yaml"), background=True)  # doctest: +SKIP
        <Sweep digits-20261129-101500-ab12: 0% · 0/32 trials · 2 running · 0/263 planned epochs · 0:00:00>
    """
    if not background:
        from orchestrator import launching  # noqa: PLC0415  imports what a run needs

        return launching.launch(spec, address=address, callback=callback)
    if callback is not None:
        raise ValueError("callback: must be None in the background, where another process notifies; read the sweep")
    check_spec(spec)
    return _started(spec, address=address)


def _started(spec: SweepSpec, *, address: str | None) -> RunningSweep:
    folder = Path(tempfile.mkdtemp(prefix="ravel-launch-"))
    request, began, output = folder / "request.json", folder / "began", folder / "output.txt"
    request.write_text(json.dumps({"spec": spec.document(), "address": address, "began": str(began)}))
    with output.open("wb") as file:
        command = [sys.executable, "-m", "ravel.background", str(request)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)  # noqa: S603  fixed words
    while not began.exists():
        code = process.poll()
        if code is not None and not began.exists():
            raise _error_of(code, output.read_text(encoding="utf-8", errors="replace"))
        time.sleep(POLL_S)
    return RunningSweep(find_sweep("", began.read_text(encoding="utf-8")), process, output)


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
    launching.launch(SweepSpec(**asked["spec"]), address=asked["address"], callback=_Begin(Path(asked["began"])))


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]))
    except OrchestratorError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
