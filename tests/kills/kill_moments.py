"""Kills of a running sweep at seeded moments, and what must hold afterwards.

A sweep is launched by the real command, in a process group and with a folder of temporary files of its own. Something
is killed or stopped at a moment that a seed chooses; the driver must end by itself, and say how to continue; the sweep
is resumed to its end. The invariants are checked after each of the two.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweep_invariants import OF_MLFLOW, Evidence, events_of, violations

from orchestrator.errors import OrchestratorError
from orchestrator.state.events import EpochReported, RungDecided, SweepEnded, SweepStarted, TrialPromoted
from orchestrator.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RAVEL = Path(sys.executable).with_name("ravel")
NUM_SEEDS = 15
SPEC = """
name: killed
trial: {data.name: digits, model.name: mlp, epochs: 8, batch_size: 16, optimizer.name: sgd}
space: {use: [mixup, snnl], parameters: {optimizer.lr: {float: [1.0e-3, 0.5], log: true}}}
search: {num_trials: 10, seed: 1}
scheduler: {grace_period: auto, budget_fraction: 0.5, audit: 0.3}
"""
STOPPED_S = 20.0
BEGINS_S, ENDS_S, LEAVES_S = 240.0, 240.0, 30.0
"""Time in which a moment comes, in which a driver ends, and in which its processes do: longer is a hang."""
PLACES = {
    "Ray starts": (None, 1),
    "the sweep starts": (SweepStarted, 1),
    "an epoch": (EpochReported, 35),
    "a rung": (RungDecided, 12),
    "a promotion": (TrialPromoted, 4),
    "the end": (SweepEnded, 1),
}
"""The event of each place, and how many of it every run of the spec has, at least."""
FIRST_PLACE = 2
"""Place of the first seed of the first kind: Ray is killed while trials run."""
INTERRUPTED, RAY_LOST = 130, 3
RAY_EXITS = 1
"""Exit code with which Ray's own code ends a driver whose raylet dies while it registers, before a sweep begins."""


@dataclass(frozen=True)
class Moment:
    """The ``nth`` event of a place, and a part of a second after it; ``pause_s`` is the time between two signals."""

    kind: str
    seed: int
    place: str
    nth: int
    delay_s: float
    pause_s: float

    @classmethod
    def drawn(cls, kind: str, seed: int) -> Moment:
        """Draw a moment; seeds that follow each other take the places in turn."""
        rng = random.Random(f"{kind} {seed}")
        place = list(PLACES)[(seed + FIRST_PLACE + list(KINDS).index(kind)) % len(PLACES)]
        longest_s = 4.0 if place in {"Ray starts", "the sweep starts"} else 0.5
        nth = rng.randint(1, PLACES[place][1])
        return cls(kind, seed, place, nth, rng.uniform(0, longest_s), rng.uniform(0.2, 2.0))


@dataclass
class Outcome:
    """How a sweep ended after a moment: exit codes, seconds from the kill, and all faults.

    Args:
        moment: The moment.
        code: Exit code of the driver.
        recorded_s: Seconds until the end of the sweep was in the log, None if there was no sweep.
        seconds: Seconds until the driver had ended.
        resumed_code: Exit code of the next driver.
        faults: What must not be.
        output: What the driver printed.
    """

    moment: Moment
    code: int | None = None
    recorded_s: float | None = None
    seconds: float = 0.0
    resumed_code: int | None = None
    faults: list[str] = field(default_factory=list)
    output: str = ""


