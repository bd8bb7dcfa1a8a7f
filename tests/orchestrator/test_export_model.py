"""Exported models: the program gives the model's own logits, and runs without Ravel; predictions of image files."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import varied_sweep as varied
from PIL import Image

import ravel
from orchestrator.analysis.result import SweepResult
from orchestrator.errors import OrchestratorError
from orchestrator.export import prediction, registry
from orchestrator.export.model_document import ModelDocument
from orchestrator.export.program import program_bytes
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from trainables import TrialConfig
from trainables.config.sections import ModelConfig
from trainables.data import load_splits
from trainables.models import MODELS, build
from trainables.tasks.classifier.run import start

safetensors = pytest.importorskip("safetensors.torch", reason="of the extra export")
RAVEL = Path(sys.executable).with_name("ravel")
POINT = {"data.name": "digits", "model.name": "mlp", "model.width": 0.25, "batch_size": 64, "precision": "float32"}
OWN = {name: value for name, value in POINT.items() if name != "model.width"}
SIZES = (1, 2, 3, 64, 201)
NETS = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 36, num_classes)

    def forward(self, images):
        return self.head(self.body(images))

class Branching(Plain):
    def forward(self, images):
        hidden = self.body(images)
        return self.head(hidden if float(hidden.detach().sum()) > -1e9 else hidden * 2)

class Sampling(Plain):
    def forward(self, images):
        return super().forward(images) + torch.rand_like(images[:, 0, 0, :1])
"""


