"""The example of a `LightningModule`: stopped by SIGKILL, resumed, and replayed."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import RAVEL, running

from trainables._torchvision import import_torchvision

import_torchvision()  # Lightning imports it, and fails on wheels that this function repairs
pytest.importorskip("pytorch_lightning")

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS = (
    "search.num_trials=4",
    "trial.epochs=4",
    "space.parameters.model.args.width={choice: [16]}",
    "resources.max_concurrent=1",
)
PROCESSES = ("--address", "processes")
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture
def folder(tmp_path):
    """A folder with a copy of the example."""
    for name in ("lightning_digits.py", "lightning_digits.yaml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    return tmp_path


def ravel(*words, cwd):
    return subprocess.run([RAVEL, *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_wrong_arguments_are_named_before_ray_starts(folder, ravel, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ravel("check", "lightning_digits.yaml")
    _, wrong = ravel("check", "lightning_digits.yaml", "--set", "trial.model.args.depth=3", code=2)
    assert wrong == "trial.model.args.depth: LitDigits has no such argument; did you mean 'width'?\n"
    sys.modules.pop("lightning_digits")


@pytest.mark.timeout(280)
def test_a_sweep_that_is_killed_is_resumed_and_its_decisions_are_replayed(folder):
    command = [RAVEL, "launch", "lightning_digits.yaml", *PROCESSES, *SMALL]
    with running(command, output=folder / "output.txt", cwd=folder) as driver:
        while driver.poll() is None and not any("epoch_reported" in log.read_text() for log in logs_in(folder)):
            time.sleep(0.1)
        assert driver.poll() is None, (folder / "output.txt").read_text()
    resumed = ravel("resume", "lightning_digits", *PROCESSES, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "4/4 trials" in resumed.stdout
    assert "every decision came out as recorded" in ravel("replay", "lightning_digits", cwd=folder).stdout
    best = json.loads(ravel("best", "lightning_digits", "--json", cwd=folder).stdout)[0]
    assert best["epoch"] == 4
    assert best["score"] > 0.5
    ours = {"__pycache__", "output.txt", "results", "mlflow.db", "mlartifacts"}
    names = {path.name for path in folder.iterdir()} - ours
    assert names == {"lightning_digits.py", "lightning_digits.yaml"}
    refused = ravel("evaluate", "lightning_digits", cwd=folder)
    assert "read its checkpoint with trainables.tasks.lightning.run.load_module(CHECKPOINT)" in refused.stderr


def logs_in(folder):
    return folder.glob("results/*/events*.jsonl")
