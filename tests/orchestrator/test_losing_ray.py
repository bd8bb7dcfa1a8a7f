"""Ray dies, stalls or is stopped under a driver; and drivers in threads, event loops and twice in a process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator import launch, load_spec
from orchestrator.errors import PreflightError
from orchestrator.execution import ray_watch
from orchestrator.execution.progress import ProgressCallback
from orchestrator.execution.ray_watch import REFUSALS, Server, lost_server, probe
from orchestrator.execution.signals import StopSignals
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.event_store import EventStore, SweepOver
from orchestrator.state.events import AttemptFailed, EpochReported, SweepEnded, TrialEnded
from orchestrator.state.sweep_lock import is_held
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

pytestmark = pytest.mark.timeout(300)
RAVEL = Path(sys.executable).with_name("ravel")
LONG = """
name: long
trial: {data.name: digits, model.name: cnn_bn, epochs: 2000, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 6}
scheduler: {grace_period: 3, reduction_factor: 3}
resources: {max_concurrent: 1}
"""
SHORT = """
name: short
trial: {data.name: digits, model.name: mlp, epochs: 1, optimizer.name: sgd}
space: {use: [mixup]}
search: {num_trials: 2}
resources: {max_concurrent: 1}
"""
LISTENER = """
import signal, socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    signal.pause()
"""


@pytest.fixture
def listener():
    """A process that listens and answers nothing, and its port."""
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as process:
        yield process, Server("listener", "127.0.0.1", int(process.stdout.readline()))
        process.kill()


@pytest.fixture
def hurried(monkeypatch):
    """Probes without the second between them."""
    monkeypatch.setattr(ray_watch, "INTERVAL_S", 0.01)


@pytest.mark.usefixtures("hurried")
def test_a_killed_server_is_lost_and_a_stopped_one_is_not(listener):
    process, server = listener
    process.send_signal(signal.SIGSTOP)
    ended = threading.Event()
    threading.Timer(0.5, ended.set).start()
    assert lost_server((server,), ended) is None  # some fifty probes
    process.send_signal(signal.SIGCONT)
    assert probe(server) == "accepts"
    process.kill()
    process.wait()
    assert lost_server((server,), threading.Event()) == server


@pytest.mark.usefixtures("hurried")
def test_a_server_that_is_back_after_a_refusal_is_not_lost(listener, monkeypatch):
    answers = iter([*["refuses"] * (REFUSALS - 1), "accepts"] * 5)
    ended = threading.Event()

    def answer(_):
        value = next(answers, None)
        if value is None:
            ended.set()
        return value or "accepts"

    monkeypatch.setattr(ray_watch, "probe", answer)
    assert lost_server((listener[1],), ended) is None


def test_a_machine_without_files_left_to_open_says_nothing_about_ray(listener, monkeypatch):
    def fail(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "create_connection", fail)
    assert probe(listener[1]) == "accepts"


def test_nothing_is_appended_after_the_end_of_a_sweep(tmp_path):
    path = tmp_path / "events.jsonl"
    store = EventStore(EventLog(path), SweepState())
    store.append(SweepEnded(time=1.0, status="interrupted"))
    with pytest.raises(SweepOver):
        store.append(SweepEnded(time=2.0, status="failed"))
    store.close()
    assert [event.status for event, _ in read_events(path)] == ["interrupted"]


@pytest.fixture
def stop():
    """Handlers of the signals of this process, which would end it otherwise."""
    signals = StopSignals()
    with signals.installed():
        yield signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_sweep_is_open_interrupts_and_is_a_request_afterwards(number, stop):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    stop.defer()
    signal.raise_signal(number)
    assert stop.inbox.get_nowait().reason == f"the driver was stopped ({number.name})"
    signal.raise_signal(number)
    assert stop.inbox.empty()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts_interrupts_once_it_has_started_and_none_interrupts_the_cleaning(number, stop):
    started = []

    def start():
        with stop.held():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            started.append(number)

    with pytest.raises(KeyboardInterrupt):
        start()
    signal.raise_signal(number)
    assert started == [number]


def test_a_signal_that_is_repeated_while_ray_hangs_interrupts_at_once(stop, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def hang():
        nonlocal now
        with stop.held():
            signal.raise_signal(signal.SIGINT)
            now += 20
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it went on")

    with pytest.raises(KeyboardInterrupt):
        hang()


def test_only_a_later_signal_skips_what_is_left_and_one_sent_twice_does_not(stop, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stop.defer()
    signal.raise_signal(signal.SIGTERM)
    with stop.skippable():
        signal.raise_signal(signal.SIGTERM)  # as `timeout` does
    now += 2
    with pytest.raises(KeyboardInterrupt), stop.skippable():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)  # nothing to skip


def test_the_first_signal_in_what_is_skippable_skips_it(stop):
    stop.defer()
    with pytest.raises(KeyboardInterrupt), stop.skippable():
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_nohup_ignores_stays_ignored_and_all_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals().installed():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert {number: signal.getsignal(number) for number in before} == before
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_second_launch_in_a_process_is_refused_before_anything_starts(tmp_path, monkeypatch):
    class Enough(BaseException):
        """Ends the first launch before it starts Ray."""

    is_open, may_end = threading.Event(), threading.Event()

    class Waits(ProgressCallback):
        def on_connect(self, address):  # noqa: ARG002
            is_open.set()
            may_end.wait(60)
            raise Enough

    def first():
        with pytest.raises(Enough):
            launch(spec, callback=Waits())

    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SHORT)
    spec = load_spec("spec.yaml")
    thread = threading.Thread(target=first)
    thread.start()
    assert is_open.wait(60)
    try:
        with pytest.raises(PreflightError, match="run this one in another process, or when that sweep has ended"):
            launch(spec)
    finally:
        may_end.set()
        thread.join()
    assert not list(tmp_path.glob("results/*"))
    with pytest.raises(Enough):  # the first has left
        launch(spec, callback=Waits())


def test_the_exit_code_survives_a_terminal_that_takes_no_output():
    code = """
