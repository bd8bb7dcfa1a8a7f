"""Workers that an error leaves unusable, on a real local Ray: no other trial gets their process."""

import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.air.execution._internal import RayActorManager, TrackedActor, actor_manager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError

from orchestrator.decisions.hosts import TRIALS_LOST
from orchestrator.execution.tune.actors import lost_workers
from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptFailed, AttemptStarted, EpochReported
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

ray_nodes = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("ray_nodes.py"))))
pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
BIN = Path(sys.executable).parent
SPEC = """
name: poison
trial: {data.name: digits, model.name: mlp, epochs: 3, optimizer.name: sgd}
space: {use: [mixup]}
search: {num_trials: 3}
scheduler: {name: none}
resources: {max_concurrent: 1}
failures: {allowed: 1}
"""
POISON = """
import torch
poisoned = []
def before_epoch(loop):
    if poisoned:
        raise RuntimeError("this process was poisoned before")
    number = len(list(pathlib.Path(__file__).parent.glob("broke-*")))
    mark = pathlib.Path(__file__).with_name(f"broke-{loop.config.seed}")
    if loop.epoch == 1 and number < 2 and not mark.exists():
        mark.touch()
        poisoned.append(True)
        raise (torch.AcceleratorError("CUDA error: device-side assert triggered"), ValueError("a bug"))[number]
"""
BAD_HOST = f"""
def before_epoch(loop):  # the good host is slow, so that the bad one gets trials, until that has lost enough of them
    import time, torch  # not in every process of Ray
    here = pathlib.Path(__file__).parent
    if os.environ.get("BAD_HOST"):
        (here / f"lost-{{loop.config.seed}}").touch()
        raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")
    end = time.monotonic() + 2
    while time.monotonic() < end and len(list(here.glob("lost-*"))) < {TRIALS_LOST}:
        time.sleep(0.1)
"""


def launch(folder, spec, *arguments, environment):
    (folder / "spec.yaml").write_text(spec)
    command = [str(BIN / "ravel"), "launch", "spec.yaml", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=400
    )


def log_of(folder):
    return [event for event, _ in read_events(find_sweep(folder / "results").events)]


def test_a_process_that_an_error_may_have_poisoned_gets_no_other_trial(tmp_path, plant):
    done = launch(tmp_path, SPEC, environment=plant(tmp_path, POISON))
    assert done.returncode == 0, done.stdout + done.stderr
    events = log_of(tmp_path)
    state = SweepState(events)
    (lost,) = [event for event in events if isinstance(event, AttemptFailed)]
    assert (lost.trial, lost.attempt, lost.cause) == ("t000", 1, "infrastructure")
    assert lost.reason == "the device is unusable: AcceleratorError: CUDA error: device-side assert triggered"
    assert {trial.id: trial.status for trial in state.trials.values()} == {
        "t000": "completed",
        "t001": "failed",
        "t002": "completed",
    }
    own = state.trials["t001"].end
    assert (own.cause, own.reason) == ("user", "ValueError: a bug")
    assert 'raise (torch.AcceleratorError("CUDA error' in own.traceback
    pids = {(event.trial, event.attempt): event.pid for event in events if isinstance(event, EpochReported)}
    assert pids["t000", 2] == pids["t001", 1], "a process is used again after a trial that completed"
    assert len(set(pids.values())) == 3, "and never after an error"
    assert "Trials did not complete" not in done.stderr


@pytest.mark.timeout(600)  # two nodes start first
def test_a_host_that_loses_its_workers_gets_no_more_trials(tmp_path, plant):
    with (
        tempfile.TemporaryDirectory(prefix="rvl", dir="/tmp") as short,
        ray_nodes.nodes(Path(short), **plant(tmp_path, BAD_HOST)) as nodes,
    ):
        nodes.start(2, cpus=1)
        nodes.start(3, cpus=1, BAD_HOST="1")
        spec = SPEC.replace("num_trials: 3", "num_trials: 9").replace("resources: {max_concurrent: 1}\n", "")
        done = launch(tmp_path, spec, "--address", nodes.address, environment=nodes.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    events = log_of(tmp_path)
    state = SweepState(events)
    assert {trial.status for trial in state.trials.values()} == {"completed"}
    bad = next(host for host in state.hosts if "127.0.0.3" in host)
    lost = [number for number, event in enumerate(events) if isinstance(event, AttemptFailed)]
    assert TRIALS_LOST <= len(lost) <= TRIALS_LOST + 1, "one trial had been handed to Tune before the host was excluded"
    later = [event.host for event in events[lost[-1] :] if isinstance(event, AttemptStarted)]
    assert len(later) > TRIALS_LOST
    assert bad not in later
    line = f"{bad}: 3 trials lost their workers on it within an hour; it gets no more trials of this sweep"
    assert done.stderr.count(line) == 1, done.stderr


@pytest.mark.parametrize("error", [OutOfMemoryError("killed"), WorkerCrashedError(), NodeDiedError("gone")], ids=repr)
def test_tune_takes_a_worker_that_ray_ended_as_lost(error):
    """Tune's own actor manager, which without us ends the whole sweep: if that has changed, our part can go."""
    lost = []
    manager = RayActorManager(resource_manager=SimpleNamespace(free_resources=lambda **_: None))
    actor = TrackedActor("a", on_error=lambda _, error: lost.append(("actor", error)))
    task = TrackedActorTask(actor, on_error=lambda _, error: lost.append(("task", error)))
    manager._live_actors_to_ray_actors_resources[actor] = (None, None)
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        manager._actor_task_failed(task, error)
    with lost_workers():
        manager._actor_task_failed(task, error)
    assert lost == [("actor", error), ("task", error)]
    assert actor_manager.RayActorError is RayActorError
