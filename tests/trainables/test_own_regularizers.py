"""Regularizers of a user's own: in a configuration, in a step, in a checkpoint, by name."""

import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator.planning.loading import load_spec
from orchestrator.planning.points import first_points
from orchestrator.planning.validation import configured
from orchestrator.spec.json_schema import sweep_schema
from orchestrator.spec.model import SweepSpec
from trainables.config.regularizers import NAMES, RESERVED
from trainables.config.trial import TrialConfig
from trainables.engine import checkpoint as state
from trainables.errors import Diverged
from trainables.import_paths import registered
from trainables.metrics import CLASSIFIER_METRICS, lookup
from trainables.regularizers.fragments import fragment
from trainables.regularizers.preflight_checks import check_regularizers
from trainables.tasks.classifier.run import restore, start
from trainables.tasks.registry import CLASSIFIER, GAN

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SMALL = {"epochs": 2, "device": "cpu", "precision": "float32", "evaluation.robust_epsilon": 0.0, "model.name": "mlp"}
CENTER = {"regularizers.center.use": "center_loss:CenterLoss", "regularizers.center.weight": 0.01}
counter = itertools.count()


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module and returns its name."""

    def write(body):
        name = f"own_regularizer_{next(counter)}"
        head = "import torch\nfrom trainables.regularizers.protocol import Batch, Needs, Term\n\n"
        (tmp_path / f"{name}.py").write_text(head + body)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return write


def config(**point):
    return TrialConfig.from_point({**SMALL, **point})


def trained(**point):
    loop = start(config(**point))
    return loop, loop.run_all()


def weights(loop):
    return torch.cat([value.flatten().double() for value in loop.run.model.state_dict().values()])


# In a configuration


def test_a_labelled_regularizer_survives_the_way_there_and_back_also_through_json():
    point = {**CENTER, "regularizers.center.rate": 0.3, "regularizers.a.use": "my:A", "regularizers.a.sides": [1, 2]}
    settings = TrialConfig.from_point(point)
    assert TrialConfig.from_point(settings.to_point()) == settings
    assert TrialConfig.model_validate_json(settings.model_dump_json()) == settings
    assert settings.to_point().items() >= {**CENTER, "regularizers.center.rate": 0.3}.items()
    assert hash(settings) == hash(TrialConfig.from_point(dict(reversed(point.items()))))
    assert list(settings.regularizers.by_label) == ["a", "center"]


def test_a_trial_without_labels_is_described_as_before():
    assert not [name for name in TrialConfig().to_point() if name.startswith("regularizers")]
    old = TrialConfig().model_dump(exclude={"regularizers"})
    assert TrialConfig.model_validate(old) == TrialConfig()


def test_no_label_is_the_name_of_another_metric_of_training():
    taken = {metric.name.removeprefix("train/") for metric in CLASSIFIER_METRICS if metric.name.startswith("train/")}
    assert taken - {"<label>"} <= set(RESERVED)


def test_the_weights_of_labels_are_strengths_and_their_passes_cost():
    names = ["regularizers.b.weight", "regularizers.a.weight", "regularizers.a.weights", "optimizer.lr"]
    assert CLASSIFIER.strengths_of(names)[3:] == ("regularizers.a.weight", "regularizers.b.weight")
    assert GAN.strengths_of(names) == GAN.strengths
    point = {"regularizers.a.use": "my:A", "regularizers.a.passes": 2}
    assert CLASSIFIER.passes_per_epoch(point) == 1
    assert CLASSIFIER.passes_per_epoch({**point, "regularizers.a.weight": 0.5}) == 3


def test_an_editor_completes_our_names_and_accepts_those_of_a_user():
    enum, *patterns = sweep_schema()["properties"]["trial"]["propertyNames"]["anyOf"]
    assert "snnl.weight" in enum["enum"]
    for name, accepted in {
        "regularizers.center.rate": True,
        "model.args.width": True,
        "regularizers.center": False,
        "regularizers.Center.rate": False,
        "modelXargs.width": False,
    }.items():
        assert any(re.search(pattern["pattern"], name) for pattern in patterns) == accepted == TrialConfig.accepts(name)


def test_reading_a_configuration_imports_no_code_of_a_user():
    TrialConfig.from_point({"regularizers.a.use": "no_such_module:A", "regularizers.a.weight": 1.0})


def test_a_point_of_a_search_without_a_weight_leaves_the_regularizer_off():
    weight = "regularizers.center.weight"
    spec = SweepSpec(
        name="own",
        trial={"regularizers.center.use": "center_loss:CenterLoss"},
        space={"parameters": {weight: {"zero_or": {"float": [0.1, 1.0]}}, "optimizer.lr": {"float": [0.1, 0.2]}}},
        search={"points": [{"optimizer.lr": 0.1}]},
    )
    assert [point[weight] for _, point in first_points(spec)] == [0, 0]


# In a step


def test_the_loss_has_weight_times_term_and_reports_the_term_and_its_metrics():
    _, [report] = trained(**CENTER, **{"epochs": 1, "regularizers.center.rate": 0.5})
    metrics = report.metrics
    expected = metrics["train/ce"] + 0.01 * metrics["train/center"]
    assert metrics["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["train/center/spread"] > 0
    assert all(lookup(name).name == name for name in metrics)


def test_a_regularizer_of_weight_0_changes_no_bit_and_reports_nothing():
    plain, _ = trained()
    off, reports = trained(**{**CENTER, "regularizers.center.weight": 0.0})
    assert torch.equal(weights(plain), weights(off))
    assert not [name for name in reports[0].metrics if "center" in name]


@pytest.mark.parametrize("point", [{}, {"mixup.alpha": 1.0}, {"mixup.alpha": 1.0, "on_mixed": True}])
@pytest.mark.parametrize("mode", ["minimised", "learned"])
def test_our_own_loss_under_a_label_is_bit_for_bit_that_of_its_section(point, mode):
    point = dict(point)
    on_mixed = point.pop("on_mixed", False)
    settings = {"weight": 0.1, "temperature_mode": mode, "on_mixed": on_mixed, "layers": "all"}
    section, _ = trained(**point, **{f"snnl.{name}": value for name, value in settings.items()})
    label, _ = trained(
        **point, **{f"regularizers.a.{name}": value for name, value in {"use": "snnl", **settings}.items()}
    )
    assert torch.equal(weights(section), weights(label))


def test_a_regularizer_pulls_features_to_their_centres():
    loose, tight = (
        trained(**{**CENTER, "regularizers.center.weight": weight})[1][-1].metrics["train/center"]
        for weight in (1e-6, 0.1)
    )
    assert tight < 0.8 * loose


SMOOTH = """
class Smooth:
    needs = Needs(layers=None, passes=1)

    def term(self, batch, memory):
        noise = torch.randn(batch.images.shape, generator=batch.generator())
        moved = batch.forward(batch.images + 0.1 * noise)
        return (moved.logits - batch.logits).square().mean()
