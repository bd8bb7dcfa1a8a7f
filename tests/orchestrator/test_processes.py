"""Whole sweeps in worker processes, without Ray: what they decide, measure and survive."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch
from commands import RAVEL, running
from launched import log_of, wait_for
from process_sweeps import PROCESSES, mark_of, processes_of, ravel, wait_for_the_end
from sweep_evidence import Evidence
from sweep_invariants import violations

from orchestrator.analysis.result import SweepResult
from orchestrator.state.events import AttemptFailed, EpochReported, TrialEnded, TrialPromoted
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

pytestmark = pytest.mark.timeout(600)
NETS = """
from collections import OrderedDict
from torch import nn

def small(num_classes, in_channels):
    print("a network of my own")
    hidden, output = nn.Linear(64, 16), nn.Linear(16, num_classes)
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden, active=nn.ReLU(), output=output))
"""
EVENTFUL = """
name: eventful
trial: {data.name: digits, model.name: "my_nets:small", epochs: 4, optimizer.name: sgd}
space:
  use: [snnl, mixup]
  parameters: {optimizer.lr: {choice: [0.02, 0.03, 0.05, 0.08, 0.1, 0.2, 9.0e+8]}}
search: {num_trials: 6, seed: 1, points: [{optimizer.lr: 9.0e+8}, {optimizer.lr: 0.05, mixup.alpha: 1.0}]}
scheduler: {grace_period: 1, reduction_factor: 3}
resources: {max_concurrent: 1}
failures: {user: 1}
"""
BROKEN_ONCE = """
def before_epoch(loop):
    mark = pathlib.Path(__file__).with_name(f"broke-{loop.config.seed}")
    if loop.epoch == 2 and not mark.exists():
        mark.touch()
        raise ValueError("boom")
"""
SLOW = """
name: slow
trial: {data.name: digits, model.name: mlp, epochs: 9, optimizer.name: sgd}
space: {use: [snnl, mixup]}
search: {num_trials: 4}
scheduler: {name: none}
resources: {cpus: 0.5, max_concurrent: 2}
failures: {infrastructure: 3}
"""
SLOWLY = """
def before_epoch(loop):
    time.sleep(0.4)
"""
NO_RAY = "raise ImportError('a sweep in processes imports Ray')\n"
OF_THE_CLOCK = {"time", "pid", "crc", "prev", "seq", "traceback"}


@pytest.fixture(scope="session")
def without_ray(tmp_path_factory):
    """A folder for ``PYTHONPATH`` in which Ray cannot be imported."""
    folder = tmp_path_factory.mktemp("no-ray")
    (folder / "ray.py").write_text(NO_RAY)
    return folder


@pytest.fixture
def environment(plant, without_ray, tmp_path):
    """``environment(fault)``: variables of a sweep that cannot import Ray; each of its processes has its own mark."""

    def of(fault, folder=tmp_path):
        variables = plant(folder, fault)
        return {**variables, "PYTHONPATH": f"{without_ray}{os.pathsep}{variables['PYTHONPATH']}", **mark_of(folder)}

    return of


def write_eventful(folder):
    (folder / "spec.yaml").write_text(EVENTFUL)
    (folder / "my_nets.py").write_text(NETS)


def assert_invariants(folder, before=()):
    assert violations(Evidence.read(find_sweep(folder / "results"), folder / "mlflow.db", before=tuple(before))) == {}


def measured(folder):
    """Return what each trial measured in each epoch, without times."""
    state = SweepState(log_of(folder))
    return {
        trial.id: {epoch: steady(metrics) for epoch, metrics in trial.epochs.items()} for trial in state.trials.values()
    }


def steady(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "cost/", "speed/"))}


@pytest.fixture(scope="module")
def eventful(tmp_path_factory, plant, without_ray):
    """A sweep, one trial at a time, of a user's own network: a point diverges, and each trial breaks once."""
    folder = tmp_path_factory.mktemp("eventful")
    write_eventful(folder)
    variables = plant(folder, BROKEN_ONCE)
    variables |= {"PYTHONPATH": f"{without_ray}{os.pathsep}{variables['PYTHONPATH']}", **mark_of(folder)}
    return folder, ravel("launch", "spec.yaml", "--id", "eventful-1", *PROCESSES, cwd=folder, environment=variables)


