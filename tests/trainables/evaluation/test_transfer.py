"""The matrix of transferability: hand-computed cases, matched sizes, and what is refused."""

import math

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from trainables.attacks import amplify
from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.prediction import balanced_subset
from trainables.evaluation.robustness.transfer import _refused, resized, transfer
from trainables.evaluation.robustness.transfer_result import Rate, TransferCondition, mean
from trainables.models import build

RIGHT = TransferCondition(among="right")


def brightness_model(threshold):
    """Class 1 where the one pixel is brighter than the threshold."""
    layer = nn.Linear(1, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, -threshold])
    return nn.Sequential(nn.Flatten(), layer)


def pixels(*values):
    images = torch.tensor([round(255 * value) for value in values], dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Split(images, torch.tensor([int(value > 0.5) for value in values]))


class Constant(nn.Module):
    """Says class 0 to everything, with a gradient all the same."""

    def forward(self, x):
        flat = x.flatten(1)
        return torch.stack([9 + flat.sum(1), -flat.sum(1)], 1)


@pytest.fixture(scope="module")
def digits():
    return balanced_subset(load_splits(DataConfig()).val, size=40)


@pytest.fixture(scope="module")
def linear_models():
    """Three linear classifiers, least squares fits to different thirds of the training images."""
    train = load_splits(DataConfig()).train
    x = train.images_NCHW.flatten(1).double() / 255
    one_hot = nn.functional.one_hot(train.labels_N, 10).double()
    models = {}
    for third, name in enumerate("ABC"):
        rows, targets = x[third::3], one_hot[third::3]
        weight = torch.linalg.solve(rows.T @ rows + 0.5 * torch.eye(64, dtype=torch.float64), rows.T @ targets)
        layer = nn.Linear(64, 10)
        layer.weight.data, layer.bias.data = 10 * weight.T.float(), torch.zeros(10)
        models[name] = nn.Sequential(nn.Flatten(), layer)
    return models


@pytest.fixture(scope="module")
def measured(linear_models, digits):
    groups = {"A": "one", "B": "one", "C": "other"}
    return transfer(linear_models, digits, attack="pgd", epsilon=0.1, seed=1, groups=groups)


def test_a_matrix_by_hand():
    # FGSM moves every pixel 0.2 towards its source's other class, whatever side of whose boundary it is on.
    images, thresholds = pixels(0.1, 0.35, 0.45, 0.56, 0.65, 0.9), {"low": 0.5, "high": 0.6}
    models = {name: brightness_model(threshold) for name, threshold in thresholds.items()}
    result = transfer(models, images, attack="fgsm", epsilon=0.2)
    moved = [0.3, 0.55, 0.65, 0.36, 0.45, 0.7]
    for source in models:
        for target, threshold in thresholds.items():
            wrong = sum((value > threshold) != bool(y) for value, y in zip(moved, images.labels_N, strict=True))
            assert result.err[source][target] == Rate(wrong, 6)
    assert result.clean == {"low": Rate(0, 6), "high": Rate(1, 6)}
    # 0.56 is wrong for 'high' as it is.
    assert result.errors[RIGHT]["low"] == {"low": Rate(3, 5), "high": Rate(2, 5)}
    assert result.errors[TransferCondition(among="fooling")]["high"] == {"low": Rate(2, 2), "high": Rate(2, 2)}
    assert result.sizes["attack", "own"] == pytest.approx({"low": 0.2, "high": 0.2}, rel=1e-5)


def test_a_copy_of_the_source_is_fooled_as_the_source_is(linear_models, digits):
    twins = {"A": linear_models["A"], "twin": linear_models["A"]}
    result = transfer(twins, digits, attack="pgd", epsilon=0.1)
    assert all(row["A"] == row["twin"] for matrix in result.errors.values() for row in matrix.values())
    assert all(matrix["A"] == matrix["twin"] for matrix in result.errors.values())


def test_examples_transfer_more_than_noises_of_their_size(measured):
    metrics = measured.metrics()
    assert metrics["transfer/pgd@0.1_own"] > metrics["transfer/pgd@0.1_across"] > 0.2
    assert metrics["transfer/pgd@0.1_across"] > 3 * max(
        metrics["transfer/pgd@0.1_gaussian"], metrics["transfer/pgd@0.1_sign"]
    )
    assert all(map(math.isfinite, metrics.values()))


def test_noises_are_as_large_as_the_perturbations_they_control(measured):
    for kind in ("gaussian", "sign"):
        assert measured.sizes[kind, "own"] == pytest.approx(measured.sizes["attack", "own"], rel=1e-4)


def test_at_the_common_size_all_perturbations_are_as_large_as_the_largest_source(measured):
    largest = max(measured.sizes["attack", "own"].values())
    for kind in ("attack", "gaussian", "sign"):
        assert measured.sizes[kind, "common"] == pytest.approx(dict.fromkeys("ABC", largest), rel=1e-4)


def test_images_that_fool_their_source_fool_it(measured):
    fooling = measured.errors[TransferCondition(among="fooling")]
    assert all(fooling[name][name].error == 1 for name in fooling)
    right = measured.errors[RIGHT]
    assert all(fooling[name][name].images == right[name][name].wrong for name in right)


def test_the_counts_of_each_condition_are_those_of_its_images(measured, linear_models, digits):
    x = digits.images_NCHW.float() / 255
    right = torch.stack([model(x).argmax(1) == digits.labels_N for model in linear_models.values()]).all(0)
    assert {rate.images for row in measured.err.values() for rate in row.values()} == {40}
    assert {rate.images for row in measured.errors[RIGHT].values() for rate in row.values()} == {int(right.sum())}


def test_the_same_seed_gives_the_same_numbers_in_any_order(linear_models, digits, measured):
    backwards = transfer(dict(reversed(linear_models.items())), digits, attack="pgd", epsilon=0.1, seed=1)
    assert backwards.errors == measured.errors
    assert transfer(linear_models, digits, attack="pgd", epsilon=0.1, seed=2).errors != measured.errors


def test_group_means_leave_out_a_models_own_images(measured):
    right = measured.errors[RIGHT]
    by_group = {groups: mean(pairs.values()) for groups, pairs in measured.by_group().items()}
    assert by_group["one", "one"] == pytest.approx((right["A"]["B"].error + right["B"]["A"].error) / 2)
    assert by_group["other", "one"] == pytest.approx((right["C"]["A"].error + right["C"]["B"].error) / 2)
    assert measured.by_group()["other", "other"] == {}
    metrics = measured.metrics()
    assert metrics["transfer/pgd@0.1_within_groups"] == pytest.approx(by_group["one", "one"])
    between = [right[source][target].error for source, target in ("AC", "BC", "CA", "CB")]
    assert metrics["transfer/pgd@0.1_between_groups"] == pytest.approx(sum(between) / 4)


def test_models_keep_their_mode(digits):
    models = {
        name: build(ModelConfig(name="mlp", width=0.1), image_shape=(1, 8, 8), num_classes=10, seed=seed).train()
        for seed, name in enumerate("AB")
    }
    transfer(models, digits, attack="fgsm", epsilon=0.1)
    assert all(module.training for model in models.values() for module in model.modules())


def test_lbfgs_finds_its_own_sizes_and_what_it_does_not_find_is_left_out():
    models = {"low": brightness_model(0.5), "high": brightness_model(0.6), "never": Constant()}
    images = pixels(0.1, 0.3, 0.45, 0.7, 0.9)
    result = transfer(models, images, attack="lbfgs")
    assert result.err["low"]["low"] == Rate(5, 5)
    assert result.sizes["attack", "own"]["low"] == pytest.approx((0.4 + 0.2 + 0.05 + 0.2 + 0.4) / 5, abs=0.01)
    # Brightening to just above 0.5 does not reach 0.6; darkening to below 0.5 passes it.
    assert result.err["low"]["high"] == Rate(2, 5)
    # To the model that says 0, the two images of class 1 are class 0 before the attack; it never changes the rest.
    assert result.err["never"]["low"] == Rate(0, 2)
    assert "lbfgs found nothing for 3 of 5 images of never; they are left out" in result.limits[0]
    assert "2 of 5 images of never are unperturbed" in result.limits[1]
    assert "never" in result.refused
    assert "transfer/lbfgs_own" in result.metrics()


def test_a_source_that_cannot_be_fooled_is_refused_and_in_no_metric():
    models = {"low": brightness_model(0.5), "high": brightness_model(0.55), "never": Constant()}
    result = transfer(models, pixels(0.1, 0.2, *[0.45] * 12), attack="fgsm", epsilon=0.2)
    assert list(result.refused) == ["never"]
    assert "so there is nothing to transfer; take a larger radius" in result.refusals[0]
    right = result.errors[RIGHT]
    pairs = [("low", "high"), ("low", "never"), ("high", "low"), ("high", "never")]
    mean = sum(right[source][target].error for source, target in pairs) / 4
    assert result.metrics()["transfer/fgsm@0.2_across"] == pytest.approx(mean)


def test_a_source_that_another_models_images_fool_more_is_refused():
    own, other, noise = Rate(20, 100), Rate(60, 100), Rate(1, 100)
    attack = {"A": {"A": own, "B": own}, "B": {"A": other, "B": other}}
    noises = {source: dict.fromkeys("AB", noise) for source in "AB"}
    errors = {
        RIGHT: attack,
        TransferCondition("gaussian", "own", "right"): noises,
        TransferCondition("sign", "own", "right"): noises,
    }
    assert list(_refused(errors, "pgd")) == ["A"]
    assert "fools it on 20.0% of its own images and on 60.0% of another model's" in _refused(errors, "pgd")["A"]


def test_without_an_image_that_all_models_classify_rightly_every_source_is_refused():
    models = {"never": Constant(), "bright": brightness_model(0.5)}
    result = transfer(models, pixels(0.7, 0.9), attack="fgsm", epsilon=0.1)
    assert list(result.refused) == ["never", "bright"]
    assert result.metrics() == {}
    assert result.table().rows
    result.figure()


@pytest.mark.parametrize(("wrong", "images"), [(0, 10), (1, 10), (5, 10), (10, 10), (37, 1000)])
def test_the_interval_is_wilsons(wrong, images):
    expected = binomtest(wrong, images).proportion_ci(method="wilson")
    assert Rate(wrong, images).interval == pytest.approx(tuple(expected), rel=1e-9, abs=1e-12)


def test_resized_perturbations_have_the_size_after_clipping():
    stream = torch.Generator().manual_seed(0)
    x = (torch.rand(20, 1, 6, 6, generator=stream) * 1.4 - 0.2).clamp(0, 1)
    noise = torch.randn(20, 1, 6, 6, generator=stream)
    wanted = torch.linspace(0.01, 0.3, 20)
    moved = resized(x, noise, wanted)
    torch.testing.assert_close((moved - x).flatten(1).square().mean(1).sqrt(), wanted, rtol=1e-5, atol=1e-7)
    assert moved.min() >= 0
    assert moved.max() <= 1
    clipped = amplify(x, x + noise, rms=0.3) - x
    assert clipped.flatten(1).square().mean(1).sqrt().max() < 0.3


def test_resized_is_amplify_where_nothing_is_clipped():
    x = torch.full((3, 1, 4, 4), 0.5)
    noise = torch.empty_like(x).uniform_(-0.01, 0.01, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resized(x, noise, 0.1), amplify(x, x + noise, rms=0.1), rtol=1e-5, atol=1e-6)


def test_a_box_without_room_is_filled_and_a_limit_says_so():
    models = {"low": brightness_model(0.5), "high": brightness_model(0.55)}
    result = transfer(models, pixels(0.4, 0.9), attack="fgsm", epsilon=0.2, common_rms=0.8)
    # Pixel 0.4 rises by 0.6, pixel 0.9 falls by 0.8.
    assert result.sizes["attack", "common"]["low"] == pytest.approx(0.7, abs=2e-3)
    assert "low has an rms of 0.700, not 0.800: the box has no more room" in result.limits[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attack": "pdg", "epsilon": 0.1}, r"attack: must be one of \[.*'lbfgs'.*\], got 'pdg'"),
        ({"attack": "pgd"}, "epsilon: must be > 0 for pgd, got None"),
        ({"attack": "pgd", "epsilon": 0.0}, "epsilon: must be > 0 for pgd, got 0.0"),
        ({"attack": "lbfgs", "epsilon": 0.1}, "epsilon: must be left out for lbfgs"),
        ({"attack": "fgsm", "epsilon": 0.1, "groups": {"A": "x"}}, r"groups: must name .*\['A', 'B'\], got \['A'\]"),
        ({"attack": "fgsm", "epsilon": 0.1, "common_rms": 0.0}, "common_rms: must be > 0, got 0.0"),
    ],
    ids=["attack", "no radius", "radius 0", "radius of lbfgs", "groups", "size"],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    models = {"A": brightness_model(0.5), "B": brightness_model(0.5)}
    with pytest.raises(ValueError, match=message):
        transfer(models, pixels(0.1, 0.9), **arguments)


def test_one_model_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        transfer({"A": brightness_model(0.5)}, pixels(0.1), attack="fgsm", epsilon=0.1)


def test_the_table_has_a_row_for_every_number(measured):
    table = measured.table()
    assert len(table.rows) == 3 + 3 * 2 * 3 * 9
    first = dict(zip(table.columns, table.rows[3], strict=True))
    assert (first["perturbation"], first["made for"], first["judged by"]) == ("attack", "A", "A")
    assert first["low"] <= first["error"] <= first["high"]


def test_the_heat_map_shows_sources_as_rows_and_the_noises_below(measured):
    own, common = measured.figure().data
    assert [label.split(",")[0] for label in own.y[:3]] == ["one: A", "one: B", "other: C"]
    assert len(own.z) == len(common.z) == 5
    assert own.z[0][2] == pytest.approx(100 * measured.errors[RIGHT]["A"]["C"].error)
    assert list(own.x) == ["one: A", "one: B", "other: C"]
