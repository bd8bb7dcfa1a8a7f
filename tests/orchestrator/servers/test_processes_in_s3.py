"""A sweep in worker processes that is kept in S3: another machine continues from its checkpoints there."""

import os
import signal
import subprocess
import time
from collections import Counter

import pytest
from commands import RAVEL, running

from orchestrator.errors import SweepNotFound
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.sweep_state import SweepState
from orchestrator.storage.s3 import Bucket

pytestmark = pytest.mark.timeout(900)
SPEC = """
name: cloud
trial: {{data.name: digits, model.name: mlp, epochs: 9, optimizer.name: sgd}}
space: {{use: [mixup]}}
search: {{num_trials: 2}}
scheduler: {{grace_period: 1, reduction_factor: 3}}
resources: {{max_concurrent: 1}}
storage: {{uri: "{storage}"}}
"""
HELD = """
def before_epoch(loop):  # past both rungs, and far from the end
    while loop.epoch >= 4:
        time.sleep(0.1)
"""


def machine(folder, plant, fault):
    """Return the folder of a machine of its own, with its environment."""
    folder.mkdir()
    environment = plant(folder, fault)
    return folder, {**environment, "RAVEL_CACHE": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}


def mirrored(storage):
    """Return the checkpoints of each trial, as the log in S3 has them."""
    try:
        state = SweepState.read(find_sweep(storage, "cloud-1").events)
    except SweepNotFound:
        return {}
    return {trial.id: trial.checkpoints for trial in state.trials.values()}


def test_a_sweep_in_processes_goes_on_from_s3_on_another_machine(s3, plant, tmp_path, monkeypatch):
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "looks-on"))
    storage = s3.location.uri
    first, variables = machine(tmp_path / "first", plant, HELD)
    (first / "spec.yaml").write_text(SPEC.format(storage=storage))
    command = [RAVEL, "launch", "spec.yaml", "--id", "cloud-1", "--address", "processes"]
    with running(command, output=first / "output.txt", cwd=first, env=variables) as driver:
        deadline = time.monotonic() + 400
        while len(mirrored(storage).get("t000", [])) < 2:
            assert driver.poll() is None, (first / "output.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.5)
        os.killpg(driver.pid, signal.SIGKILL)
    second, variables = machine(tmp_path / "second", plant, "def before_epoch(loop): pass")
    resume = [str(RAVEL), "resume", f"{storage}/cloud-1", "--address", "processes"]
    done = subprocess.run(resume, cwd=second, env=variables, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    state = SweepState.read(find_sweep(storage, "cloud-1").events)
    assert {trial.status for trial in state.trials.values()} <= {"completed", "stopped"}
    assert state.trials["t000"].status == "completed"
    assert state.trials["t000"].attempts == 2
    saved = {item.key for item in Bucket(s3.location).list() if item.key.endswith("state.pt")}
    expected = {f"cloud-1/{checkpoint.path}/state.pt" for trial in state.trials.values() for checkpoint in trial.stored}
    assert saved >= expected
    by_attempt = Counter(key.rpartition("/checkpoint_")[0] for key in saved)
    assert max(by_attempt.values()) <= 3, "two of each attempt, and one that was about to be dropped"