"""


def test_a_further_pass_and_its_noise_are_the_same_after_a_resume(module, tmp_path):
    use = {"regularizers.smooth.use": f"{module(SMOOTH)}:Smooth", "regularizers.smooth.passes": 1}
    point = {**use, "regularizers.smooth.weight": 0.1, **CENTER, "snnl.weight": 0.1, "snnl.temperature_mode": "learned"}
    whole, reports = trained(**point)
    first = start(config(**point))
    first.run_epoch()
    first.save(tmp_path)
    resumed = restore(tmp_path, config=config(**point))
    assert set(resumed.run.memory) == {"snnl", "regularizers.center"}
    report = resumed.run_epoch()
    assert torch.equal(weights(whole), weights(resumed))
    assert report.metrics["train/center"] == reports[1].metrics["train/center"]
    assert torch.equal(
        whole.run.memory["regularizers.center"]["penultimate"], resumed.run.memory["regularizers.center"]["penultimate"]
    )


def test_the_memory_is_in_the_checkpoint(tmp_path):
    loop = start(config(**CENTER))
    loop.run_epoch()
    loop.save(tmp_path)
    centers = state.load(tmp_path).memory["regularizers.center"]["penultimate"]
    assert centers.shape[0] == 10
    assert centers.any()


SEEN = """
class Seen:
    needs = Needs(layers="all", soft_labels=True)

    def term(self, batch, memory):
        one_hot = torch.nn.functional.one_hot(batch.labels, 10)
        mixed = (batch.targets["logits"] != one_hot).any()
        return Term(batch.logits.square().mean(), metrics={"mixed": mixed.float(), "flag": torch.tensor(batch.mixed)})
"""


@pytest.mark.parametrize(("on_mixed", "expected"), [(False, 0), (True, 1)])
def test_soft_targets_come_on_mixed_activations_alone(module, on_mixed, expected):
    use = {"regularizers.seen.use": f"{module(SEEN)}:Seen", "regularizers.seen.on_mixed": on_mixed}
    _, [report] = trained(**use, **{"regularizers.seen.weight": 1e-3, "mixup.alpha": 1.0, "epochs": 1})
    assert report.metrics["train/seen/mixed"] == report.metrics["train/seen/flag"] == expected


GRAM = """
class Gram:
    def term(self, batch, memory):
        x_BD = batch.taps["fc1"]
        return Term((x_BD @ x_BD.T).mean(), metrics={"itemsize": torch.tensor(x_BD.dtype.itemsize)})
