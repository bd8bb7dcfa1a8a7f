"""Users' own code in a sweep: found in the folder of the launch, recorded with the plan, compared at a resume.

That a resume says what has changed is in test_own_search.
"""

import json
import subprocess
import sys

import pytest
from commands import RAVEL

from orchestrator.planning.provenance import changed_code, collect, uses_own_code
from orchestrator.spec.model import SweepSpec
from trainables.import_paths import code_digest, find_in, load

PROCESSES = ("--address", "processes")
FUNCTION = """
import helper_of_mine

def train(lr: float, epochs: int):
    for epoch in range(epochs):
        yield {"loss": helper_of_mine.loss(lr, epoch), "accuracy": 1 - 1 / (epoch + 2)}
"""
HELPER = "def loss(lr, epoch): return (lr - 0.1) ** 2 + 1 / (epoch + 1)"
SPEC = """
name: mine
trial: {task: "function_of_mine:train", epochs: 9}
space: {parameters: {lr: {float: [0.001, 1.0], log: true}}}
objective: loss min
search: {num_trials: 12}
scheduler: {kind: promotion}
resources: {max_concurrent: 1}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's module, one that it imports, and a spec; what is imported is forgotten afterwards."""
    (tmp_path / "function_of_mine.py").write_text(FUNCTION)
    (tmp_path / "helper_of_mine.py").write_text(HELPER)
    (tmp_path / "sweep.yaml").write_text(SPEC)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("function_of_mine", "helper_of_mine"):
        sys.modules.pop(name, None)


def ravel(*words, cwd):
    return subprocess.run([RAVEL, *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_digest_of_every_imported_module_of_the_folder_is_recorded_and_a_change_is_seen(folder):
    spec = SweepSpec(name="mine", trial={"task": "function_of_mine:train"}, objective="loss min")
    find_in(folder)
    load("function_of_mine:train", group="ravel.tasks", place="task")
    launched = collect(folder, spec=spec)
    assert set(launched.code) == {"function_of_mine.py", "helper_of_mine.py"} == set(code_digest(folder))
    assert changed_code(launched, folder) == []
    (folder / "helper_of_mine.py").write_text(HELPER + " + 0")
    assert changed_code(launched, folder) == ["helper_of_mine.py"]


def test_a_sweep_of_our_own_code_records_none(folder):
    spec = SweepSpec(name="ours")
    assert not uses_own_code(spec)
    assert collect(folder, spec=spec).code == {}


def test_check_reports_wrong_arguments_of_a_function_in_the_folder_of_the_command(folder, ravel, monkeypatch):
    monkeypatch.chdir(folder)
    ravel("check", "sweep.yaml")
    _, wrong = ravel("check", "sweep.yaml", "--set", "trial.epoch=3", code=2)
    assert wrong == "trial.epoch: train has no such argument; valid: lr\n"
    _, missing = ravel("check", "sweep.yaml", "--set", "trial.task=function_of_mine:trian", code=2)
    assert "has no 'trian'; did you mean 'train'?" in missing


@pytest.mark.parametrize(("objective", "message"), [("loss", "mode must be 'max' or 'min' for 'loss'")])
def test_the_direction_of_a_metric_of_ones_own_is_required(folder, objective, message, ravel, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "sweep.yaml").write_text(SPEC.replace("loss min", objective))
    assert message in ravel("check", "sweep.yaml", code=2)[1]


@pytest.mark.timeout(240)
def test_a_function_is_swept_with_promotion_and_an_objective_that_it_does_not_report_is_named(folder):
    done = ravel("launch", "sweep.yaml", *PROCESSES, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "12/12 trials" in done.stdout
    assert "every decision came out as recorded" in ravel("replay", "mine", cwd=folder).stdout
    best = json.loads(ravel("best", "mine", "--json", cwd=folder).stdout)[0]
    assert best["epoch"] == 9
    other = ("name=other", "objective=lost min", "search.num_trials=2")
    settings = [word for setting in other for word in ("--set", setting)]
    failing = ravel("launch", "sweep.yaml", *PROCESSES, *settings, cwd=folder)
    assert failing.returncode == 1
    status = ravel("status", "other", cwd=folder).stdout
    assert "epoch 1 must report lost, it reported loss, accuracy; yield or return it" in status
