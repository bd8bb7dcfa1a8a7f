"""Sweeps whose trials are trained by two workers each, on a real local Ray: lost, wrong, killed, resumed, replayed."""

import time

import pytest
from commands import RAVEL, ravel, running

from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptFailed, EpochReported
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
SPEC = """
name: pair
trial: {data.name: digits, model.name: mlp, epochs: 4, batch_size: 128, precision: float32}
space: {use: [snnl, mixup]}
search: {num_trials: 4, seed: 1}
scheduler: {grace_period: 1, reduction_factor: 3}
resources: {cpus: 1, workers: 2, max_concurrent: 1}
failures: {user: 1}
"""
PLANTED = """
HERE = pathlib.Path(__file__).parent

def before_epoch(loop):  # the second worker of the first trial dies once, that of another raises once
    share = loop.run.placement.share
    (HERE / f"worked-{loop.config.seed}-{share.rank}-of-{share.world_size}").touch()
    if share.rank == 1 and loop.epoch == 2 and not list(HERE.glob("died-*")):
        (HERE / f"died-{loop.config.seed}").touch()
        os._exit(1)
    others = [mark for mark in HERE.glob("died-*") if mark.name != f"died-{loop.config.seed}"]
    if share.rank == 1 and others and not (HERE / "raised").exists():
        (HERE / "raised").touch()
        raise ValueError("a bug of the second worker")
    time.sleep(0.2)
"""


def events_of(folder):
    logs = list(folder.glob("results/*/events.jsonl"))
    return [event for event, _ in read_events(logs[0])] if logs else []


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, plant):
    """Folder of a sweep that was killed after both faults, and resumed to its end."""
    folder = tmp_path_factory.mktemp("pair")
    environment = plant(folder, PLANTED)
    (folder / "spec.yaml").write_text(SPEC)
    command = [RAVEL, "launch", "spec.yaml"]
    with running(command, output=folder / "output.txt", cwd=folder, env=environment) as driver:
        deadline = time.monotonic() + 300
        while len([e for e in events_of(folder) if isinstance(e, AttemptFailed)]) < 2:
            output = (folder / "output.txt").read_text()
            assert driver.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(0.1)
    ravel("resume", "pair", cwd=folder, **environment)
    return folder, environment


def test_every_trial_of_a_killed_and_resumed_sweep_is_trained_by_two_workers_to_its_end(resumed):
    folder, _ = resumed
    state = SweepState(events_of(folder))
    assert len(state.trials) == 4
    assert all(trial.status in {"completed", "stopped"} for trial in state.trials.values())
    for trial in state.trials.values():
        assert sorted(trial.epochs) == list(range(1, trial.epoch + 1)), "no epoch is lost, none counted twice"
        worked = sorted(mark.name for mark in folder.glob(f"worked-{trial.config['seed']}-*"))
        assert [name.rpartition("-")[0][-4:] + name[-1] for name in worked] == ["0-of2", "1-of2"]
    reports = [(event.trial, event.epoch) for event in events_of(folder) if isinstance(event, EpochReported)]
    assert len(reports) == len(set(reports))


def test_a_worker_that_dies_costs_an_attempt_of_its_trial_and_names_the_loss(resumed):
    lost = next(event for event in events_of(resumed[0]) if isinstance(event, AttemptFailed))
    assert (lost.trial, lost.cause) == ("t000", "infrastructure")
    assert "worker of this trial was lost" in lost.reason


def test_an_error_of_one_worker_is_the_trials_own_with_its_cause(resumed):
    own = [event for event in events_of(resumed[0]) if isinstance(event, AttemptFailed)][1]
    assert (own.cause, own.reason) == ("user", "ValueError: a bug of the second worker")
    assert "in run_epoch" in own.traceback


def test_every_decision_of_the_sweep_is_replayed(resumed):
    folder, environment = resumed
    assert "every decision came out as recorded" in ravel("replay", "pair", cwd=folder, **environment)
    assert find_sweep(folder / "results").path.exists()