class Launched:
    """A sweep that was launched in a folder; ``temporary`` holds Ray's folder and marks all its processes."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder, self.temporary = folder, temporary
        self._environment = {**os.environ, "TMPDIR": str(temporary)}
        self._output = folder / "output.txt"
        (folder / "spec.yaml").write_text(SPEC)
        with self._output.open("w") as output:
            command = [str(RAVEL), "launch", "spec.yaml"]
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
        plans = list(self.folder.glob("results/*/plan.json"))
        return SweepFolder(plans[0].parent) if plans else None

    @property
    def events(self) -> tuple:
        """The log so far."""
        sweep = self.sweep
        return events_of(sweep) if sweep is not None else ()

    def processes(self, name: str | None = None) -> list[int]:
        """Return the living processes of the sweep, those of Ray among them; ``name`` is their executable's."""
        return [pid for pid in _with_variable(f"TMPDIR={self.temporary}") if name in {None, _name_of(pid)}]

    def wait_until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Wait until a condition holds; return False after the timeout."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def ravel(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command to its end."""
        command = [str(RAVEL), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False, timeout=300
        )

    def evidence(self, before: tuple) -> Evidence:
        """Read what the sweep left."""
        assert self.sweep is not None
        return Evidence.read(self.sweep, self.folder / "mlflow.db", before=before, temporary=self.temporary)

    def close(self) -> None:
        """End all processes that are left, and remove their folder."""
        for pid in self.processes():
            _signal(pid, signal.SIGKILL)
        self.driver.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)


def kill(name: str) -> Callable[[Launched, Moment], None]:
    """Return a kind that kills a process of Ray."""

    def strike(sweep: Launched, _: Moment) -> None:
        for pid in sweep.processes(name):
            _signal(pid, signal.SIGKILL)

    return strike


def terminate_group(sweep: Launched, _: Moment) -> None:
    """Signal the group as coreutils' timeout, Slurm and Kubernetes do."""
    os.killpg(sweep.driver.pid, signal.SIGTERM)


def interrupt_twice(sweep: Launched, moment: Moment) -> None:
    """Signal the group as a terminal does for a user who presses Ctrl-C twice."""
    os.killpg(sweep.driver.pid, signal.SIGINT)
    time.sleep(moment.pause_s)
    if sweep.driver.poll() is None:
        os.killpg(sweep.driver.pid, signal.SIGINT)


def stop_driver(sweep: Launched, _: Moment) -> None:
    """Stop the driver alone for a while."""
    sweep.driver.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    sweep.driver.send_signal(signal.SIGCONT)


def stop_everything(sweep: Launched, _: Moment) -> None:
    """Stop the driver and all processes of Ray for a while, as a frozen container does."""
    pids = sweep.processes()
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    for pid in pids:
        _signal(pid, signal.SIGCONT)


KINDS: dict[str, tuple[Callable[[Launched, Moment], None], int]] = {
    "raylet killed": (kill("raylet"), RAY_LOST),
    "GCS killed": (kill("gcs_server"), RAY_LOST),
    "SIGTERM to the group": (terminate_group, INTERRUPTED),
    "SIGINT twice": (interrupt_twice, INTERRUPTED),
    "driver stopped": (stop_driver, 0),
    "all stopped": (stop_everything, 0),
}
"""What happens at a moment, and the exit code of a sweep that does not complete because of it."""


def run(moment: Moment, folder: Path) -> Outcome:
    """Launch a sweep in an empty folder, strike at a moment, resume, and return what happened and all faults."""
    temporary = Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))  # the path of a socket must be short
    sweep, outcome = Launched(folder, temporary), Outcome(moment)
    try:
        outcome.faults.extend(_faults(sweep, moment, outcome))
    finally:
        outcome.output = sweep.output
        sweep.close()
    return outcome


