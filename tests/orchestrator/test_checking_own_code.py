"""A user's own code of every kind in `ravel check`, a dry run and `ravel trial`: messages and exit codes."""

import subprocess
import sys

import pytest

from orchestrator.cli import main as cli
from orchestrator.errors import PreflightError, SpecError, TrialsRefused
from orchestrator.execution import local_trial, preflight, trial_checks
from orchestrator.planning.loading import parse_spec

MODULE = """
import math

import torch

from trainables.regularizers.protocol import Needs, Term


def net(num_classes, image_shape, width: int = 4):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(image_shape), num_classes))


class Pairs:
    def __init__(self, noise: float = 0.5):
        self.noise = noise

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((8, 8), index / 40), index % 2


class Penalty:
    needs = Needs(layers=None)

    def __init__(self, floor: float = 0.5):
        self.floor = floor

    def term(self, batch, memory):
        return Term((batch.logits ** 2).mean())


def attack(model, x, y, strength: float = 1.0):
    return x


def mix(images, labels, share: float = 0.5):
    return images, labels


def optimizer(params, lr, decay: float = 0.5):
    return torch.optim.SGD(params, lr=lr)


def cost(logits, labels, missed: float = 2.0):
    return {"mean": missed * (logits.argmax(1) != labels).double().mean(), "missed": missed}


cost.metrics = {"mean": {"unit": "EUR"}, "missed": {}}


def nothing(logits, labels):
    return math.nan


nothing.may_be_nan = True


def rest(logits, labels):
    return {"mean": 0.5, "most": 1.0}


rest.unit, rest.metrics = "EUR", {"most": {"unit": "kEUR"}}


def train(lr: float, epochs: int):
    for _ in range(epochs):
        yield {"loss": lr}
"""
KINDS = {  # where each kind of code is named, with one of its own arguments
    "model.name": ("kinds:net", "model.args.width"),
    "data.name": ("kinds:Pairs", "data.args.noise"),
    "regularizers.own.use": ("kinds:Penalty", "regularizers.own.floor"),
    "adversarial.attack": ("kinds:attack", "adversarial.args.strength"),
    "mixup.kind": ("kinds:mix", "mixup.args.share"),
    "optimizer.name": ("kinds:optimizer", "optimizer.args.decay"),
    "metrics.own.use": ("kinds:cost", "metrics.own.args.missed"),
    "task": ("kinds:train", "lr"),
}
EACH_KIND = pytest.mark.parametrize("place", KINDS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a module that has one of each kind, which the user works in."""
    (tmp_path / "kinds.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    sys.modules.pop("kinds", None)
    return tmp_path


def spec(trial, *, space=None, objective=None):
    of_function = "task" in trial
    usual = {"metric": "loss", "mode": "min"} if of_function else {"metric": "val/accuracy"}
    searched = {"seed": {"int": [0, 9]}} if not of_function else {}
    fixed = {} if "epochs" in (space or {}) else {"epochs": 1}
    document = {
        "name": "a",
        "trial": {**fixed, **({} if of_function else {"model.name": "mlp", "device": "cpu"}), **trial},
        "space": {"parameters": space or searched or {"lr": {"float": [0.1, 1.0]}}},
        "objective": objective or usual,
    }
    return parse_spec(repr(document))


def checked(*arguments, **fields):
    """Return the lines that a check refuses a spec with."""
    with pytest.raises(SpecError) as caught:
        trial_checks.check_own_code(spec(*arguments, **fields))
    return str(caught.value).splitlines()


def run(*words, monkeypatch, capsys):
    """Return the exit code of a command, and its lines."""
    monkeypatch.setattr(sys, "argv", ["ravel", *words])
    code = 0
    try:
        cli.main()
    except SystemExit as exit_:
        code = exit_.code or 0
    output = capsys.readouterr()
    return code, (output.out + output.err).splitlines()


# Names and arguments, whatever the kind


@EACH_KIND
def test_a_name_that_the_module_lacks_is_refused(place):
    (line,) = checked({place: "kinds:nope_at_all"})
    assert line.startswith(f"trial.{place}: module 'kinds' (")
    assert "has no 'nope_at_all'; " in line


@EACH_KIND
def test_an_argument_that_the_code_lacks_is_refused(place):
    use, argument = KINDS[place]
    (line,) = checked({place: use, f"{argument}z": 0.5})
    assert line.startswith(f"trial.{argument}z: {use.partition(':')[2]} has no such argument; did you mean ")


@EACH_KIND
def test_an_argument_of_another_type_is_refused_at_its_place_in_the_space(place):
    use, argument = KINDS[place]
    if place.startswith("metrics"):  # all trials of a sweep measure the same
        (line,), where = checked({place: use, argument: "low"}), "trial"
    else:
        (line,), where = checked({place: use}, space={argument: {"choice": ["low", "high"]}}), "space.parameters"
    kind = "an int" if place == "model.name" else "a float"
    assert line.startswith(f"{where}.{argument}: must be {kind}, got '")


@EACH_KIND
def test_right_code_passes(place):
    use, argument = KINDS[place]
    value, space = 2 if place == "model.name" else 0.5, {"epochs": {"int": [1, 2]}} if place == "task" else None
    trial = {place: use, argument: value}
    trial_checks.check_own_code(spec(trial, space=space))


def test_the_data_of_a_gan_are_checked_too():
    document = "{name: a, trial: {task: gan, data.name: 'kinds:Pairs', data.args.noize: 0.1}, "
    document += "objective: {metric: val/real_fake_entanglement, mode: max}}"
    with pytest.raises(SpecError, match=r"trial\.data\.args\.noize: Pairs has no such argument; did you mean 'noise'"):
        trial_checks.check_own_code(parse_spec(document))


def test_code_without_arguments_takes_none():
    (line,) = checked({"metrics.own.use": "kinds:nothing", "metrics.own.args.missed": 1})
    assert line == "trial.metrics.own.args.missed: nothing has no such argument; it takes none"


def test_a_wrong_range_is_one_line_and_not_one_for_each_sample():
    (line,) = checked({"model.name": "kinds:net"}, space={"model.args.width": {"float": [1.5, 4.5]}})
    assert line.startswith("space.parameters.model.args.width: must be an int, got ")


@pytest.mark.parametrize("metric", ["val/own/men", "val/own"])
def test_an_objective_is_one_of_the_numbers_that_a_metric_names(metric):
    objective = {"metric": metric, "mode": "min"}
    (line,) = checked({"metrics.own.use": "kinds:cost"}, objective=objective)
    assert line == (
        f"objective.metric: must be one that kinds:cost declares: val/own/mean, val/own/missed; got '{metric}'; "
        "correct it, or add the number to kinds:cost.metrics"
    )


@pytest.mark.parametrize(
    ("use", "metric"), [("cost", "val/own/mean"), ("rest", "val/own/mean"), ("nothing", "val/own")]
)
def test_an_objective_that_is_named_or_that_a_call_alone_can_know_passes(use, metric):
    trial_checks.check_own_code(spec({"metrics.own.use": f"kinds:{use}"}, objective={"metric": metric, "mode": "min"}))


def test_a_check_of_a_spec_without_own_code_imports_no_torch(folder):
    (folder / "spec.yaml").write_text("name: a\ntrial: {data.name: digits, model.name: cnn_bn}")
    program = (
        "import sys; from orchestrator.cli.run import check; check('spec.yaml', []); "
        "sys.exit(bool({'torch', 'ray', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# What a check says when nothing is wrong


def test_a_check_says_what_it_has_not_looked_at_and_which_baseline_runs(folder, monkeypatch, capsys):
    text = (
        "name: a\ntrial: {metrics.own.use: 'kinds:cost', snnl.layers: conv9}\n"
        "space: {parameters: {model.name: {choice: [mlp, cnn, preact_resnet18]}, optimizer.lr: {float: [0.2, 0.8]}, "
        "snnl.weight: {float: [-0.1, 0.1]}}}"
    )
    (folder / "spec.yaml").write_text(text)
    code, lines = run("check", "spec.yaml", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert lines[0].startswith("spec.yaml: valid. 32 trials over 3 parameters")
    assert lines[1] == "baseline: model.name cnn, optimizer.lr 0.5; off: snnl.weight"
    assert lines[2] == (
        "not built, read or called yet: networks and their layers, data, metrics; "
        "`ravel launch SPEC --dry-run` does that"
    )


# Exit codes


WRONG = "{name: a, trial: {model.name: mlp, snnl.layers: conv9}}"


def test_a_mistake_of_the_spec_that_a_dry_run_finds_exits_with_2(folder, monkeypatch, capsys):
    (folder / "spec.yaml").write_text(WRONG)
    code, lines = run("launch", "spec.yaml", "--dry-run", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, lines[0][:42]) == (2, "error: snnl.layers: 'conv9' is no layer of")


def test_a_mistake_of_the_spec_that_a_trial_finds_exits_with_2_without_a_class_name(folder, monkeypatch, capsys):
    (folder / "spec.yaml").write_text(WRONG)
    code, lines = run("trial", "spec.yaml", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, lines[0][:42]) == (2, "error: snnl.layers: 'conv9' is no layer of")


def test_data_that_are_not_here_exit_with_3_from_a_trial_and_from_a_dry_run(folder, monkeypatch, capsys):
    (folder / "spec.yaml").write_text("{name: a, trial: {data.name: mnist, data.root: nowhere}}")
    for words in (("trial", "spec.yaml"), ("launch", "spec.yaml", "--dry-run")):
        code, lines = run(*words, monkeypatch=monkeypatch, capsys=capsys)
        assert (code, lines[0][:40]) == (3, "error: data.name: the data set 'mnist' i")


def test_a_refusal_is_the_specs_fault_if_any_of_its_problems_is(folder):
    with pytest.raises(TrialsRefused, match="conv9"):
        preflight.check(parse_spec(WRONG), str(folder / "results"), tracking_uri="http://127.0.0.1:9")
    with pytest.raises(PreflightError) as caught:
        preflight.check(parse_spec("name: a"), str(folder / "results"), tracking_uri="http://127.0.0.1:9")
    assert (caught.value.exit_code, TrialsRefused.exit_code) == (3, 2)


# An objective that is not finite


def test_a_trial_whose_objective_is_not_finite_ends_with_exit_code_3(folder, monkeypatch, capsys):
    text = "{name: a, trial: {model.name: mlp, epochs: 2, metrics.own.use: 'kinds:nothing'}, objective: val/own min}"
    (folder / "spec.yaml").write_text(text)
    code, lines = run("trial", "spec.yaml", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 3
    assert lines[1] == "note: val/own is nan; a sweep ends the trial as diverged if this is a rung or the last epoch"
    assert lines[-1].startswith("error: epoch 2: the objective val/own is nan; a sweep ends this trial as diverged; ")


def test_another_metric_of_ones_own_that_is_not_finite_is_a_note_once():
    lines = []
    local_trial.run(spec({"metrics.own.use": "kinds:nothing", "epochs": 2}), say=lines.append)
    assert [line for line in lines if line.startswith("note")] == [
        "note: val/own is nan; in a sweep this epoch has no value of it"
    ]
    assert len(lines) == 3