def test_a_sweep_in_processes_ends_well_though_ray_cannot_be_imported(eventful):
    folder, output = eventful
    state = SweepResult.read(find_sweep(folder / "results")).state
    assert "starting worker processes ..." in output
    assert "100% · 6/6 trials" in output
    assert state.trials["t001"].status == "diverged"
    assert {trial.status for trial in state.trials.values()} == {"completed", "stopped", "diverged"}
    assert [event for event in log_of(folder) if isinstance(event, TrialPromoted)], "paused trials were promoted"
    assert_invariants(folder)


def test_a_sweep_in_processes_leaves_no_process(eventful):
    wait_for_the_end(eventful[0])


def test_an_error_of_a_trial_is_retried_in_another_process_from_its_checkpoint(eventful):
    failed = [event for event in log_of(eventful[0]) if isinstance(event, AttemptFailed)]
    assert {(event.cause, event.reason) for event in failed} == {("user", "ValueError: boom")}
    retried = [event for event in log_of(eventful[0]) if isinstance(event, EpochReported) and event.attempt > 1]
    assert {event.since_restore for event in retried if event.epoch == 3} <= {1, 2}, "not from the beginning"


def test_what_a_trial_prints_is_in_the_folder_of_its_attempt(eventful):
    printed = find_sweep(eventful[0] / "results").tune / "t002-1-g1" / "output.txt"
    assert set(printed.read_text().splitlines()) == {"a network of my own"}


def test_every_decision_in_processes_is_replayed(eventful):
    folder, _ = eventful
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    assert "every decision came out as recorded" in ravel("replay", "eventful-1", cwd=folder, environment=environment)


def test_two_checkpoints_of_an_attempt_are_kept(eventful):
    sweep = find_sweep(eventful[0] / "results")
    saved = Counter(path.parent.name for path in sweep.tune.glob("*/checkpoint_*"))
    assert saved
    assert max(saved.values()) == 2
    for trial in SweepState(log_of(eventful[0])).trials.values():
        for checkpoint in trial.checkpoints:
            attempt = sweep.path / checkpoint.path
            newest = sorted(path.name for path in attempt.parent.glob("checkpoint_*"))
            assert attempt.exists() or attempt.name < newest[0]


def recorded(folder):
    """Return the log as it must be on Ray and in processes: without times, process ids, and what follows from them."""
    logs = find_sweep(folder / "results").path.glob("events*.jsonl")
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    for line in lines:
        for name in OF_THE_CLOCK:
            line.pop(name, None)
        if "metrics" in line:
            line["metrics"] = steady(line["metrics"])
    return lines


@pytest.mark.ray
def test_a_sweep_in_processes_equals_the_one_on_ray_to_the_bit(eventful, tmp_path, plant):
    write_eventful(tmp_path)
    variables = plant(tmp_path, BROKEN_ONCE)
    ravel("launch", "spec.yaml", "--id", "eventful-1", "--address", "local", cwd=tmp_path, environment=variables)
    assert recorded(eventful[0]) == recorded(tmp_path)
    ours, rays = (find_sweep(folder / "results").tune for folder in (eventful[0], tmp_path))
    checkpoints = sorted(str(path.relative_to(ours)) for path in ours.glob("*/checkpoint_*/*.pt"))
    assert checkpoints == sorted(str(path.relative_to(rays)) for path in rays.glob("*/checkpoint_*/*.pt"))
    for path in checkpoints:
        own, other = (torch.load(root / path, weights_only=True)["model"] for root in (ours, rays))
        assert all(torch.equal(own[name], other[name]) for name in own | other)


