"""Sweeps of batched trials, one of which fails, is stopped, or loses the worker of all."""

import os
import signal

import pytest
from batched_sweeps import SLOW, SLOWLY, UNLIKE, assert_invariants, launched, of_kind, one_worker
from commands import RAVEL, running
from launched import log_of, wait_for
from process_sweeps import PROCESSES, ravel, wait_for_the_end

from orchestrator.state.events import AttemptFailed, AttemptStarted, EpochReported, TrialEnded
from orchestrator.state.sweep_state import SweepState

pytestmark = pytest.mark.timeout(600)
FAILS_ONCE = """
def before_epoch(loop):
    mark = pathlib.Path(__file__).with_name("failed")
    if loop.epoch == {epoch} and {is_it} and not mark.exists():
        mark.touch()
        raise {error}
"""
OUT_OF_MEMORY = """
class Full:
    def __new__(cls):
        from trainables.errors import OutOfMemory
        error = OutOfMemory("training", 512, "cpu")
        error.__cause__ = MemoryError()
        return error
"""
CRASHES = """
def before_epoch(loop):
    if loop.epoch == 1 and loop.config.optimizer.lr == 0.5:
        os.abort()
"""
ONE_CRASHES = """
name: crashes
trial: {data.name: digits, model.name: mlp, epochs: 3, optimizer.name: sgd}
space: {use: [mixup], parameters: {optimizer.lr: {choice: [0.05, 0.5]}}}
search:
  num_trials: 4
  sampler: random
  points: [{optimizer.lr: 0.05}, {optimizer.lr: 0.5}, {optimizer.lr: 0.05}]
scheduler: {name: none}
evaluation: {robust_epsilon: 0.0}
failures: {infrastructure: 0, allowed: 1}
resources: {batch: 4}
"""


@pytest.fixture
def environment(plant, tmp_path):
    """``environment(fault)``: variables of a sweep with one worker; each of its processes has its own mark."""
    return lambda fault="": one_worker(tmp_path, plant(tmp_path, fault) if fault else os.environ)


def test_a_worker_that_is_killed_loses_no_trial_and_gets_half_as_many(environment, tmp_path):
    (tmp_path / "spec.yaml").write_text(SLOW)

    def worker_after(epoch):
        return lambda events: next(
            (event.pid for event in of_kind(events, EpochReported) if event.epoch == epoch), None
        )

    command = [RAVEL, "launch", "spec.yaml", *PROCESSES]
    with running(command, output=tmp_path / "output.txt", cwd=tmp_path, env=environment(SLOWLY)) as driver:
        os.kill(wait_for(tmp_path, worker_after(2), driver=driver), signal.SIGKILL)
        wait_for(tmp_path, lambda events: len(of_kind(events, AttemptFailed)) == 4, driver=driver)
        os.kill(wait_for(tmp_path, worker_after(4), driver=driver), signal.SIGTERM)
        assert driver.wait(timeout=300) == 0, (tmp_path / "output.txt").read_text()
    events = log_of(tmp_path)
    failed = of_kind(events, AttemptFailed)
    assert {event.trial for event in failed[:4]} == {"t000", "t001", "t002", "t003"}
    assert [event.shared_by for event in failed] == [4] * 4 + [None] * 2
    assert {(event.cause, event.reason.partition(";")[0]) for event in failed[:4]} == {
        ("infrastructure", "SIGKILL: its worker was killed or crashed")
    }
    assert {(event.cause, event.reason) for event in failed[4:]} == {("preemption", "its worker got SIGTERM")}
    assert len(failed[4:]) == 2, "all trials of the worker go on elsewhere"
    assert [event.batched for event in of_kind(events, AttemptStarted)] == [4] * 4 + [2] * 6
    assert {trial.status for trial in SweepState(events).trials.values()} == {"completed"}
    assert "slot 0: it continues with 2 trials at a time" in (tmp_path / "output.txt").read_text()
    wait_for_the_end(tmp_path)
    assert_invariants(tmp_path)


def test_ctrl_c_ends_a_batch_and_resume_continues_it_but_not_on_ray(environment, tmp_path):
    (tmp_path / "spec.yaml").write_text(SLOW)
    variables = environment(SLOWLY)
    command = [RAVEL, "launch", "spec.yaml", "--id", "sweep-1", *PROCESSES]
    with running(command, output=tmp_path / "output.txt", cwd=tmp_path, env=variables) as driver:
        wait_for(tmp_path, lambda events: len(of_kind(events, EpochReported)) >= 8, driver=driver)
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.wait(timeout=60) == 130
        wait_for_the_end(tmp_path)
    before = log_of(tmp_path)
    refused = ravel("resume", "sweep-1", "--address", "local", cwd=tmp_path, environment=variables, code=3)
    assert "resources.batch: must be 1 or auto on Ray (--address local)" in refused
    ravel("resume", "sweep-1", *PROCESSES, cwd=tmp_path, environment=environment())
    events = log_of(tmp_path)
    assert events[: len(before)] == before
    assert {event.batched for event in of_kind(events, AttemptStarted)} == {4}
    assert {trial.status for trial in SweepState(events).trials.values()} == {"completed"}
    assert_invariants(tmp_path, before)


