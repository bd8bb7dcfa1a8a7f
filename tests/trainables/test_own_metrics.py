"""Metrics of a user's own: in a configuration, in an epoch, after a resume, by a registered name."""

import itertools
import math
from importlib.util import find_spec

import pytest
import torch

from trainables.config.own_metrics import RESERVED, OwnMetrics
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError, Diverged
from trainables.evaluation.core.own_metrics import check_metrics, own_metrics, target_of
from trainables.evaluation.core.prediction import logits
from trainables.import_paths import registered
from trainables.metrics import METRICS, Metric, declared_by
from trainables.tasks.classifier.run import restore, start
from trainables.testing import check_metric

SMALL = {"epochs": 3, "device": "cpu", "precision": "float32", "model.name": "mlp", "evaluation.robust_images": 20}
ERRORS = """
def errors(logits, labels, weight: float = 1.0):
    return weight * (logits.argmax(1) != labels).double().mean()
"""
NOISY = """
import random

import numpy
import torch

def noisy(logits, labels):
    return {"torch": torch.rand(()), "numpy": numpy.random.rand(), "python": random.random()}
"""
TORCHMETRIC = """
import torch

class Errors:
    higher_is_better = False
    built = []

    def __init__(self, num_classes: int):
        self.wrong, self.seen, self.classes = torch.zeros(()), 0, num_classes
        self.built.append(self)

    def update(self, logits, labels):
        self.wrong += (logits.argmax(1) != labels).sum()
        self.seen += len(labels)

    def compute(self):
        return self.wrong / self.seen

    def reset(self):
        raise AssertionError("a new object has nothing to reset")
"""
counter = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module and returns its name."""

    def write(body):
        name = f"own_metric_{next(counter)}"
        (tmp_path / f"{name}.py").write_text(body)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return write


def config(**point):
    return TrialConfig.from_point({**SMALL, **point})


def without_times(report):
    return {name: value for name, value in report.metrics.items() if not name.startswith(("time/", "cost/"))}


# In a configuration


def test_labelled_metrics_survive_the_way_there_and_back_also_through_json():
    point = {"metrics.b.use": "my:b", "metrics.b.args.costs": [1, 2], "metrics.a.use": "my:a"}
    settings = TrialConfig.from_point(point)
    assert TrialConfig.from_point(settings.to_point()) == settings
    assert TrialConfig.model_validate_json(settings.model_dump_json()) == settings
    assert list(settings.metrics.by_label) == ["a", "b"]
    assert settings.metrics.by_label["b"].args.by_name == {"costs": (1, 2)}


def test_a_trial_without_metrics_of_its_own_is_described_as_before():
    assert not [name for name in TrialConfig().to_point() if name.startswith("metrics")]
    assert TrialConfig.model_validate(TrialConfig().model_dump(exclude={"metrics"})) == TrialConfig()


def test_no_label_is_the_name_of_another_metric_of_validation():
    assert {metric.name.removeprefix("val/") for metric in METRICS if metric.name.startswith("val/")} == set(RESERVED)


def test_reading_a_configuration_imports_no_code_of_a_user():
    TrialConfig.from_point({"metrics.a.use": "no_such_module:a"})


# In an epoch


def test_a_metric_is_measured_every_epoch_on_the_logits_of_the_whole_validation_part(module):
    loop = start(config(**{"metrics.own.use": f"{module(ERRORS)}:errors", "metrics.own.args.weight": 3.0}))
    for _ in range(2):
        report = loop.run_epoch()
        run = loop.run
        wrong = logits(run.evaluated_model, run.val_split).argmax(1) != run.val_split.labels_N
        assert report.metrics["val/own"] == pytest.approx(3 * wrong.double().mean().item(), abs=1e-12)
        assert report.metrics["val/own"] == pytest.approx(3 * (1 - report.metrics["val/accuracy"]), abs=1e-12)


def test_metrics_of_ones_own_change_no_bit_of_the_others_though_they_draw_at_random(module):
    plain = [without_times(report) for report in start(config()).run_all()]
    reports = start(config(**{"metrics.own.use": f"{module(NOISY)}:noisy"})).run_all()
    for before, report in zip(plain, reports, strict=True):
        assert {name: value for name, value in without_times(report).items() if "own" not in name} == before
        assert {name for name in report.metrics if "own" in name} == {
            f"val/own/{x}" for x in ("torch", "numpy", "python")
        }


def test_a_metric_that_draws_at_random_measures_the_same_after_each_resume(module, tmp_path):
    settings = config(**{"metrics.own.use": f"{module(NOISY)}:noisy"})
    whole = [without_times(report) for report in start(settings).run_all()]
    assert whole[0]["val/own/torch"] != whole[1]["val/own/torch"]
    loop = start(settings)
    for epoch in range(1, 3):
        loop.run_epoch()
        loop.save(tmp_path)
        rest = [without_times(report) for report in restore(tmp_path, config=settings).run_all()]
        assert rest == whole[epoch:]


def test_a_metric_that_writes_into_its_inputs_changes_no_other_metric_of_the_trial(module):
    greedy = module("def greedy(logits, labels):\n    logits.zero_()\n    labels.zero_()\n    return 0.5\n")
    errors = module(ERRORS)
    loop = start(config(**{"metrics.a.use": f"{greedy}:greedy", "metrics.b.use": f"{errors}:errors"}))
    labels_N = loop.run.val_split.labels_N.clone()
    metrics = loop.run_epoch().metrics
    assert torch.equal(loop.run.val_split.labels_N, labels_N)
    assert metrics["val/b"] == pytest.approx(1 - metrics["val/accuracy"], abs=1e-12)


def test_a_metric_with_update_and_compute_is_built_anew_for_each_measurement(module):
    name = module(TORCHMETRIC)
    metrics = OwnMetrics(f1={"use": f"{name}:Errors"})
    (metric,) = own_metrics(metrics, num_classes=4)
    wrong, right = torch.tensor([0, 1, 2, 0]), torch.arange(4)
    assert [metric.measure(torch.eye(4), labels_N)["val/f1"] for labels_N in (wrong, right)] == [0.25, 0.0]
    assert [built.classes for built in metric.target.built] == [4, 4]
    assert declared_by(metric.target, place="metrics.f1.use")[""].direction == "min"


def test_a_class_of_torchmetrics_is_a_metric_by_its_own_path():
    if find_spec("torchmetrics") is None:
        pytest.skip("needs torchmetrics")
    metrics = OwnMetrics(f1={"use": "torchmetrics.classification:MulticlassF1Score", "args": {"average": "macro"}})
    (metric,) = own_metrics(metrics, num_classes=3)
    measured = metric.measure(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 1]))
    precision, recall = {0: 1 / 2, 1: 1.0, 2: 1.0}, {0: 1.0, 1: 1 / 2, 2: 1.0}
    f1 = [2 * precision[k] * recall[k] / (precision[k] + recall[k]) for k in range(3)]
    assert measured["val/f1"] == pytest.approx(sum(f1) / 3, rel=1e-6)
    assert declared_by(target_of("f1", metrics.by_label["f1"]), place="x")[""].direction == "max"


def test_a_value_that_is_not_finite_is_reported_as_it_is_if_it_may_be(module):
    name = module("def odd(logits, labels):\n    return float('nan')\nodd.may_be_nan = True\n")
    settings = config(**{"metrics.own.use": f"{name}:odd"})
    assert math.isnan(check_metrics(settings.metrics, num_classes=10)["val/own"])
    assert math.isnan(start(settings).run_epoch().metrics["val/own"])


def test_a_metric_that_fails_in_training_is_named_with_its_line(module):
    late = (
        "def late(logits, labels):\n    if len(labels) > 300:\n        raise RuntimeError('too many')\n    return 0.5\n"
    )
    name = module(late)
    settings = config(**{"metrics.own.use": f"{name}:late"})
    check_metrics(settings.metrics, num_classes=10)
    with pytest.raises(ConfigError, match=rf"metrics.own: {name}:late fails with 'RuntimeError: too many' .*line 3\)"):
        start(settings).run_epoch()


def test_a_trial_that_diverges_does_so_before_its_own_metrics_see_the_logits(module):
    strict = "def strict(logits, labels):\n    assert logits.isfinite().all()\n    return 0.5\n"
    settings = config(**{"metrics.own.use": f"{module(strict)}:strict"})
    loop = start(settings)
    with torch.no_grad():
        next(loop.run.model.parameters()).fill_(math.nan)
    with pytest.raises(Diverged):
        loop.run.evaluate_epoch(1)


# What is declared


def test_units_and_directions_are_read_from_attributes_and_from_a_mapping(module):
    declared = "errors.unit, errors.direction = 'EUR', 'min'\nerrors.metrics = {'top': {'direction': 'max'}}\n"
    name = module(f"{ERRORS}{declared}")
    target = target_of("own", OwnMetrics(own={"use": f"{name}:errors"}).by_label["own"])
    assert declared_by(target, place="x") == {"": Metric("", "EUR", "min"), "top": Metric("", "", "max")}
    assert declared_by(math.sqrt, place="x") == {}


def test_an_objective_that_a_metric_does_not_return_is_a_problem_with_those_that_it_does(module):
    name = module("def two(logits, labels):\n    return {'best': 1.0, 'worst': 0.0}\n")
    metrics = OwnMetrics(own={"use": f"{name}:two"})
    problem = rf"objective.metric: must be measured by {name}:two: val/own/best, val/own/worst; got 'val/own'"
    with pytest.raises(ConfigError, match=problem):
        check_metrics(metrics, num_classes=3, objectives=["val/own", "val/accuracy", "val/own/best"])


def test_an_installed_package_registers_a_metric(tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(ERRORS)
    info = tmp_path / "shop-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ravel.metrics]\nshop-errors = shop:errors\n")
    monkeypatch.syspath_prepend(tmp_path)
    registered.cache_clear()
    try:
        assert config(**{"metrics.own.use": "shop-errors"}).metrics.by_label["own"].use == "shop-errors"
        assert set(check_metric("shop-errors", {"weight": 2.0}, num_classes=3)) == {""}
        with pytest.raises(ConfigError, match=r"metrics.own.use: must be one of 'shop-errors', or an import path"):
            config(**{"metrics.own.use": "shop-eror"})
    finally:
        registered.cache_clear()