"""


def test_half_precision_activations_come_as_float32(module):
    use = {"regularizers.gram.use": f"{module(GRAM)}:Gram", "regularizers.gram.weight": 1e-4}
    loop = start(TrialConfig.from_point({**SMALL, **use, "epochs": 1, "precision": "bfloat16"}))
    assert loop.run_epoch().metrics["train/gram/itemsize"] == 4


def test_a_term_that_is_not_finite_ends_the_trial_as_diverged_by_its_name(module):
    late = "class Late:\n    def term(self, batch, memory):\n        n = memory.get('n', torch.zeros(()))\n"
    late += "        return Term(batch.logits.mean() / (n < 3), memory={'n': n + 1})\n"
    loop = start(config(**{"regularizers.late.use": f"{module(late)}:Late", "regularizers.late.weight": 0.1}))
    with pytest.raises(Diverged, match=r"epoch 1, step 4: late is not finite; lower optimizer\.lr or the weight"):
        loop.run_epoch()


# By name


def test_every_regularizer_of_the_project_trains_with_a_point_of_its_own_space():
    for name in NAMES:
        spec = SweepSpec(name="own", trial=SMALL, space=fragment(name, label="own"))
        point = next(p for p in spec.space.sample_many(50) if p["regularizers.own.weight"] != 0)
        _, reports = trained(**point, epochs=1)
        assert math.isfinite(reports[0].metrics["train/own"])


def test_an_installed_package_registers_a_regularizer(tmp_path, monkeypatch):
    folder = tmp_path / "losses-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: losses\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[ravel.regularizers]\ncentre = center_loss:CenterLoss\n")
    monkeypatch.syspath_prepend(tmp_path)
    registered.cache_clear()
    try:
        spec = SweepSpec(name="own", space={"use": ["centre"], "parameters": {"regularizers.centre.rate": 0.2}})
        assert spec.space.parameters["regularizers.centre.rate"].value == 0.2
        assert "regularizers.centre.rate" in spec.space.when
        check_regularizers(config(**{"regularizers.centre.use": "centre"}))
    finally:
        registered.cache_clear()


PLANTED = '''
"""Entropy of the predictions, as a penalty on confidence (Pereyra et al., 2017)."""

from typing import ClassVar

from trainables.regularizers.protocol import Needs, Term


class ConfidencePenalty:
    """Hinge on the entropy of the predictions."""

    needs = Needs(layers=None)
    space: ClassVar = {"weight": {"float": [0.1, 1.0]}, "floor": {"float": [0.1, 2.0]}}

    def __init__(self, floor: float = 2.0) -> None:
        self.floor = floor

    def term(self, batch, memory):
        log_p_BK = batch.logits.log_softmax(1)
        entropy = -(log_p_BK.exp() * log_p_BK).sum(1).mean()
        return Term((self.floor - entropy).relu(), metrics={"entropy": entropy})


REGULARIZER = ConfidencePenalty
'''
SWEEP = """
name: planted
trial: {model.name: mlp, epochs: 1, device: cpu}
space: {use: [confidence], parameters: {optimizer.lr: {float: [0.01, 0.1]}}}
"""
PROGRAM = """
from orchestrator.planning.loading import load_spec
from orchestrator.planning.points import first_points
from trainables import TrialConfig, train
spec = load_spec("sweep.yaml")
[(_, baseline)] = first_points(spec)
point = {**spec.trial, **next(p for p in spec.space.sample_many(50) if p["regularizers.confidence.weight"] > 0)}
metrics = train(TrialConfig.from_point(point)).metrics
print(baseline["regularizers.confidence.weight"], sorted(name for name in metrics if "confidence" in name))
"""


def test_a_regularizer_of_the_project_is_one_file(tmp_path):
    for package in ("trainables", "search_spaces", "orchestrator"):
        shutil.copytree(ROOT / package, tmp_path / package, copy_function=shutil.copy2)
    (tmp_path / "trainables" / "regularizers" / "terms" / "confidence.py").write_text(PLANTED)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "0.0 ['train/confidence', 'train/confidence/entropy']", done.stderr


# On the page


def blocks(language):
    page = (ROOT / "docs" / "training.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def test_the_regularizer_and_the_attack_of_the_page_pass_preflight(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks("python"):
        if (name := block.partition("\n")[0]).startswith("# my_"):
            (tmp_path / name.removeprefix("# ")).write_text(block)
    (tmp_path / "sweep.yaml").write_text("name: own\n" + next(text for text in blocks("yaml") if "my_reg" in text))
    trial = {**SMALL, "adversarial.attack": "my_attacks:attack", "adversarial.args.share": 0.5}
    for _, settings in configured(load_spec(tmp_path / "sweep.yaml"))[:3]:
        check_regularizers(TrialConfig.from_point({**settings.to_point(), **trial}))