def _faults(sweep: Launched, moment: Moment, outcome: Outcome) -> Iterator[str]:
    strike, interrupted_code = KINDS[moment.kind]
    if not sweep.wait_until(lambda: _has_come(sweep, moment) or sweep.driver.poll() is not None, BEGINS_S):
        yield "the moment never came"
        return
    time.sleep(moment.delay_s)
    if sweep.driver.poll() is not None and moment.place != "the end":
        yield f"the driver ended with {sweep.driver.poll()} before the moment"
        return
    before, struck_at, clock = sweep.events, time.monotonic(), time.time()
    strike(sweep, moment)
    if not sweep.wait_until(lambda: sweep.driver.poll() is not None, ENDS_S):
        yield f"the driver did not end within {ENDS_S:.0f} s"
        sweep.driver.kill()
    outcome.code, outcome.seconds = sweep.driver.wait(), time.monotonic() - struck_at
    outcome.recorded_s = sweep.events[-1].time - clock if sweep.events else None
    if not sweep.wait_until(lambda: not sweep.processes(), LEAVES_S):
        yield f"{[_name_of(pid) for pid in sweep.processes()]} outlive the driver"
    if "Traceback" in sweep.output:
        yield "the driver printed a traceback"
    yield from _faults_of_end(sweep, outcome.code, interrupted_code)
    yield from _broken(sweep, before, "when the driver had ended", without=OF_MLFLOW if _lags(sweep) else frozenset())
    yield from _faults_of_the_rest(sweep, sweep.events, outcome)


def _has_come(sweep: Launched, moment: Moment) -> bool:
    kind, _ = PLACES[moment.place]
    if kind is None:
        return bool(sweep.processes("raylet"))
    return sum(isinstance(event, kind) for event in sweep.events) >= moment.nth


def _faults_of_end(sweep: Launched, code: int, interrupted_code: int) -> Iterator[str]:
    """The log says that the sweep completed, and the exit code is 0; or it says how to continue, and in the output."""
    folder, events = sweep.sweep, sweep.events
    if folder is None or not events:
        allowed = {interrupted_code, 2, RAY_EXITS} if interrupted_code == RAY_LOST else {interrupted_code}
        if code not in allowed:
            yield f"exit code {code} before a sweep began, not one of {sorted(allowed)}"
        return
    if not isinstance(events[-1], SweepEnded):
        yield f"the log ends in {events[-1].kind}, the exit code is {code}"
    elif events[-1].status == "completed":
        if code != 0:
            yield f"exit code {code} of a completed sweep"
    elif (events[-1].status, code) != ("interrupted", interrupted_code):
        yield f"the sweep is {events[-1].status}, the exit code is {code}, not {interrupted_code}"
    if (code != 0) != (f"ravel resume {folder.sweep}" in sweep.output):
        yield f"exit code {code}, and the output {'names' if code == 0 else 'does not name'} ravel resume"


def _lags(sweep: Launched) -> bool:
    return "MLflow lags" in sweep.output


def _broken(sweep: Launched, before: tuple, when: str, *, without: frozenset[str] = frozenset()) -> Iterator[str]:
    if sweep.sweep is None:
        if sweep.driver.returncode != RAY_EXITS and any(sweep.temporary.glob("ravel-ray-*")):
            yield f"a folder of Ray is left {when}"
        return
    try:
        broken = violations(sweep.evidence(before))
    except OrchestratorError as error:
        yield f"the sweep cannot be read {when}: {error}"
        return
    for name, texts in broken.items():
        if name not in without:
            yield f"{name} {when}: {'; '.join(texts[:3])}"


def _faults_of_the_rest(sweep: Launched, before: tuple, outcome: Outcome) -> Iterator[str]:
    """Resume the sweep to its end, or launch another where none had begun."""
    folder = sweep.sweep
    done = sweep.ravel("launch", "spec.yaml") if folder is None else sweep.ravel("resume", folder.sweep)
    outcome.resumed_code = done.returncode
    if done.returncode != 0:
        yield f"exit code {done.returncode} of the next driver: {(done.stdout + done.stderr)[-600:]}"
    if sweep.sweep is None:
        return
    if not sweep.evidence(()).is_finished:
        yield "the sweep is not finished"
    yield from _broken(sweep, before, "at the end")
    if not sweep.wait_until(lambda: not sweep.processes(), LEAVES_S):
        yield f"{[_name_of(pid) for pid in sweep.processes()]} outlive the last driver"


def _heed_signals() -> None:
    """Undo what tests inherit that run in the background: their driver would ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _with_variable(variable: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes().split(b"\0") and _state_of(int(path.parent.name)) != "Z":
                yield int(path.parent.name)
        except OSError:  # it ended, or is of another user
            continue


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
