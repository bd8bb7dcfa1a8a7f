"""Real sweeps under orders: slots that follow ``resources.max_concurrent``, and bits equal to the longer sweep's."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import ravel
from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptFailed, AttemptStarted, OrderAccepted, TrialEnded

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
RAVEL = Path(sys.executable).with_name("ravel")
TIMES = ("time/", "cost/", "system/")
LONG = {
    "name": "long",
    "trial": {
        "data.name": "digits",
        "model.name": "mlp",
        "epochs": 9,
        "optimizer.name": "sgd",
        "optimizer.schedule": "constant",
    },
    "space": {"use": ["mixup"], "parameters": {"optimizer.lr": {"float": [0.001, 1.0], "log": True}}},
    "search": {"num_trials": 5, "seed": 2, "sampler": "random"},
    "scheduler": {"grace_period": 1, "reduction_factor": 3, "kind": "stopping"},
    "resources": {"max_concurrent": 1},
}
SHORT = {
    **LONG,
    "name": "short",
    "trial": {**LONG["trial"], "epochs": 3},
    "search": {**LONG["search"], "num_trials": 3},
}
MANY = {
    "name": "many",
    "trial": {"task": "waiting:train", "epochs": 3},
    "space": {"parameters": {"lr": {"float": [0.001, 1.0], "log": True}}},
    "objective": "loss min",
    "search": {"num_trials": 8, "sampler": "random"},
    "scheduler": {"name": "none"},
    "resources": {"cpus": 0.5, "max_concurrent": 3},
}
WAITING = """
import pathlib, time

HERE = pathlib.Path(__file__).parent

def train(lr: float, epochs: int):
    number = len(list(HERE.glob("began-*")))
    (HERE / f"began-{time.time_ns()}").touch()
    order = "lowered" if number < 3 else "raised" if number >= 5 else None
    while order and not (HERE / order).exists():
        time.sleep(0.05)
    for epoch in range(epochs):
        yield {"loss": lr / (epoch + 1)}
"""
"""Its first three trials end after the first order, and all but the next two after the second."""


def measured(result):
    """All metrics but times, and the end and decisions of each trial."""
    return {
        name: (
            trial.point,
            trial.status,
            {rung: (decided.kept, decided.value, decided.cutoff) for rung, decided in sorted(trial.rungs.items())},
            {
                epoch: {metric: value for metric, value in metrics.items() if not metric.startswith(TIMES)}
                for epoch, metrics in sorted(trial.epochs.items())
            },
        )
        for name, trial in result.state.trials.items()
    }


def test_a_sweep_extended_by_trials_and_epochs_measures_the_bits_of_the_longer_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    longer = ravel.launch(ravel.SweepSpec.model_validate(LONG))
    short = ravel.open(ravel.launch(ravel.SweepSpec.model_validate(SHORT)).folder.path)
    answer = short.extend(trials="+2", epochs=9)
    assert answer.outcome == "written"
    extended = ravel.resume(short.folder)
    assert {trial.epoch for trial in extended.state.trials.values()} > {9}
    assert measured(extended) == measured(longer)


def events_of(folder):
    return [event for event, _ in read_events(folder.events)]


def running_at_starts(events):
    """The number of running trials just after each start of an attempt, by the number of orders before it."""
    running, orders, counts = set(), 0, {}
    for event in events:
        if isinstance(event, OrderAccepted):
            orders += 1
        elif isinstance(event, AttemptStarted):
            running.add(event.trial)
            counts.setdefault(orders, []).append(len(running))
        elif isinstance(event, TrialEnded | AttemptFailed):
            running.discard(event.trial)
    return counts


def starts_after(folder, orders):
    return running_at_starts(events_of(folder)).get(orders, [])


def wait_until(sweep, condition, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert sweep.is_running, sweep.output
        assert time.monotonic() < deadline, events_of(sweep.folder)[-5:]
        time.sleep(0.1)


def test_the_number_of_trials_at_a_time_is_lowered_and_raised_while_a_sweep_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "waiting.py").write_text(WAITING)
    sweep = ravel.launch(ravel.SweepSpec.model_validate(MANY), background=True)
    try:
        wait_until(sweep, lambda: 3 in starts_after(sweep.folder, 0))
        sweep.extend(set={"resources.max_concurrent": 1}, wait_s=60)
        (tmp_path / "lowered").touch()
        wait_until(sweep, lambda: len(starts_after(sweep.folder, 1)) >= 2)
        command = [RAVEL, "extend", "many", "--set", "resources.max_concurrent=2", "--wait", "60"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert said.splitlines()[1:] == ["  resources.max_concurrent: 1 to 2"]
        wait_until(sweep, lambda: 2 in starts_after(sweep.folder, 2))
        (tmp_path / "raised").touch()
        sweep.wait(240)
    finally:
        sweep._driver.process.kill()
    counts = running_at_starts(events_of(sweep.folder))
    assert max(counts[0]) == 3
    assert set(counts[1]) == {1}
    assert max(counts[2]) == 2
    assert len(sweep.result.state.with_status("completed", "diverged")) == 8
