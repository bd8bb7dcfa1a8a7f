"""A sweep that was launched by the real command, and the processes of this machine that belong to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweep_evidence import Evidence, events_of

from orchestrator.state.event_log import read_events
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.state.events import Event
    from orchestrator.storage.s3 import Bucket

T = TypeVar("T")

RAVEL = Path(sys.executable).with_name("ravel")
SPEC = """
name: killed
trial: {data.name: digits, model.name: mlp, epochs: 8, batch_size: 64, optimizer.name: sgd}
space: {use: [mixup, snnl], parameters: {optimizer.lr: {float: [1.0e-3, 0.5], log: true}}}
search: {num_trials: 10, seed: 1}
scheduler: {grace_period: auto, budget_fraction: 0.5, audit: 0.3}
"""
LONGEST_S = 600


@dataclass(frozen=True)
class Setting:
    """Where a sweep runs and what it is kept in; by default a private Ray, and everything in the folder of the launch.

    Args:
        spec: Text of the spec, its storage and tracking included.
        arguments: Further arguments of ``ravel launch`` and ``ravel resume``.
        environment: Variables of every command.
        database: Address of MLflow's database; a file in the folder of the launch by default.
        storage: Folder in S3 in which the sweep is kept.
        prefix: Start of every command.
    """

    spec: str = SPEC
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    database: str | None = None
    storage: Bucket | None = None
    prefix: tuple[str, ...] = ()


class Launched:
    """A sweep that was launched in a folder; ``temporary`` holds Ray's folder and marks all its processes."""

    def __init__(self, folder: Path, temporary: Path, setting: Setting | None = None) -> None:
        self.folder, self.temporary = folder, temporary
        self.setting = setting or Setting()
        self._environment = {**os.environ, **self.setting.environment, "TMPDIR": str(temporary)}
        if self.setting.storage is not None:
            self._environment["RAVEL_CACHE"] = str(folder / "cache")
        self._output = folder / "output.txt"
        (folder / "spec.yaml").write_text(self.setting.spec)
        with self._output.open("w") as output:
            command = [*self.setting.prefix, str(RAVEL), "launch", "spec.yaml", *self.setting.arguments]
            self.driver = subprocess.Popen(
                command,
                cwd=folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_heed_signals,  # noqa: PLW1509  no other thread here holds a lock
            )

    @property
    def output(self) -> str:
        """What the driver has printed."""
        return self._output.read_text()

    @property
    def sweep(self) -> SweepFolder | None:
        """Files of the sweep, once there are any."""
        storage = self.setting.storage
        pattern = "results/*/plan.json" if storage is None else "cache/sweeps/*/*/plan.json"
        plans = list(self.folder.glob(pattern))
        if not plans:
            return None
        path = plans[0].parent
        return SweepFolder(path, None if storage is None else storage.child(path.name))

    @property
    def name(self) -> str:
        """Arguments that name the sweep in a command."""
        return self.sweep.sweep if self.sweep.remote is None else self.sweep.uri

    @property
    def events(self) -> tuple:
        """The log so far."""
        sweep = self.sweep
        return events_of(sweep) if sweep is not None else ()

    def processes(self, name: str | None = None) -> list[int]:
        """Return the living processes of the sweep, those of Ray among them; ``name`` is their executable's."""
        return [pid for pid in with_variable(f"TMPDIR={self.temporary}") if name in {None, name_of(pid)}]

    def wait_until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Wait until a condition holds; return False after the timeout."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start another command."""
        return subprocess.Popen(
            [*self.setting.prefix, str(RAVEL), *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ravel(self, *arguments: str) -> tuple[int | None, str]:
        """Run another command to its end; return its exit code, None if it hangs, and what it printed."""
        command = self.start(*arguments)
        try:
            text = command.communicate(timeout=LONGEST_S)[0]
        except subprocess.TimeoutExpired:
            command.kill()
            return None, command.communicate()[0]
        return command.returncode, text

    def next_driver(self) -> tuple[int | None, str]:
        """Resume the sweep to its end, or launch another where none had begun."""
        command = ("launch", "spec.yaml") if self.sweep is None else ("resume", self.name)
        return self.ravel(*command, *self.setting.arguments)

    def evidence(self, before: tuple) -> Evidence:
        """Read what the sweep left."""
        assert self.sweep is not None
        database = self.setting.database or self.folder / "mlflow.db"
        return Evidence.read(self.sweep, database, before=before, temporary=self.temporary)

    def close(self) -> None:
        """End all processes that are left, and remove their folder."""
        for pid in self.processes():
            signal_process(pid, signal.SIGKILL)
        self.driver.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)


def temporary_folder() -> Path:
    """Make a folder for the temporary files of a sweep; the path of Ray's socket in it must be short."""
    return Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))


def _heed_signals() -> None:
    """Undo what tests inherit that run in the background: their driver would ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def log_of(folder: Path) -> list[Event]:
    """Return the events of the one sweep in a folder of a launch."""
    return [event for event, _ in read_events(find_sweep(folder / "results").events)]


def wait_for(
    folder: Path, condition: Callable[[list[Event]], T], *, driver: subprocess.Popen[str], timeout_s: float = 120
) -> T:
    """Wait for a true value of ``condition(events)``, while the driver lives, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert driver.poll() is None, (folder / "output.txt").read_text()
        logs = list(folder.glob("results/*/events.jsonl"))
        value = condition([event for event, _ in read_events(logs[0])]) if logs else None
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError((folder / "output.txt").read_text())


def with_variable(variable: str) -> Iterator[int]:
    """Yield the living processes that were started with a variable in their environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes().split(b"\0") and state_of(int(path.parent.name)) != "Z":
                yield int(path.parent.name)
        except OSError:  # it ended, or is of another user
            continue


def state_of(pid: int) -> str:
    """Return the state of a process as the kernel has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def name_of(pid: int) -> str:
    """Return the name of a process's executable."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def signal_process(pid: int, number: int) -> None:
    """Signal a process, if it is there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
