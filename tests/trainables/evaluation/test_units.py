"""Units against random directions: the test detects planted structure and no other, and the suite its contract."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.representation.layers import LayerUnits, read_layers
from trainables.evaluation.representation.top_images import top_images
from trainables.evaluation.representation.units import suite, unit_purity
from trainables.models import StagedClassifier, build
from trainables.seeding import generator

LABELS = torch.arange(200) % 10


def layer_of(features_ND, shape=None, tap="fc1"):
    units = features_ND.shape[1]
    return LayerUnits(tap, features_ND, torch.arange(units), shape or (units,), units)


def planted(classes_of_units, noise=0.1):
    """Units that fire for their class, each image for one unit of its class, however loud."""
    stream = generator(0, "planted")
    units = len(classes_of_units)
    own_NU = (LABELS[:, None] == torch.tensor(classes_of_units)).float()
    choice_N = torch.multinomial(own_NU, 1, generator=stream)
    fired_NU = torch.zeros(200, units).scatter_(1, choice_N, 1.0)
    loud_NU = torch.rand(200, units, generator=stream) + 1
    return fired_NU * loud_NU + noise * torch.rand(200, units, generator=stream)


@pytest.fixture(scope="module")
def digits():
    return load_splits(DataConfig())


@pytest.fixture(scope="module")
def subject(digits):
    model = build(ModelConfig(name="cnn", width=0.25), image_shape=(1, 8, 8), num_classes=10, seed=1)
    return Subject(model, digits.train, digits.val, digits.val, epsilon=0.1)


def rows_of(measured, treatment="raw", top=8, control="random"):
    return [row for row in measured.comparisons if (row.treatment, row.top, row.control) == (treatment, top, control)]


def test_pure_units_differ_from_random_directions():
    # Eighty units, of which a random direction mixes many.
    measured = unit_purity([layer_of(planted([unit % 10 for unit in range(80)], noise=1.5))], LABELS, directions=200)
    (row,) = rows_of(measured, control="random")
    assert row.units.purity_R.mean() > row.others.purity_R.mean() + 0.05
    assert row.test.p < 0.01
    assert row.test.low > 0


def test_a_rotation_of_gaussian_features_has_no_natural_basis():
    ps = []
    for seed in range(20):
        features = torch.randn(200, 20, generator=generator(seed, "isotropic"))
        measured = unit_purity([layer_of(features)], LABELS, directions=100, draws=199, seed=seed)
        ps.append(rows_of(measured)[0].test.p)
    assert sum(p <= 0.05 for p in ps) <= 4
    assert sum(p <= 0.5 for p in ps) >= 4


def test_units_that_know_nothing_are_at_chance_and_perfect_ones_above():
    noise = unit_purity([layer_of(torch.randn(200, 300, generator=generator(0, "noise")))], LABELS, directions=300)
    row = rows_of(noise)[0]
    assert row.units.purity_R.mean().item() == pytest.approx(row.chance, abs=0.02)
    assert row.units.above_chance < 0.09
    perfect = rows_of(unit_purity([layer_of(planted(list(range(10))))], LABELS, directions=50))[0]
    assert (perfect.units.purity_R.tolist(), perfect.units.entropy) == ([1.0] * 10, 0.0)
    assert perfect.units.above_chance == 1.0


def test_p_values_are_corrected_over_the_layers():
    layers = [layer_of(torch.randn(200, 12, generator=generator(i, "many")), tap=f"fc{i}") for i in range(3)]
    measured = unit_purity(layers, LABELS, directions=40, draws=199)
    for control in ("random", "rotated", "non-negative"):
        rows = rows_of(measured, "standardised", 16, control)
        smallest = min(rows, key=lambda row: row.test.p)
        assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.test.p))
        assert all(row.p_holm >= row.test.p for row in rows)


def test_ties_at_the_cut_are_counted():
    features = torch.zeros(200, 2)
    features[3, 0] = 1.0
    features[:, 1] = torch.arange(200)
    (row,) = rows_of(unit_purity([layer_of(features)], LABELS, directions=5, draws=9))
    assert row.units.tied == 0.5


def test_a_layer_without_a_live_unit_is_refused_and_in_no_metric():
    dead = LayerUnits("fc1", torch.zeros(200, 0), torch.arange(0), (4,), 4)
    measured = unit_purity([dead, layer_of(planted(list(range(10))), tap="fc2")], LABELS, directions=5, draws=9)
    assert measured.refusals == ("fc1: none of 4 units varies over the images",)
    assert set(measured.metrics()) == {"units/fc2_purity_basis", "units/fc2_purity_random", "units/fc2_p"}


def test_layers_are_what_the_taps_hold_without_dead_units(digits):
    stage = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU())
    with torch.no_grad():
        stage[1].weight.fill_(1.0)
        stage[1].bias.copy_(torch.tensor([0.0, -1e6, 1.0]))
    model = StagedClassifier({"fc1": stage, "penultimate": nn.ReLU()}, nn.Linear(3, 10), channels=1)
    first, last = read_layers(model, digits.val)
    expected = digits.val.images_NCHW.flatten(1).float().sum(1) / 255
    assert (first.tap, last.tap, first.sampled, first.dead, first.units_D.tolist()) == (
        "fc1",
        "penultimate",
        3,
        1,
        [0, 2],
    )
    assert torch.allclose(first.features_ND, torch.stack([expected, expected + 1], 1))
    assert first.name(1) == "fc1[2]"


def test_sampled_units_are_columns_of_the_whole_layer_with_their_index(subject):
    (whole, *_), (part, *_) = (read_layers(subject.model, subject.test, max_units=n) for n in (10**6, 50))
    assert part.sampled == 50
    columns = [whole.units_D.tolist().index(unit) for unit in part.units_D.tolist()]
    assert torch.equal(part.features_ND, whole.features_ND[:, columns])
    channel, y, x = (int(number) for number in part.name(0).removeprefix("conv1[").removesuffix("]").split(", "))
    assert (channel * 8 + y) * 8 + x == part.units_D[0]


def test_the_model_is_read_in_eval_mode_and_left_as_it_was(digits):
    model = build(ModelConfig(name="cnn_bn", width=0.25), image_shape=(1, 8, 8), num_classes=10, seed=1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    read_layers(model, digits.val)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_sheet_shows_the_images_of_the_largest_scores(subject):
    layer = read_layers(subject.model, subject.test)[-1]
    measured = top_images(layer, subject.test, rows=3)
    assert measured.names[3:] == ("random 1", "random 2", "random 3")
    for row, name in enumerate(measured.names[:3]):
        column = next(i for i in range(len(layer.units_D)) if layer.name(i) == name)
        expected = layer.features_ND[:, column].sort(descending=True, stable=True).indices[:8]
        assert measured.indices_RK[row].tolist() == expected.tolist()
        assert torch.equal(measured.images_RKCHW[row], subject.test.images_NCHW[expected])
    assert len(measured.table().rows) == 6 * 8


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_the_sheet_has_each_image_at_its_place(channels):
    images = torch.randint(256, (200, channels, 2, 3), generator=generator(0, "images")).to(torch.uint8)
    measured = top_images(layer_of(planted(list(range(10)))), Split(images, LABELS), rows=2, top=5)
    figure = measured.figure()
    picture = torch.tensor(figure.data[0].z)
    assert picture.shape == (4 * 4, 5 * 5, 3)
    patch = picture[2 * 4 : 2 * 4 + 2, 4 * 5 : 4 * 5 + 3]
    assert torch.equal(patch, measured.images_RKCHW[2, 4].permute(1, 2, 0).expand(-1, -1, 3))
    assert figure.layout.yaxis.ticktext[0] == f"{measured.names[0]}, purity 1.00"


def test_the_suite_gives_finite_metrics_tables_figures_and_says_its_limits(subject):
    steps = []
    results = suite(subject, EvaluationBudget(images=100), lambda task, fraction: steps.append((task, fraction)))
    assert set(results) == {"units", "top_images_conv1", "top_images_conv2", "top_images_penultimate"}
    assert all(math.isfinite(value) for result in results.values() for value in result.metrics().values())
    assert set(results["units"].metrics()) >= {"units/conv1_purity_basis", "units/conv2_purity_random"}
    cut = f"test: 100 of {len(subject.test)} images, class-balanced"
    assert all(result.limits[0] == cut for result in results.values())
    assert any(line.startswith("conv1: 1,000 of 1,024 units") for line in results["units"].limits)
    assert len(results["units"].table().rows) == 3 * 2 * 2 * 3
    assert all(result.figure().data for result in results.values())
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_suite_depends_on_its_seed_alone(subject):
    model = build(ModelConfig(name="mlp", width=0.05), image_shape=(1, 8, 8), num_classes=10, seed=1)
    small = replace(subject, model=model)
    first, repeated, other = (
        suite(replace(small, seed=seed), EvaluationBudget(images=40), lambda *_: None)["units"].metrics()
        for seed in (0, 0, 1)
    )
    assert first == repeated
    assert first != other


def test_fewer_images_than_k_is_an_error():
    with pytest.raises(ValueError, match=r"k: must be in \[1, 10\], the number of inputs, got 16"):
        unit_purity([layer_of(torch.randn(10, 3))], LABELS[:10])