def test_a_driver_that_is_killed_leaves_no_worker_and_is_resumed_to_the_same_results(eventful, environment, tmp_path):
    write_eventful(tmp_path)
    variables = environment(BROKEN_ONCE)
    command = [RAVEL, "launch", "spec.yaml", "--id", "eventful-1", *PROCESSES]
    with running(command, output=tmp_path / "output.txt", cwd=tmp_path, env=variables) as driver:
        wait_for(tmp_path, lambda events: len(of_kind(events, TrialEnded)) >= 2, driver=driver)
        assert len(processes_of(tmp_path)) >= 3, "the driver, the server, a worker"
        driver.kill()
        driver.wait()
        wait_for_the_end(tmp_path)
    before = log_of(tmp_path)
    ravel("resume", "eventful-1", *PROCESSES, cwd=tmp_path, environment=variables)
    assert log_of(tmp_path)[: len(before)] == before
    assert measured(tmp_path) == measured(eventful[0])
    assert_invariants(tmp_path, before)


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_lost_workers_are_retried_and_one_that_gets_sigterm_ends_its_epoch_first(environment, tmp_path):
    (tmp_path / "spec.yaml").write_text(SLOW)

    def worker_of(trial, epoch):
        return lambda events: next(
            (event.pid for event in of_kind(events, EpochReported) if (event.trial, event.epoch) == (trial, epoch)),
            None,
        )

    command = [RAVEL, "launch", "spec.yaml", *PROCESSES]
    with running(command, output=tmp_path / "output.txt", cwd=tmp_path, env=environment(SLOWLY)) as driver:
        os.kill(wait_for(tmp_path, worker_of("t000", 2), driver=driver), signal.SIGKILL)
        os.kill(wait_for(tmp_path, worker_of("t001", 4), driver=driver), signal.SIGTERM)
        wait_for(tmp_path, lambda events: len(of_kind(events, AttemptFailed)) == 2, driver=driver)
        server = parent_of(wait_for(tmp_path, worker_of("t002", 1), driver=driver))
        os.kill(server, signal.SIGKILL)
        assert driver.wait(timeout=300) == 0, (tmp_path / "output.txt").read_text()
    failed = of_kind(log_of(tmp_path), AttemptFailed)
    assert (failed[0].trial, failed[0].cause) == ("t000", "infrastructure")
    assert failed[0].reason.startswith("SIGKILL: its worker was killed or crashed; if dmesg")
    assert (failed[1].trial, failed[1].cause, failed[1].reason) == ("t001", "preemption", "its worker got SIGTERM")
    assert {event.reason.partition(";")[0] for event in failed[2:]} == {"its worker was killed or crashed"}
    assert len(failed) in {3, 4}, "the workers of the server"
    assert {trial.status for trial in SweepState(log_of(tmp_path)).trials.values()} == {"completed"}
    wait_for_the_end(tmp_path)
    assert_invariants(tmp_path)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_ctrl_c_and_an_order_to_stop_end_workers_at_once(environment, tmp_path):
    (tmp_path / "spec.yaml").write_text(SLOW)
    variables = environment(SLOWLY)
    command = [RAVEL, "launch", "spec.yaml", *PROCESSES]
    with running(command, output=tmp_path / "output.txt", cwd=tmp_path, env=variables) as driver:
        wait_for(tmp_path, lambda events: SweepState(events).with_status("running"), driver=driver)
        ravel("stop", "slow", "t001", cwd=tmp_path, environment=variables)
        stopped = wait_for(tmp_path, lambda events: SweepState(events).with_status("stopped"), driver=driver)
        assert [trial.id for trial in stopped] == ["t001"]
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.wait(timeout=60) == 130
        wait_for_the_end(tmp_path)
    output = (tmp_path / "output.txt").read_text()
    assert "Traceback" not in output
    assert "Continue with: ravel resume slow" in output
    state = SweepState(log_of(tmp_path))
    assert (state.ended.status, state.ended.reason) == ("interrupted", "the driver was stopped (SIGINT)")
    assert {trial.status for trial in state.trials.values()} >= {"stopped", "interrupted"}
    ravel("sync", "slow", cwd=tmp_path, environment=variables)  # on a busy machine MLflow lags
    assert_invariants(tmp_path)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["resources.workers=2", "trial.batch_size=32"], "resources.workers: must be 1 with --address processes"),
        (["resources.custom={tpu: 1}"], "resources.custom.tpu: must not be set with --address processes"),
        (["resources.cpus=4096"], "resources: one trial takes 4096 CPUs and 0 GPUs"),
    ],
)
def test_what_processes_cannot_do_is_refused_before_anything_starts(ravel_here, settings, problem):
    overrides = [word for setting in settings for word in ("--set", setting)]
    for command in (["launch", "spec.yaml"], ["launch", "spec.yaml", "--dry-run"]):
        _, error = ravel_here(*command, *overrides, *PROCESSES, code=3)
        assert problem in error
    assert list(Path().glob("results/*")) == []