from orchestrator.cli import main
from orchestrator.errors import Interrupted
def stopped():
    raise Interrupted("interrupted")
main.app = stopped
main.main()
"""
    with Path("/dev/full").open("w") as gone:
        done = subprocess.run([sys.executable, "-c", code], stdout=gone, stderr=gone, check=False, timeout=60)
    assert done.returncode == 130


class Driver:
    """A sweep started by a user in a terminal of its own, and the parts of its private Ray."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "spec.yaml").write_text(LONG)
        self._mark = f"RAVEL_TEST_MARK={folder}".encode()
        variables = {**os.environ, "RAVEL_TEST_MARK": str(folder)}
        with (folder / "output.txt").open("w") as output:
            self.process = subprocess.Popen(
                [str(RAVEL), "launch", "spec.yaml"],
                cwd=folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=variables,
            )

    @property
    def output(self):
        return (self.folder / "output.txt").read_text()

    @property
    def sweep(self):
        return find_sweep(self.folder / "results")

    @property
    def events(self):
        logs = list(self.folder.glob("results/*/events.jsonl"))
        return [event for event, _ in read_events(logs[0])] if logs else []

    def wait_for_epochs(self, more, timeout_s=180):
        deadline, before = time.monotonic() + timeout_s, self._epochs()
        while self._epochs() < before + more:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def _epochs(self):
        return sum(isinstance(event, EpochReported) for event in self.events)

    def part(self, name):
        """The number of the process of the private Ray whose program has this name, whoever its parent is."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                program = path.read_bytes().partition(b"\0")[0].decode()
                if program.endswith(f"/{name}") and self._mark in path.with_name("environ").read_bytes():
                    return int(path.parent.name)
            except OSError:
                continue
        raise AssertionError(f"no {name}")

    def runs(self):
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


@pytest.fixture
def driver(tmp_path):
    """A sweep that trains, with an epoch in its log."""
    started = Driver(tmp_path)
    try:
        started.wait_for_epochs(1)
        yield started
    finally:
        started.process.terminate()
        started.process.wait(60)


def assert_interrupted(driver, reason):
    """Assert the end of a sweep as every reader finds it: its log, MLflow, the lock, the line that resumes it."""
    state = SweepState(driver.events)
    assert (state.ended.status, bool(re.search(reason, state.ended.reason))) == ("interrupted", True)
    ends = [event for event in driver.events if isinstance(event, TrialEnded) and event.status == "interrupted"]
    assert ends
    assert {end.reason for end in ends} == {state.ended.reason}
    assert not state.with_status("running")
    assert not [event for event in driver.events if isinstance(event, AttemptFailed)]
    statuses = {run.info.status for run in driver.runs()}
    assert "KILLED" in statuses
    assert not statuses & {"RUNNING"}
    assert not is_held(driver.sweep)
    assert driver.output.rstrip().endswith(f"ravel resume {driver.sweep.sweep}")
    assert "Traceback" not in driver.output


@pytest.fixture(scope="module")
def stalled(tmp_path_factory):
    """A sweep whose Ray was stopped for longer than a dead one is waited for, and goes on."""
    started = Driver(tmp_path_factory.mktemp("stalled"))
    try:
        started.wait_for_epochs(1)
        parts = [started.part("gcs_server"), started.part("raylet")]
        for part in parts:
            os.kill(part, signal.SIGSTOP)
        time.sleep(8)
        for part in parts:
            os.kill(part, signal.SIGCONT)
        yield started
    finally:
        started.process.terminate()
        started.process.wait(60)


@pytest.mark.ray
def test_a_stalled_ray_goes_on(stalled):
    """For a dead GCS or raylet, which ends the sweep as interrupted, see tests/kills."""
    stalled.wait_for_epochs(20)
    assert not [event for event in stalled.events if isinstance(event, AttemptFailed | SweepEnded)]


@pytest.mark.ray
def test_a_second_ctrl_c_leaves_sooner_and_with_the_end_of_the_sweep_in_the_log(stalled):
    os.killpg(stalled.process.pid, signal.SIGINT)
    time.sleep(1.2)
    if stalled.process.poll() is None:
        os.killpg(stalled.process.pid, signal.SIGINT)
    assert stalled.process.wait(60) == 130, stalled.output
    state = SweepState(stalled.events)
    assert (state.ended.status, state.ended.reason) == ("interrupted", "the driver was stopped (SIGINT)")
    assert stalled.output.rstrip().endswith(f"ravel resume {stalled.sweep.sweep}")


@pytest.mark.ray
def test_a_terminal_that_closes_ends_the_sweep_as_interrupted(driver):
    driver.process.send_signal(signal.SIGHUP)
    assert driver.process.wait(60) == 130, driver.output
    assert_interrupted(driver, "SIGHUP")


NOTEBOOK = """
import asyncio, json, sys, threading
from pathlib import Path
from orchestrator import launch, load_spec
from orchestrator.errors import SweepLocked
from orchestrator.execution.progress import ProgressCallback
from orchestrator.state import sweep_lock
from orchestrator.state.events import TrialCreated

sweep_lock.HEARTBEAT_S = 0.5
seen = {}

async def main():
    return launch(load_spec("short.yaml")).state.ended.status

class Usurper(ProgressCallback):
    def on_event(self, event):
        if isinstance(event, TrialCreated) and event.trial == "t000":
            (folder,) = Path("results").glob("long-*")
            (newest,) = folder.glob("*/000001.json")
            newest.with_name("000002.json").write_bytes(newest.read_bytes())

def in_a_thread():
    try:
        launch(load_spec("long.yaml"), callback=Usurper())
    except SweepLocked as error:
        seen["thread"] = str(error)

if __name__ == "__main__":
    seen["loop"] = asyncio.run(main())
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    print(json.dumps(seen))
"""


@pytest.mark.ray
def test_launch_works_in_an_event_loop_and_in_a_thread_whose_lost_lock_spares_the_process(tmp_path):
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    (tmp_path / "short.yaml").write_text(SHORT)
    (tmp_path / "long.yaml").write_text(LONG)
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["loop"] == "completed"
    assert "another driver took the sweep over" in seen["thread"]
