"""Export to MLflow during an outage: nothing is lost, nothing is twice, and training never waits.

``RAVEL_OUTAGE_S`` says how long each outage lasts: a few seconds by default, longer on request.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress

import pytest
from commands import ravel, running
from waiting import until

from orchestrator.execution import exporters
from orchestrator.execution.exporters import Exporter
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.event_log import EventLog, read_events
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.log_segments import num_events
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.tracker import Tracker

OUTAGE_S = float(os.environ.get("RAVEL_OUTAGE_S", "3"))
PACE_S = 0.05
TRIALS_AT_ONCE, EPOCHS, RUNG = 4, 20, 5
PATIENCE_S = OUTAGE_S + 60
DISK_MB = 24
STATUSES = {"completed": "FINISHED", "stopped": "FINISHED"}
TINY = """
name: tiny
trial: {data.name: digits, model.name: mlp, epochs: 8, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 24}
scheduler: {grace_period: 2, reduction_factor: 3}
resources: {max_concurrent: 1}
"""
LONGEST_REST_S = 1.0
"""Rest of an exporter after its work: up to half a minute otherwise, for which a test only waits."""
# A minute is long for a test.
IMPATIENT = f"""
from orchestrator.cli.main import main
from orchestrator.execution import driver, exporters
driver.FLUSH_S, exporters.MAX_WAIT_S = 2, {LONGEST_REST_S}
main()
"""

pytestmark = pytest.mark.timeout(4 * PATIENCE_S)


class GrowingSweep(threading.Thread):
    """Appends the events of a sweep at a pace, as a driver does, until ``end``; every trial is then over."""

    def __init__(self, log):
        super().__init__(name="growing")
        self.longest_append_s = 0.0
        self._log, self._ending = log, threading.Event()
        self.start()

    def run(self):
        for event in self._events():
            began = time.monotonic()
            self._log.append(event)
            self.longest_append_s = max(self.longest_append_s, time.monotonic() - began)
            self._ending.wait(PACE_S)

    def end(self):
        self._ending.set()
        self.join()

    def _events(self):
        yield SweepStarted(time=time.time(), generation=1, host="here", pid=1)
        workers = deque(self._trials(first) for first in range(TRIALS_AT_ONCE))
        while workers:
            event = next(workers[0], None)
            if event is None:
                workers.popleft()
            else:
                yield event
                workers.rotate(-1)
        yield SweepEnded(time=time.time(), status="completed")

    def _trials(self, first):
        """One trial after the other; every second one is stopped."""
        for index in itertools.count(first, TRIALS_AT_ONCE):
            if self._ending.is_set():
                return
            trial, last = f"t{index:03d}", EPOCHS if index % 2 == 0 else RUNG
            config = {"epochs": EPOCHS, "snnl.weight": index / 8, "data.name": "digits"}
            yield TrialCreated(time=time.time(), trial=trial, origin="search", point={}, config=config)
            yield AttemptStarted(time=time.time(), trial=trial, attempt=1)
            for epoch in range(1, last + 1):
                metrics = {"val/accuracy": index + epoch / 100, "train/loss": 1 / epoch, "val/nll": None}
                yield EpochReported(
                    time=time.time(), trial=trial, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics
                )
            ended = {"status": "completed"} if last == EPOCHS else {"status": "stopped", "rung": RUNG}
            yield TrialEnded(time=time.time(), trial=trial, **ended)


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch):
    monkeypatch.setattr(exporters, "MAX_WAIT_S", LONGEST_REST_S)


def planned(root, uri):
    folder = SweepFolder(root / "results" / "outage-20260101-000000")
    folder.path.mkdir(parents=True)
    spec = parse_spec(f"name: outage\ntrial: {{epochs: {EPOCHS}}}\ntracking: {{uri: '{uri}'}}")
    plan = make_plan(spec, folder, slots=TRIALS_AT_ONCE, now=5.0, working_directory=root)
    plan.save(folder)
    return plan, folder


@contextmanager
def followed(plan, folder):
    """A growing sweep and what follows it; over, one way or the other, afterwards."""
    exporter = Exporter(Tracker(plan, folder))
    with EventLog(folder.events) as log:
        sweep = GrowingSweep(log)
        try:
            exporter.start()
            until(lambda: exporter.num_sent >= 40, said=lambda: exporter.error)
            yield sweep, exporter
        finally:
            sweep.end()
            exporter.stop(timeout_s=PATIENCE_S)


def be_away(exporter, folder):
    """An outage: as long as it was asked for, and until it was noticed."""
    before = num_events(folder.events)
    time.sleep(OUTAGE_S)
    until(lambda: exporter.error is not None)
    assert num_events(folder.events) >= before + OUTAGE_S / PACE_S / 4  # training went on
    assert exporter.num_sent < num_events(folder.events)


@pytest.fixture
def messages(caplog, capfd):
    """`messages()`: the log so far; MLflow, whose logger writes to stderr by itself, prints no traceback."""

    def logged():
        assert "Traceback" not in capfd.readouterr().err
        return [record.getMessage() for record in caplog.records]

    return logged


def assert_caught_up(plan, folder, sweep, exporter, messages):
    """All of the log is in the store, once; no append waited; one warning."""
    sweep.end()
    assert exporter.stop(timeout_s=PATIENCE_S), exporter.error
    assert sweep.longest_append_s < OUTAGE_S / 2
    assert_tracked(plan.tracking_uri, [event for event, _ in read_events(folder.events)])
    (warning,) = messages()
    assert warning.startswith("MLflow lags (")


def assert_tracked(uri, events):
    """States, parameters and points of every trial, and the end of the sweep, as the log has them."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`ravel.kind` = 'trial'", max_results=5000)
    by_trial = {run.data.tags["ravel.trial"].rpartition("/")[2]: run for run in runs}
    state = SweepState(events)
    assert len(runs) == len(by_trial)
    assert sorted(by_trial) == sorted(state.trials)
    for name, trial in state.trials.items():
        run = by_trial[name]
        assert (run.data.tags["ravel.status"], run.info.status) == (trial.status, STATUSES[trial.status])
        assert run.data.tags["ravel.rung"] == str(trial.stopping_rung or "")
        config = {name: value if isinstance(value, str) else json.dumps(value) for name, value in trial.config.items()}
        assert run.data.params == {name: config[name] for name in run.data.params}
        assert len(run.data.params) == min(40, len(config))
    points = sorted(
        (name, key, point.step, point.value, point.timestamp)
        for name, run in by_trial.items()
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )
    assert points == sorted(
        (event.trial, key, event.epoch, value, round(event.time * 1000))
        for event in events
        if isinstance(event, EpochReported)
        for key, value in event.metrics.items()
        if value is not None
    )
    (summary,) = client.search_runs(experiments, "tags.`ravel.kind` = 'sweep'")
    assert (summary.info.status, summary.data.tags["ravel.status"]) == ("FINISHED", "completed")
    assert summary.data.metrics["epochs_run"] == state.epochs_run


