"""Logs of running sweeps, followed by the real command while a driver writes them; without Ray."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state import log_following, sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import EpochReported, SweepEnded, SweepStarted, TrialCreated
from orchestrator.state.sweep_folder import SweepFolder

RAVEL = Path(sys.executable).with_name("ravel")
STARTED = SweepStarted(time=1.0, generation=1, host="desk", pid=1)
END = SweepEnded(time=9.0, status="completed")


def created(trial):
    return TrialCreated(time=2.0, trial=trial, origin="search", point={}, config={})


def epoch(trial, number):
    return EpochReported(time=3.0, trial=trial, attempt=1, epoch=number, since_restore=number, metrics={"loss": 0.5})


@pytest.fixture
def driven(tmp_path):
    """A sweep with its driver: the log, which this process appends to, and the lock that it holds."""
    folder = SweepFolder(tmp_path / "results" / "mine-1")
    folder.path.mkdir(parents=True)
    spec = parse_spec("name: mine", [f"storage.uri={tmp_path}/results"])
    make_plan(spec, folder, slots=1, now=0.0, working_directory=tmp_path).save(folder)
    lock = sweep_lock.acquire(folder)
    with EventLog(folder.events) as log:
        log.append(STARTED)
        log.append(created("t000"))
        yield folder, log, lock
    lock.release()


@contextmanager
def following(folder, *words):
    """Run ``ravel logs --follow``, and yield it with the function that waits for its output."""
    output = folder.path.parent / "output.txt"
    command = [RAVEL, "logs", "mine-1", *words, "-f", "--storage", folder.path.parent]
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)

    def wait_for(text):
        deadline = time.monotonic() + 120
        while text not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)
        return output.read_text()

    try:
        yield process, wait_for
    finally:
        process.kill()
        process.wait(60)


def test_a_followed_log_is_printed_as_it_grows_and_ends_with_the_sweep(driven):
    folder, log, _ = driven
    with following(folder) as (process, wait_for):
        assert "epoch_reported" not in wait_for("trial_created trial=t000")
        log.append(epoch("t000", 1))
        wait_for("epoch_reported trial=t000 attempt=1 epoch=1")
        log.append(END)
        assert process.wait(60) == 0
        kinds = [line.split()[2] for line in wait_for("sweep_ended").splitlines()]
    assert kinds == ["sweep_started", "trial_created", "epoch_reported", "sweep_ended"]


def test_a_trial_can_be_followed_before_it_exists(driven):
    folder, log, _ = driven
    with following(folder, "t001") as (process, wait_for):
        time.sleep(0.5)
        assert process.poll() is None
        for event in (created("t001"), epoch("t000", 1), epoch("t001", 1), END):
            log.append(event)
        assert process.wait(60) == 0
        assert [line.split()[2:4] for line in wait_for("epoch").splitlines()] == [
            ["trial_created", "trial=t001"],
            ["epoch_reported", "trial=t001"],
        ]


def test_ctrl_c_ends_the_following_and_leaves_the_sweep_alone(driven):
    folder, _, lock = driven
    with following(folder) as (process, wait_for):
        wait_for("trial_created")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert wait_for("no longer following").endswith("\nno longer following; the sweep goes on\n")
    assert sweep_lock.held_generation(folder) == lock.generation


def test_nothing_is_waited_for_where_the_driver_is_gone_or_the_sweep_has_ended(driven):
    folder, log, lock = driven
    log.append(END)
    assert [event.kind for event in log_following.follow_events(folder)][-1] == "sweep_ended", "its driver flushes"
    log.append(STARTED)
    lock.release()
    assert [event.kind for event in log_following.follow_events(folder)][-1] == "sweep_started"