def test_an_order_stops_one_trial_of_a_batch_and_leaves_the_others_alone(environment, tmp_path):
    (tmp_path / "spec.yaml").write_text(SLOW)
    variables = environment(SLOWLY)
    command = [RAVEL, "launch", "spec.yaml", "--id", "sweep-1", *PROCESSES]
    with running(command, output=tmp_path / "output.txt", cwd=tmp_path, env=variables) as driver:
        wait_for(tmp_path, lambda events: len(of_kind(events, EpochReported)) >= 4, driver=driver)
        ravel("stop", "sweep-1", "t001", cwd=tmp_path, environment=variables)
        assert driver.wait(timeout=300) == 0, (tmp_path / "output.txt").read_text()
    state = SweepState(log_of(tmp_path))
    assert state.trials["t001"].stopped_by_order
    assert {trial.status for name, trial in state.trials.items() if name != "t001"} == {"completed"}
    assert not of_kind(log_of(tmp_path), AttemptFailed)
    assert_invariants(tmp_path)


@pytest.mark.parametrize(
    ("fault", "reason", "after"),
    [
        (
            FAILS_ONCE.format(epoch=2, is_it=True, error='RuntimeError("boom")'),
            "4 batched trials failed together: RuntimeError: boom",
            None,
        ),
        (
            OUT_OF_MEMORY + FAILS_ONCE.format(epoch=2, is_it=True, error="Full()"),
            "4 batched trials failed together: OutOfMemory: batch_size: 512 images do not fit",
            2,
        ),
    ],
    ids=["error", "memory"],
)
def test_an_error_of_no_single_trial_is_retried_from_checkpoints_with_fewer_together(
    environment, tmp_path, fault, reason, after
):
    launched(tmp_path, SLOW, environment(fault))
    events = log_of(tmp_path)
    failed = of_kind(events, AttemptFailed)
    assert {event.trial for event in failed} == {"t000", "t001", "t002", "t003"}
    assert all(event.cause == "infrastructure" and event.reason.startswith(reason) for event in failed)
    assert {event.shared_by for event in failed} == {4}
    assert {event.batched for event in of_kind(events, AttemptStarted) if event.attempt == 2} == {after}
    assert {trial.status for trial in SweepState(events).trials.values()} == {"completed"}
    assert_invariants(tmp_path)


def test_memory_that_runs_out_for_one_lane_halves_the_next_worker_and_counts_against_no_trial(environment, tmp_path):
    fault = FAILS_ONCE.format(epoch=1, is_it="loop.config.mixup.detached", error='MemoryError("boom")')
    spec = UNLIKE.replace("resources:", "failures: {infrastructure: 0}\nresources:")
    output = launched(tmp_path, spec, environment(fault))
    events = log_of(tmp_path)
    (failed,) = of_kind(events, AttemptFailed)
    assert (failed.trial, failed.cause, failed.shared_by) == ("t001", "infrastructure", 4)
    assert failed.reason.startswith("the machine is out of memory: MemoryError: boom")
    assert "slot 0: it continues with 2 trials at a time" in output
    assert [event.batched for event in of_kind(events, AttemptStarted)][:4] == [4, None, 4, 4]
    assert {event.batched for event in of_kind(events, AttemptStarted)[4:]} <= {2, None}
    assert {trial.status for trial in SweepState(events).trials.values()} == {"completed"}
    assert_invariants(tmp_path)


def test_a_trial_that_crashes_its_worker_fails_by_itself_in_the_end_and_no_other_one_does(environment, tmp_path):
    output = launched(tmp_path, ONE_CRASHES, environment(CRASHES))
    events = log_of(tmp_path)
    state = SweepState(events)
    crashing = {trial.id for trial in state.trials.values() if trial.config["optimizer.lr"] == 0.5}
    assert {"t002"} <= crashing < set(state.trials)
    assert {trial.id for trial in state.trials.values() if trial.status == "failed"} == crashing
    assert {trial.status for name, trial in state.trials.items() if name not in crashing} == {"completed"}
    assert {event.shared_by for event in of_kind(events, AttemptFailed)} == {4, 2}
    assert {event.batched for event in of_kind(events, AttemptStarted)} == {4, 2, None}
    ended = next(event for event in of_kind(events, TrialEnded) if event.trial == "t002")
    assert ended.reason.startswith("lost its worker 1 times (failures.infrastructure: 0), last: SIGABRT: ")
    assert "t002 attempt 1 failed (infrastructure, shared by 4 trials): SIGABRT: " in output
    assert "lost their workers on it" not in ravel("status", "sweep-1", cwd=tmp_path, environment=os.environ)
    assert_invariants(tmp_path)


def test_an_error_of_one_trial_fails_it_and_the_others_end_in_the_same_worker(environment, tmp_path):
    fault = FAILS_ONCE.format(epoch=1, is_it="loop.config.mixup.detached", error='ValueError("boom")')
    launched(tmp_path, UNLIKE.replace("resources:", "failures: {allowed: 1}\nresources:"), environment(fault))
    events = log_of(tmp_path)
    statuses = {trial.id: trial.status for trial in SweepState(events).trials.values()}
    assert statuses.pop("t001") == "failed"
    assert set(statuses.values()) == {"completed"}
    assert not of_kind(events, AttemptFailed)
    pids = {event.trial: event.pid for event in of_kind(events, EpochReported)}
    assert len({pids[trial] for trial in ("t000", "t001", "t002", "t003")}) == 1
    assert pids["t005"] != pids["t000"], "a process in which an error was raised gets no other trial"
    assert_invariants(tmp_path)