@pytest.fixture
def server(tmp_path, free_port, ravel_started, until_healthy):
    """`server(folder)`: MLflow over a sqlite file in a folder, healthy inside the `with`; always on the same port."""
    address = f"http://127.0.0.1:{free_port}"

    @contextmanager
    def started(folder):
        folder.mkdir(exist_ok=True)
        output = tmp_path / "server.txt"
        with ravel_started(["ui", "--port", str(free_port)], folder, output) as process:
            until_healthy(address, process, output)
            yield process

    started.address = address
    return started


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_server_costs_no_point(server, tmp_path, messages):
    plan, folder = planned(tmp_path, server.address)
    home = tmp_path / "server"
    with server(home) as process, followed(plan, folder) as (sweep, exporter):
        kill(process)
        be_away(exporter, folder)
        with server(home):
            assert_caught_up(plan, folder, sweep, exporter, messages)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own for a database, small enough to be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("a disk in memory is mounted on Linux")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "ravel-test", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a disk may not be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # a client may still hold the file


def fill(disk):
    """Leave not a byte."""
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0


def test_a_full_disk_of_the_database_costs_no_point(small_disk, tmp_path, messages):
    plan, folder = planned(tmp_path, f"sqlite:///{small_disk}/mlflow.db")
    with followed(plan, folder) as (sweep, exporter):
        fill(small_disk)
        be_away(exporter, folder)
        assert "full" in exporter.error
        (small_disk / "filler").unlink()
        assert_caught_up(plan, folder, sweep, exporter, messages)


def test_a_full_disk_of_the_servers_database_costs_no_point(server, small_disk, tmp_path, messages):
    plan, folder = planned(tmp_path, server.address)
    with server(small_disk), followed(plan, folder) as (sweep, exporter):
        fill(small_disk)
        be_away(exporter, folder)
        (small_disk / "filler").unlink()
        assert_caught_up(plan, folder, sweep, exporter, messages)


def test_a_sweep_whose_server_is_killed_continues_and_is_synced_later(server, tmp_path):
    home, spec = tmp_path / "server", tmp_path / "spec.yaml"
    spec.write_text(TINY + f"tracking: {{uri: '{server.address}'}}\n")
    with server(home) as process:
        command = [sys.executable, "-c", IMPATIENT, "launch", "spec.yaml", "--address", "processes"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with running(command, cwd=tmp_path, **pipes) as driver:
            until(lambda: list(tmp_path.glob("results/*/tracking.json")), said=driver.poll)
            folder = find_sweep(tmp_path / "results")
            until(lambda: len(Cursor.load(folder.cursor).runs) >= 2, said=driver.poll)
            kill(process)
            killed_at = num_events(folder.events)
            said, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, said
    state = SweepState.read(folder.events)
    assert state.num_events > killed_at + 10
    assert state.ended.status == "completed"
    assert said.count("MLflow lags") == 2, said  # when it began, and what to do about it at the end
    assert f"later: ravel sync {folder.sweep}\n" in said
    assert "events yet to take" in ravel("status", cwd=tmp_path)
    with server(home):
        assert "MLflow has everything the log has" in ravel("sync", folder.sweep, cwd=tmp_path)
        assert_tracked(server.address, [event for event, _ in read_events(folder.events)])
