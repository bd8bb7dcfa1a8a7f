"""Optimizers and batch transforms of a user's own in a spec: checked before Ray starts, recorded with the plan."""

import shutil
import sys
from pathlib import Path

import pytest

from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight, trial_checks
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.provenance import collect

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = """
name: own
trial: {model.name: mlp, epochs: 3, device: cpu, mixup.kind: "own_batch_transform:resize_mix"}
space:
  parameters:
    optimizer.name: {choice: ["own_optimizer:Lion", "torch.optim:RMSprop", sgd]}
    optimizer.lr: {float: [0.0003, 0.01], log: true}
    optimizer.args.beta_1: {float: [0.5, 0.95], when: {optimizer.name: "own_optimizer:Lion"}}
    mixup.alpha: {choice: [0.0, 1.0]}
    mixup.args.low: {float: [0.1, 0.5], when: {mixup.alpha: 1.0}}
objective: {metric: val/accuracy, mode: max}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a user's modules; what is imported is forgotten afterwards."""
    for name in ("own_optimizer", "own_batch_transform"):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
        sys.modules.pop(name, None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_optimizer", "own_batch_transform"):
        sys.modules.pop(name, None)


def test_a_right_spec_passes_and_its_modules_are_recorded_with_the_plan(folder):
    spec = parse_spec(SPEC)
    trial_checks.check_own_code(spec)
    preflight.check(spec, folder / "results")
    assert set(collect(folder, spec=spec).code) == {"own_optimizer.py", "own_batch_transform.py"}


WRONG = {
    "optimizer.args.beta_1": ("beta_1", "beta1", "space.parameters.optimizer.args.beta1: Lion has no such argument"),
    "mixup.args.low": ("{float: [0.1, 0.5]", "{choice: [a, b]", "space.parameters.mixup.args.low: must be a float"),
    "mixup.alpha": ("[0.0, 1.0]}", "[0.0, 0.5]}", "space.parameters.mixup.alpha: must be 1 .on. or 0 .off."),
    "optimizer.momentum": ("epochs: 3", "epochs: 3, optimizer.momentum: 0.5", "trial.optimizer.momentum: must be left"),
    "optimizer.name": (":Lion", ":Lyon", "space.parameters.optimizer.name: .* has no 'Lyon'; did you mean 'Lion'"),
}


@pytest.mark.parametrize(("old", "new", "expected"), WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("folder")
def test_ravel_check_names_the_place_of_a_wrong_argument(old, new, expected):
    with pytest.raises(SpecError, match=expected):
        trial_checks.check_own_code(parse_spec(SPEC.replace(old, new)))


IN_STEPS = {
    "a closure": ("torch.optim:RMSprop", "torch.optim:LBFGS", "optimizer.name: LBFGS.step requires closure"),
    "a range": ("[0.5, 0.95]", "[0.5, 1.0]", "optimizer.args: Lion raises 'ValueError: beta_1, beta_2: must be in"),
    "hidden layers": ("epochs: 3", "epochs: 3, mixup.layers: hidden", "mixup.layers: must be 'input', as resize_mix"),
    "a range of the transform": ("[0.1, 0.5]", "[0.1, 0.95]", "mixup.kind: resize_mix raises 'ValueError: low, high"),
}


@pytest.mark.parametrize(("old", "new", "expected"), IN_STEPS.values(), ids=IN_STEPS)
def test_preflight_finds_before_ray_starts_what_steps_show(folder, old, new, expected):
    with pytest.raises(PreflightError) as caught:
        preflight.check(parse_spec(SPEC.replace(old, new)), folder / "results")
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems
