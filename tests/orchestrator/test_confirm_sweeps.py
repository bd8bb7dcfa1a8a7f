"""A search and its confirmation, from the command line: the test split is read by the last evaluation alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.analysis.result import SweepResult
from orchestrator.state.sweep_lookup import find_sweep

RAVEL = Path(sys.executable).with_name("ravel")
GUARD = '''
"""In every process of the sweep: `load_test`, the one access to test images, raises before the confirmation ends."""

import importlib.abc
import importlib.util
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent


def note(what):
    with (HERE / "reads.jsonl").open("a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid()}) + chr(10))


def confirmation_has_ended():
    logs = [path.read_text() for path in HERE.glob("results/guarded-confirm-*/events.jsonl")]
    return any('"sweep_ended"' in log and '"completed"' in log.splitlines()[-1] for log in logs)


def guard(loading):
    load_test = loading.load_test

    def guarded(config):
        if not confirmation_has_ended():
            note("refused")
            raise RuntimeError("the test split was read too early")
        note("evaluated")
        return load_test(config)

    loading.load_test = guarded
    note("guarded")


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trainables.data.loading":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (run(module), guard(module))
        return spec


sys.meta_path.insert(0, Finder())
'''
GUARDED = '''
"""Digits that note each time their test part is read to be prepared."""

from sitecustomize import note
from sklearn.datasets import load_digits


class Part:
    def __init__(self, images, labels, name):
        self.images, self.labels, self.name = images, labels, name

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if self.name == "test" and index == 0:
            note("prepared")
        return self.images[index], int(self.labels[index])


def digits():
    known = load_digits()
    images = (known.images / 16 * 255).round().astype("uint8")
    bounds = {"train": slice(0, 300), "val": slice(300, 400), "test": slice(400, 500)}
    return {name: Part(images[part], known.target[part], name) for name, part in bounds.items()}
'''
SPEC = """
name: guarded
trial: {data.name: "guarded:digits", model.name: mlp, model.width: 0.25, epochs: 2, batch_size: 64,
        optimizer.name: sgd, optimizer.lr: 0.1}
space: {parameters: {mixup.alpha: {zero_or: {float: [0.1, 1.0]}, probability: 0.3}}}
search: {num_trials: 3, sampler: random, points: [{mixup.alpha: 0.4}]}
scheduler: {name: none}
evaluation: {robust_epsilon: 0}
"""


@pytest.fixture
def ravel(tmp_path, monkeypatch):
    """``ravel(*arguments)``: run a command in the folder of the sweep, and return how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "guarded.py").write_text(GUARDED)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    return lambda *arguments: subprocess.run([RAVEL, *arguments], capture_output=True, text=True, check=False)


def notes(root, *, guarded):
    """What was noted, in order: guards that were installed, or reads of test images, each with its process."""
    lines = [json.loads(line) for line in (root / "reads.jsonl").read_text().splitlines()]
    return [line for line in lines if (line["what"] == "guarded") == guarded]


def reads(root):
    return notes(root, guarded=False)


def test_the_training_of_a_trial_never_reads_the_test_split(ravel, tmp_path):
    trained = ravel("trial", "sweep.yaml")
    assert trained.returncode == 0, trained.stderr
    assert [note["what"] for note in notes(tmp_path, guarded=True)] == ["guarded"]
    assert [read["what"] for read in reads(tmp_path)] == ["prepared"]


@pytest.mark.usefixtures("ravel")
def test_the_guard_refuses_the_test_split_before_a_confirmation_has_ended(tmp_path):
    code = (
        "from trainables.config.trial import DataConfig; from trainables.data import load_test; "
        "load_test(DataConfig(name='guarded:digits'))"
    )
    early = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the test split was read too early" in early.stderr
    assert [read["what"] for read in reads(tmp_path)] == ["refused"]


@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("RAVEL_KILLS") != "all", reason="takes two minutes: make kills")
def test_the_test_split_is_read_by_the_last_evaluation_alone(ravel, tmp_path):
    launched = ravel("launch", "sweep.yaml")
    assert launched.returncode == 0, launched.stderr
    assert [read["what"] for read in reads(tmp_path)] == ["prepared"]
    assert len({note["pid"] for note in notes(tmp_path, guarded=True)}) >= 2  # the driver, and a worker

    early = ravel("evaluate", "guarded", "--no-track")  # the guard guards
    assert early.returncode != 0
    assert "the test split was read too early" in early.stderr
    assert [read["what"] for read in reads(tmp_path)] == ["prepared", "refused"]

    confirmed = ravel("confirm", "guarded", "--top", "1", "--seeds", "2", "--json")
    assert confirmed.returncode == 0, confirmed.stderr
    later = reads(tmp_path)[2:]
    assert [read["what"] for read in later] == 4 * ["evaluated"]
    assert len({read["pid"] for read in later}) == 1

    claim = json.loads(confirmed.stdout)
    result = SweepResult.read(find_sweep("results", claim["sweep"]))
    assert {trial.status for trial in result.state.trials.values()} == {"completed"}
    assert [row["name"] for row in claim["rows"]] == ["control", *result.plan.parent.trials]
    trained = {trial.config["seed"] for trial in result.state.trials.values()}
    assert {int(seed) for row in claim["rows"] for seed in row["values"]} == trained
    assert claim["confirms"]["confirmation"]["metric"] == "test/accuracy"

    again = ravel("confirm", claim["sweep"], "--json")
    assert {**json.loads(again.stdout), "confirms": None} == {**claim, "confirms": None}

    more = ravel("confirm", claim["sweep"], "--seeds", "+1", "--json")
    assert more.returncode == 0, more.stderr
    assert [len(row["values"]) for row in json.loads(more.stdout)["rows"]] == [3, 3]