def trained(root, points, *, text="name: digits\ntrial: {epochs: 2}\nspace: {use: [snnl]}\n"):
    """Train a trial of each point, without Ray, into a sweep that has ended; return its folder."""
    folder = SweepFolder(root / "results" / "digits-1")
    make_plan(parse_spec(text), folder, slots=2, now=5.0, working_directory=root).save(folder)
    with EventLog(folder.events) as log:
        log.append(SweepStarted(time=1.0, generation=1, host="here", pid=1))
        for index, point in enumerate(points):
            trial, config = f"t{index:03d}", {**point, "seed": index}
            log.append(TrialCreated(time=2.0, trial=trial, origin="search", point={"snnl.weight": 0.0}, config=config))
            log.append(AttemptStarted(time=2.0, trial=trial, attempt=1))
            loop = start(TrialConfig.from_point(config))
            while not loop.finished:
                report = loop.run_epoch()
                head = {"time": 3.0, "trial": trial, "epoch": report.epoch}
                metrics = {name: float(value) for name, value in report.metrics.items()}
                log.append(EpochReported(**head, attempt=1, since_restore=report.epoch, metrics=metrics))
                path = f"tune/{trial}/{report.epoch}"
                loop.save(folder.path / path)
                log.append(CheckpointSaved(**head, path=path))
            log.append(TrialEnded(time=4.0, trial=trial, status="completed"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    points = [{**POINT, "epochs": 2}, {**POINT, "epochs": 2, "optimizer.lr": 1e-4}]
    return trained(tmp_path_factory.mktemp("trained"), points)


@pytest.fixture(scope="module")
def model(folder):
    """The exported model of the best trial."""
    return registry.export(folder, "model", folder.path.parent.parent / "model").path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Validation images as files: their names, and their labels."""
    place, split = tmp_path_factory.mktemp("images"), load_splits(TrialConfig.from_point(POINT).data).val
    for index in range(5):
        Image.fromarray(split.images_NCHW[index, 0].numpy()).save(place / f"{index}.png")
    return [place / f"{index}.png" for index in range(5)], split.labels_N[:5].tolist()


def program_of(place):
    return torch.export.load(place / "model.pt2").module()


def assert_equal_logits(place, network, shape):
    program = program_of(place)
    for size in SIZES:
        pixels = torch.rand(size, *shape, generator=torch.Generator().manual_seed(size))
        with torch.inference_mode():
            torch.testing.assert_close(program(pixels), network(pixels), rtol=1e-5, atol=1e-6)


def test_the_program_gives_the_logits_of_the_model_for_any_number_of_images(folder, model):
    assert_equal_logits(model, SweepResult.read(folder).best().load_model(), (1, 8, 8))


def test_the_program_has_the_accuracy_of_the_log_on_raw_pixels(folder, model):
    split, best = load_splits(TrialConfig.from_point(POINT).data).val, SweepResult.read(folder).best()
    with torch.inference_mode():
        predicted = program_of(model)(split.images_NCHW.float() / 255).argmax(1)
    assert (predicted == split.labels_N).float().mean().item() == pytest.approx(best.score, abs=1e-6)


def test_the_page_uses_the_model_in_five_lines_without_ravel(model):
    (code,) = re.findall(r"```python\n(.*?)```", (model / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) == 5
    block = (
        "import sys\nfor name in ('ravel', 'orchestrator', 'trainables', 'search_spaces'): sys.modules[name] = None\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", block + code]
    done = subprocess.run(command, cwd=model, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.replace("'", '"'))[0] in [str(digit) for digit in range(10)]


def test_the_description_has_all_that_a_reader_needs(folder, model):
    result = SweepResult.read(folder)
    best, document = result.best(), ModelDocument.parse((model / "model.json").read_bytes(), place="model.json")
    network = best.load_model()
    assert (document.sweep, document.trial, document.epoch) == ("digits-1", best.trial.id, 2)
    assert (document.objective.metric, document.objective.value, document.objective.epoch) == (
        "val/accuracy",
        best.score,
        2,
    )
    assert document.classes == tuple("0123456789")
    assert document.image.shape == (1, 8, 8)
    assert document.image.mean == (pytest.approx(network.mean.item()),)
    assert document.config == best.config
    assert document.versions["torch"] == torch.__version__
    assert document.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_the_weights_are_those_of_the_checkpoint_bit_for_bit(folder, model):
    state = SweepResult.read(folder).best().load_model().state_dict()
    saved = safetensors.load_file(model / "model.safetensors")
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in state)


def test_another_trial_is_exported_by_its_id_also_in_python(folder, tmp_path):
    other = next(name for name in ("t000", "t001") if name != SweepResult.read(folder).best().trial.id)
    place = ravel.open(folder.path).export("model", tmp_path / "other", trial=other)
    assert json.loads((place / "model.json").read_text())["trial"] == other
    with pytest.raises(OrchestratorError, match="no trial 't009'"):
        registry.export(folder, "model", tmp_path / "none", trial="t009")


@pytest.mark.parametrize(
    "changed",
    [
        {"model.name": "cnn_bn", "model.width": 0.25, "optimizer.ema_decay": 0.9},
        {"model.name": "nets:Plain"},
        {"model.name": "nets:Plain", "model.normalize": False},
    ],
    ids=["averaged weights", "own network", "without normalisation"],
)
def test_every_kind_of_network_is_exported_as_it_was_evaluated(changed, tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    folder = trained(tmp_path, [{**OWN, **changed, "epochs": 1}])
    place = registry.export(folder, "model", tmp_path / "out").path
    assert_equal_logits(place, SweepResult.read(folder).best().load_model(), (1, 8, 8))


@pytest.mark.parametrize("name", [*MODELS, "torchvision:resnet18"])
def test_every_network_of_the_registry_is_a_program(name):
    width = {} if ":" in name else {"width": 0.1}
    network = build(ModelConfig(name=name, **width), image_shape=(3, 32, 32), num_classes=10).eval()
    network.standardise([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
    program = torch.export.load(io.BytesIO(program_bytes(network, (3, 32, 32)))).module()
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(program(pixels), network(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["Branching", "Sampling"])
def test_a_network_that_no_program_can_express_has_its_weights_exported_and_the_reason(network, tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    folder = trained(tmp_path, [{**OWN, "model.name": f"nets:{network}", "epochs": 1}])
    with pytest.raises(
        OrchestratorError, match=rf"nets:{network}: torch.export cannot express it \(.+\); .*has its weights"
    ):
        registry.export(folder, "model", tmp_path / "out")
    place = tmp_path / "out"
    assert sorted(path.name for path in place.iterdir()) == [
        "README.md",
        "export.json",
        "model.json",
        "model.safetensors",
    ]
    state = SweepResult.read(folder).best().load_model().state_dict()
    saved = safetensors.load_file(place / "model.safetensors")
    assert all(torch.equal(saved[name], state[name]) for name in state)
    with pytest.raises(OrchestratorError, match=f"has no program.*ravel predict {folder.sweep}:t000"):
        prediction.of_folder(place)


def test_a_trial_of_another_task_is_refused(tmp_path):
    text = """
name: own
trial: {task: mine:train, epochs: 9}
space: {parameters: {lr: {float: [0.1, 1.0]}}}
objective: {metric: val/accuracy, mode: max}
"""
    folder = varied.write(tmp_path, text=text, name="own-1", trials={"t001": ({"lr": 0.5}, "completed", [0.5])})
    with pytest.raises(OrchestratorError, match="only a classifier is"):
        registry.export(folder, "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Predictions


def test_predictions_are_the_softmax_of_the_model_best_first(folder, model, images):
    paths, _ = images
    best = SweepResult.read(folder).best().load_model()
    predictions, bad = prediction.predict(prediction.of_folder(model), paths)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path)))[None] for path in paths]).float() / 255
    with torch.inference_mode():
        expected = best(pixels).double().softmax(1)
    assert bad == []
    for item, row in zip(predictions, expected, strict=True):
        assert [p for _, _, p in item.ranked] == sorted((p for _, _, p in item.ranked), reverse=True)
        assert {k: p for _, k, p in item.ranked} == pytest.approx(dict(enumerate(row.tolist())), abs=1e-6)
        assert sum(p for _, _, p in item.ranked) == pytest.approx(1)


def test_a_model_of_a_sweep_predicts_as_the_exported_one(folder, model, images):
    paths, _ = images
    best = SweepResult.read(folder).best().trial.id
    storage = str(folder.path.parent)
    of_folder = prediction.predict(prediction.find_predictor(str(model), storage=storage), paths)[0]
    for text in ("digits-1", f"digits-1:{best}", f"digits-1/{best}", f"{folder.path}:{best}"):
        of_sweep = prediction.predict(prediction.find_predictor(text, storage=storage), paths)[0]
        for one, other in zip(of_sweep, of_folder, strict=True):
            assert [k for _, k, _ in one.ranked[:1]] == [k for _, k, _ in other.ranked[:1]]
            assert one.ranked[0][2] == pytest.approx(other.ranked[0][2], abs=1e-6)


def test_more_images_than_a_batch_are_predicted_in_order(model, images, monkeypatch):
    monkeypatch.setattr(prediction, "BATCH_SIZE", 2)
    predictions, _ = prediction.predict(prediction.of_folder(model), images[0])
    assert [item.path for item in predictions] == list(map(str, images[0]))


def run(*arguments, cwd):
    return subprocess.run(
        [str(RAVEL), "predict", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_command_predicts_the_good_files_and_names_the_bad_ones(model, images, tmp_path):
    for path in images[0][:2]:
        shutil.copy(path, tmp_path)
    Image.new("RGB", (40, 20)).save(tmp_path / "large.jpg")
    (tmp_path / "bad.png").write_text("no image")
    done = run(model, "0.png", "bad.png", "large.jpg", "absent.png", "1.png", "--top", "2", cwd=tmp_path)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["0.png", "large.jpg", "1.png"]
    assert all(re.fullmatch(r"\S+: \d [01]\.\d{4}, \d 0\.\d{4}", line) for line in lines)
    assert done.stderr.splitlines() == [
        "resized and cut to 8x8, the size of the training images: large.jpg (40x20)",
        "converted to grey, as the training images are: large.jpg (RGB)",
        "error: bad.png: cannot be read (cannot identify image file 'bad.png'); name an image file",
        "absent.png: cannot be read (No such file or directory); name an image file",
    ]


def test_json_has_the_classes_and_the_files_that_failed(model, images, tmp_path):
    (tmp_path / "bad.png").touch()
    done = run(model, images[0][0], tmp_path / "bad.png", "--json", "--top", "3", cwd=tmp_path)
    good, bad = json.loads(done.stdout)
    assert (good["width"], good["height"], good["mode"], len(good["classes"])) == (8, 8, "L", 3)
    assert good["classes"][0].keys() == {"class", "index", "probability"}
    assert bad["image"] == str(tmp_path / "bad.png")
    assert "cannot be read" in bad["error"]


def test_what_is_no_model_is_refused(tmp_path, model):
    with pytest.raises(OrchestratorError, match=r"an exported model must hold model.json; name one, or SWEEP"):
        prediction.find_predictor(str(tmp_path), storage="results")
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    (copy / "model.pt2").write_bytes(b"damaged")
    with pytest.raises(OrchestratorError, match=r"model.pt2: cannot be loaded \(.*; torch .* wrote it, this is"):
        prediction.of_folder(copy)
    (copy / "model.json").write_text('{"format": 2}')
    with pytest.raises(OrchestratorError, match=r"model.json: must be the description of a model"):
        prediction.of_folder(copy)
