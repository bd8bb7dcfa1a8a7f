"""A user's network in a spec: checked before anything starts, and shown by `ravel model show`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main as cli
from orchestrator.errors import PreflightError, SpecError
from orchestrator.execution import preflight, trial_checks
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.trial_configs import located
from orchestrator.state.sweep_folder import SweepFolder

NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels, width: int = 4, dropout: float = 0.1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.drop(self.conv(x).mean((2, 3))))


def linear(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""
SPEC = "name: a\ntrial: {{model.name: my_nets:{name}{trial}}}\nspace: {{parameters: {{{space}}}}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's module, which the user works in."""
    (tmp_path / "my_nets.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    sys.modules.pop("my_nets", None)
    return tmp_path


def spec(name="Net", *, trial="", space="snnl.weight: {float: [0.0, 1.0]}"):
    return parse_spec(SPEC.format(name=name, trial=trial, space=space))


def ravel(*words):
    """Run a command, and return its exit code and what it says, errors included."""
    result = CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "200"})
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def test_a_sweep_of_a_users_network_passes(folder):
    searched = spec(trial=", snnl.layers: conv, mixup.layers: input+conv", space="model.args.width: {int: [2, 8]}")
    preflight.check(searched, str(folder / "results"))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"trial": ", snnl.layers: conv9"}, "snnl.layers: 'conv9' is no layer of this model; did you mean 'conv'?"),
        ({"name": "Nett"}, "model.name: module 'my_nets'"),
        ({"space": "model.args.width: {int: [0, 3]}"}, "model.args: my_nets:Net cannot be built: "),
        (
            {"name": "linear", "space": "mixup.alpha: {float: [0.0, 1.0]}", "trial": ", mixup.layers: hidden"},
            "mixup.layers: must name a layer, got 'hidden', of which this model has none",
        ),
        ({"trial": ", model.args.dropout: 1.5"}, "model.args: my_nets:Net cannot be built: ValueError: dropout prob"),
    ],
)
def test_a_launch_refuses_a_network_that_cannot_be_trained(folder, wrong, problem):
    with pytest.raises(PreflightError) as caught:
        preflight.check(spec(**wrong), str(folder / "results"))
    assert [line[: len(problem)] for line in caught.value.problems] == [problem]


def test_an_objective_at_a_module_needs_it_among_the_layers(folder):
    objective = "objective: {metric: entanglement/fc}\n"
    without, named = (SPEC.format(name="Net", trial=trial, space="") for trial in ("", ", snnl.layers: conv+fc"))
    with pytest.raises(PreflightError, match=r"objective\.metric: must be a tap that is measured, got 'fc'; add it to"):
        preflight.check(parse_spec(without + objective), str(folder / "results"))
    preflight.check(parse_spec(named + objective), str(folder / "results"))


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"trial": ", model.args.width: wide"}, "trial.model.args.width: must be an int, got 'wide'"),
        ({"trial": ", model.args.widht: 3"}, "trial.model.args.widht: Net has no such argument; did you mean 'width'?"),
        (
            {"space": "model.args.dropout: {choice: [0.1, much]}"},
            "space.parameters.model.args.dropout: must be a float, got 'much'",
        ),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_check_of_a_spec_reads_the_signature(wrong, place):
    with pytest.raises(SpecError) as caught:
        trial_checks.check_own_code(spec(**wrong))
    assert str(caught.value) == place


def test_a_check_of_a_spec_without_own_code_imports_no_torch(folder):
    (folder / "spec.yaml").write_text("name: a\n")
    code = "import sys; sys.argv[1:] = ['check', 'spec.yaml']; from orchestrator.cli.main import app\n"
    code += "app(standalone_mode=False); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_command_check_refuses_a_wrong_argument(folder):
    (folder / "spec.yaml").write_text(SPEC.format(name="Net", trial=", model.args.width: wide", space=""))
    code, said = ravel("check", "spec.yaml")
    assert code != 0
    assert "trial.model.args.width: must be an int, got 'wide'" in said


def test_a_searched_network_is_built_for_a_bounded_number_of_points(folder, monkeypatch):
    import trainables.models

    built, build = [], trainables.models.build
    monkeypatch.setattr(trainables.models, "build", lambda *a, **named: built.append(1) or build(*a, **named))
    preflight.check(spec(space="model.args.dropout: {float: [0.0, 0.9]}"), str(folder / "results"))
    assert len(built) == preflight.MAX_NETWORKS


def test_a_file_of_weights_is_located_from_the_folder_of_the_launch():
    config = {"model.name": "torchvision:resnet18", "model.args.weights": "weights.pth"}
    assert located(config, Path("/home/ada"))["model.args.weights"] == "/home/ada/weights.pth"
    named = {**config, "model.args.weights": "IMAGENET1K_V1"}
    assert located(named, Path("/home/ada")) == named


@pytest.mark.usefixtures("folder")
def test_a_network_is_shown_with_the_names_of_its_layers():
    code, said = ravel("model", "show", "my_nets:Net", "--set", "trial.model.args.width=6", "--json")
    assert code == 0, said
    layers = {layer["name"]: layer for layer in json.loads(said)["layers"]}
    assert list(layers) == ["input", "conv", "drop", "penultimate", "fc", "logits"]
    assert layers["conv"] == {
        "name": "conv",
        "kind": "Conv2d",
        "shape": [6, 6, 6],
        "parameters": 60,
        "tap": "hidden",
        "boundary": "hidden",
    }
    assert (layers["fc"]["tap"], layers["fc"]["boundary"]) == ("", None)
    assert (layers["input"]["tap"], layers["input"]["boundary"]) == (None, "all")


def test_the_table_of_a_network_names_what_cannot_be_named(folder):
    text = NETWORK.replace("self.conv(x)", "self.drop(self.conv(x))")
    (folder / "my_nets.py").write_text(text)
    code, said = ravel("model", "show", "my_nets:Net", "--image", "3x16x16", "--classes", "7")
    assert code == 0, said
    assert "my_nets:Net: " in said
    assert "images of 3x16x16, 7 classes" in said
    assert [line.split() for line in said.splitlines() if line.startswith("drop")] == [
        ["drop", "it", "runs", "2", "times"]
    ]


def test_the_network_of_a_spec_is_shown(folder):
    (folder / "spec.yaml").write_text(SPEC.format(name="Net", trial=", data.name: mnist", space=""))
    code, said = ravel("model", "show", "spec.yaml", "--json")
    assert code == 0, said
    assert json.loads(said)["layers"][0]["shape"] == [1, 28, 28]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("my_nets:Nett",), "model.name: module 'my_nets'"),
        (("my_nets:Net", "--image", "28x28"), "--image: must be channels x height x width, such as 3x32x32, got"),
        (("my_nets:Net", "--image", "1x2x2"), "model.name: my_nets:Net fails on images of 1x2x2: RuntimeError"),
        (("cnn_bnn",), "trial.model.name: must be one of 'mlp'"),
        (("cnn_bn", "--set", "trial.task=gan"), "trial"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_network_that_cannot_be_shown_says_why(words, problem):
    code, said = ravel("model", "show", *words)
    assert code != 0
    assert problem in said


def test_a_served_network_of_a_user_is_found_where_its_module_and_the_folder_of_the_launch_are_not(folder, tmp_path):
    from orchestrator.tracking.registry import own_code, save_model
    from trainables.config.trial import TrialConfig
    from trainables.import_paths import find_in
    from trainables.tasks.classifier.run import start

    find_in(folder)
    trial = start(TrialConfig.from_point({"model.name": "my_nets:Net", "epochs": 1, "data.name": "digits"}))
    trial.run_epoch()
    trial.save(tmp_path / "checkpoint")
    plan = make_plan(spec(), SweepFolder(tmp_path / "a-1"), slots=1, now=5.0, working_directory=folder)
    assert set(plan.provenance.code) == {"my_nets.py"}
    save_model(tmp_path / "checkpoint", tmp_path / "model", code=own_code(plan, tmp_path / "code"))
    (folder / "my_nets.py").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import sys, numpy; from mlflow import pyfunc; model = pyfunc.load_model(sys.argv[1])\n"
    code += "print(model.predict(numpy.zeros((2, 1, 8, 8), dtype='float32')).shape)"
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    here = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(here)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "(2, 10)\n"), done.stderr


def test_a_users_modules_are_found_here_if_this_machine_lacks_the_folder_of_the_launch(folder, tmp_path):
    from orchestrator.planning.provenance import find_code

    assert find_code(str(tmp_path / "gone")) == folder
    assert sys.path[0] == str(folder)
    launched_from = tmp_path / "launch"
    launched_from.mkdir()
    assert find_code(str(launched_from)) == launched_from
