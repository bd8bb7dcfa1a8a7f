"""Entanglement by layer and by epoch: the values, their images, and their limits."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.config.trial import DataConfig, ModelConfig, TrialConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.entanglement import entanglement
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.core.suites import suite_of
from trainables.evaluation.representation.entangled_layers import entangled_layers, entanglement_by_epoch, suite
from trainables.models import build
from trainables.models.staged import StagedClassifier
from trainables.snnl import chance_level, soft_nearest_neighbor_loss
from trainables.tasks.classifier.run import start

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "snnl_vectors.json").read_text())


@pytest.fixture(scope="module")
def val():
    return load_splits(DataConfig()).val


@pytest.fixture(scope="module")
def mlp():
    return build(ModelConfig(name="mlp", width=0.2), image_shape=(1, 8, 8), num_classes=10).train()


def reading(features):
    """A model whose penultimate tap gives image n, which is n everywhere, the n-th of these features."""
    table = nn.Embedding.from_pretrained(features)

    class Look(nn.Module):
        def forward(self, x):
            return table((255 * x[:, 0, 0, 0]).round().long())

    head = nn.Linear(features.shape[1], 2).to(features.dtype)
    return StagedClassifier({"penultimate": Look()}, head, channels=1)


def numbered(labels):
    labels = torch.tensor(labels)
    return Split(torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1), labels)


def case(letter):
    name = next(name for name in VECTORS["cases"] if name.startswith(f"{letter}_"))
    vector = VECTORS["cases"][name]
    return vector, reading(torch.tensor(vector["x"], dtype=torch.float64)), numbered(vector["y"])


def test_an_interior_minimum_equals_the_vector():
    vector, model, images = case("F")
    layer = entangled_layers(model, images).layers[0]
    expected = vector["min_over_T_exact"]["sqeuclidean"]
    assert layer.minimum.edge == "interior"
    assert layer.minimum.value == pytest.approx(expected["value"], rel=1e-9)
    assert layer.minimum.temperature == pytest.approx(expected["T"], rel=1e-5)
    assert layer.of_chance == pytest.approx(expected["value"] / vector["chance_T_inf_exact"], rel=1e-9)


def test_separated_classes_are_at_the_edge_of_no_temperature_and_entangled_ones_at_that_of_an_infinite_one():
    separated, mixed = (entangled_layers(*case(letter)[1:]) for letter in "AB")
    assert (separated.layers[0].minimum.edge, mixed.layers[0].minimum.edge) == ("T->0", "T->inf")
    assert separated.metrics()["entanglement/penultimate_of_chance"] == 0
    assert mixed.metrics()["entanglement/penultimate_of_chance"] == 1
    assert "temperature/penultimate_test" not in mixed.metrics()
    columns = mixed.table().columns
    row = dict(zip(columns, mixed.table().rows[0], strict=True))
    assert (row["temperature"], row["temperature / median distance"], row["edge"]) == (None, None, "T->inf")


def test_the_loss_at_the_median_distance_is_the_loss_at_that_temperature():
    vector, model, images = case("F")
    features = torch.tensor(vector["x"], dtype=torch.float64)
    distances = torch.cdist(features, features).square()
    median = distances[~torch.eye(len(features), dtype=torch.bool)].median()
    layer = entangled_layers(model, images).layers[0]
    assert layer.median_distance == pytest.approx(float(median), rel=1e-9)
    expected = soft_nearest_neighbor_loss(features, images.labels_N, float(median))
    assert layer.at_median == pytest.approx(float(expected), rel=1e-9)


def test_dead_features_are_at_chance_at_any_temperature():
    result = entangled_layers(reading(torch.zeros(6, 2)), numbered([0, 0, 1, 1, 2, 2]))
    assert result.layers[0].at_median == result.layers[0].minimum.value == pytest.approx(math.log(5))


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
def test_every_tap_has_the_minimum_that_is_tracked_during_training(mlp, val, distance):
    subset = balanced_subset(val, size=100)
    result, expected = entangled_layers(mlp, subset, distance=distance), entanglement(mlp, subset, distance=distance)
    assert mlp.training
    assert [layer.tap for layer in result.layers] == list(mlp.taps)
    for layer in result.layers:
        assert layer.minimum.value == pytest.approx(expected[layer.tap].value, rel=1e-5)
        assert 0 <= layer.of_chance <= 1
        assert layer.minimum.chance == chance_level(subset.labels_N)


def test_the_numbers_are_finite_and_the_same_each_time(mlp, val):
    first, second = (entangled_layers(mlp, val, seed=3) for _ in range(2))
    assert first == second
    assert all(map(math.isfinite, first.metrics().values()))
    assert {f"entanglement/{tap}_test" for tap in mlp.taps} <= first.metrics().keys()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]], ids=["one class", "one image of each"])
def test_images_without_company_or_contrast_are_refused(mlp, labels):
    images = Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor(labels))
    with pytest.raises(ValueError, match=r"two classes or more, one of them with two images, got \["):
        entangled_layers(mlp, images)


def subject(model, val, **settings):
    return Subject(model, val, val, val, 0.1, **settings)


@pytest.mark.parametrize("images", [50, None, 340])
def test_limits_name_images_that_were_left_out(mlp, val, images):
    result = suite(subject(mlp, val), EvaluationBudget(images=images), lambda *_: None)
    layers = result["entanglement_by_layer"]
    assert layers.layers[0].minimum.num_anchors == (images or 10 * int(val.labels_N.bincount().min()))
    (limit,) = layers.limits
    assert f" of {len(val)} images, class-balanced" in limit


def test_all_images_are_no_limit(mlp, val):
    whole = balanced_subset(val, size=100)
    assert suite(subject(mlp, whole), EvaluationBudget(), lambda *_: None)["entanglement_by_layer"].limits == ()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    loop = start(TrialConfig.from_point({"model.name": "mlp", "epochs": 2, "device": "cpu", "optimizer.lr": 0.01}))
    folders = {}
    while not loop.finished:
        loop.run_epoch()
        folders[loop.epoch] = tmp_path_factory.mktemp(f"epoch{loop.epoch}")
        loop.save(folders[loop.epoch])
    return loop.run.evaluated_model.eval(), dict(reversed(folders.items()))


def test_the_last_epoch_of_the_curve_is_the_finished_model(checkpoints, val):
    model, folders = checkpoints
    steps = []
    result = suite(
        subject(model, val, checkpoints=folders), EvaluationBudget(images=100), lambda *said: steps.append(said)
    )
    by_epoch, by_layer = result["entanglement_by_epoch"], result["entanglement_by_layer"]
    assert list(by_epoch.epochs) == [1, 2]
    assert by_epoch.epochs[2] == {layer.tap: layer.minimum for layer in by_layer.layers}
    assert by_epoch.epochs[1] != by_epoch.epochs[2]
    assert len(by_epoch.table().rows) == 2 * len(model.taps)
    fractions = [fraction for _, fraction in steps]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert all(before < after for before, after in pairwise(fractions))


def test_the_figures_have_a_bar_and_a_curve_for_each_tap_and_the_chance_level(checkpoints, val):
    model, folders = checkpoints
    result = suite(subject(model, val, checkpoints=folders), EvaluationBudget(images=50), lambda *_: None)
    bars, curves = result["entanglement_by_layer"].figure(), result["entanglement_by_epoch"].figure()
    assert list(bars.data[0].x) == list(model.taps)
    assert [trace.name for trace in curves.data] == [*model.taps, "chance"]
    assert list(curves.data[0].x) == [1, 2]
    assert bars.data[-1].name == "chance"
    assert bars.data[-1].y[0] == pytest.approx(chance_level(balanced_subset(val, size=50).labels_N))
    assert all(axis.title.text for plot in (bars, curves) for axis in (plot.layout.xaxis, plot.layout.yaxis))


def test_a_value_of_zero_is_plotted_on_a_linear_axis():
    _, model, images = case("A")
    result = entanglement_by_epoch(iter([(1, model)]), images)
    assert result.figure().layout.yaxis.type == "linear"


def test_no_epoch_is_refused(val):
    with pytest.raises(ValueError, match="at least one epoch"):
        entanglement_by_epoch(iter([]), val)


def test_the_suite_has_its_name():
    assert suite_of("entanglement") is suite
