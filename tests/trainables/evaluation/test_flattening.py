"""Spectra against published vectors, closed forms and a plain singular value decomposition."""

import math

import pytest
import torch
from torch import nn

from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.core.suites import suite_of
from trainables.evaluation.representation.flattening import flattening
from trainables.evaluation.representation.spectra import Spectrum, flatness, singular_values
from trainables.models import build
from trainables.models.staged import StagedClassifier


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def digits():
    return load_splits(DataConfig())


@pytest.fixture(scope="module")
def model():
    return build(ModelConfig(name="cnn", width=0.25), image_shape=(1, 8, 8), num_classes=10)


@pytest.mark.parametrize("label", [0, 1])
def test_published_spectra(mixup_vectors, label):
    vector = mixup_vectors["flattening_svd"]
    rows = torch.tensor(vector["in"]["H"], dtype=torch.float64)
    own = rows[torch.tensor(vector["in"]["labels"]) == label]
    expected = vector["expected"][str(label)]
    plain, centred = (values.tolist() for values in singular_values(own))
    assert plain == pytest.approx(expected["sv_uncentered"], rel=1e-9)
    assert centred == pytest.approx(expected["sv_centered"], rel=1e-9)
    flat, root = flatness(own), math.sqrt(len(own))
    assert flat.uncentred.sigma_1 * root == pytest.approx(expected["sigma1"], rel=1e-9)
    assert flat.uncentred.sum_rest * root == pytest.approx(expected["sum_rest"], rel=1e-9)
    ratio = expected["participation_ratio_centered"]
    assert flat.centred.participation_ratio == pytest.approx(ratio, rel=1e-9)


def test_the_gram_matrix_gives_the_singular_values_of_a_wide_tap():
    rows = 5 + normal(7, 20_000)
    plain, centred = singular_values(rows)
    torch.testing.assert_close(plain, torch.linalg.svdvals(rows), rtol=1e-9, atol=0)
    expected = torch.linalg.svdvals(rows - rows.mean(0))
    torch.testing.assert_close(centred[:-1], expected[:-1], rtol=1e-9, atol=0)
    assert centred[-1] < 1e-7 * centred[0]


def test_a_tap_as_wide_as_there_are_images_has_the_spectrum_of_its_padded_self():
    rows = normal(6, 6)
    padded = torch.cat([rows, torch.zeros(6, 5, dtype=torch.float64)], 1)
    for narrow, wide in zip(singular_values(rows), singular_values(padded), strict=True):
        torch.testing.assert_close(narrow, wide, rtol=1e-9, atol=1e-7)


def test_repeating_the_images_changes_nothing():
    rows = normal(10, 4)
    once, thrice = flatness(rows), flatness(rows.repeat(3, 1))
    assert once.uncentred.values_R == pytest.approx(thrice.uncentred.values_R)
    assert once.centred.values_R == pytest.approx(thrice.centred.values_R)
    assert once.row_norm == pytest.approx(thrice.row_norm)


def test_equal_values_have_full_rank():
    spectrum = Spectrum((2.0,) * 5)
    assert spectrum.effective_rank == pytest.approx(5)
    assert spectrum.participation_ratio == pytest.approx(5)
    assert spectrum.rest_fraction == pytest.approx(0.8)


def test_a_normalised_spectrum_sums_to_one_and_its_largest_shares_leave_the_rest():
    spectrum = flatness(normal(30, 12)).centred
    assert math.fsum(spectrum.shares_R) == pytest.approx(1)
    assert spectrum.top_share(1) == pytest.approx(1 - spectrum.rest_fraction)
    assert spectrum.top_share(5) == pytest.approx(sum(spectrum.values_R[:5]) / sum(spectrum.values_R))
    assert spectrum.top_share(12) == pytest.approx(1)
    assert spectrum.top_share(99) == pytest.approx(1)


def test_the_figure_draws_shares_so_that_a_larger_network_looks_the_same(digits, model):
    larger = build(ModelConfig(name="cnn", width=0.25), image_shape=(1, 8, 8), num_classes=10)
    larger.stages["conv1"][0].weight.data.mul_(2)
    before, after = (flattening(network, digits.val, images=20).figure().data[0] for network in (model, larger))
    assert before.name == after.name == "class 0"
    assert list(after.y) == pytest.approx(list(before.y), rel=1e-4)


def test_activations_that_are_all_zero_have_no_ratios():
    spectrum = flatness(torch.zeros(3, 2)).uncentred
    assert spectrum.sum_rest == 0
    assert all(
        math.isnan(value)
        for value in (
            spectrum.rest_fraction,
            spectrum.participation_ratio,
            spectrum.effective_rank,
            spectrum.top_share(5),
            *spectrum.shares_R,
        )
    )


def test_weights_twice_as_large_leave_the_scaled_metrics_alone(digits, model):
    """Activations that grow are not flatter."""
    before = flattening(model, digits.val, images=50).metrics()
    larger = build(ModelConfig(name="cnn", width=0.25), image_shape=(1, 8, 8), num_classes=10)
    larger.stages["conv1"][0].weight.data.mul_(2)
    after = flattening(larger, digits.val, images=50).metrics()
    for name in ("sigma_1", "sum_rest", "centred_sum_rest"):
        assert after[f"flattening/conv1_{name}"] == pytest.approx(2 * before[f"flattening/conv1_{name}"], rel=1e-4)
    assert after["flattening/conv1_mean_norm"] == pytest.approx(2 * before["flattening/conv1_mean_norm"], rel=1e-4)
    depends_on_scale = ("_sigma_1", "_sum_rest", "_mean_norm")
    free = {
        name.removeprefix("flattening/conv1_")
        for name in after
        if name.startswith("flattening/conv1_") and ("scaled" in name or not name.endswith(depends_on_scale))
    }
    assert {"scaled_sigma_1", "top_share", "centred_top_share", "participation_ratio", "together_top_share"} < free
    for name in sorted(free):
        assert after[f"flattening/conv1_{name}"] == pytest.approx(before[f"flattening/conv1_{name}"], rel=1e-4)


def test_every_spectrum_is_of_equally_many_images(digits, model):
    rarest = int(digits.val.labels_N.bincount().min())
    result = flattening(model, digits.val)
    assert result.number == rarest
    assert result.limits == (f"test: {10 * rarest} of {len(digits.val)} images, class-balanced",)
    assert list(result.classes) == list(model.taps)
    assert {len(by_class) for by_class in result.classes.values()} == {10}
    ranks = {len(flat.uncentred.values_R) for flat in (*result.classes["conv1"].values(), result.together["conv1"])}
    assert ranks == {rarest}


def test_metrics_are_means_over_the_classes(digits, model):
    result = flattening(model, digits.val, images=100)
    own = [flat.uncentred.sum_rest for flat in result.classes["conv2"].values()]
    assert result.metrics()["flattening/conv2_sum_rest"] == pytest.approx(sum(own) / 10)
    assert result.number == 10


def test_the_spectrum_of_a_class_is_that_of_its_activations(digits, model):
    result = flattening(model, digits.val, images=100)
    own = digits.val.images_NCHW[digits.val.labels_N == 3][:10].float() / 255
    rows = model.features(own, taps=["conv1"]).taps["conv1"].flatten(1).detach().double()
    expected = torch.linalg.svdvals(rows) / math.sqrt(10)
    assert result.classes["conv1"][3].uncentred.values_R == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)


def test_a_dead_tap_is_refused_and_the_others_are_kept():
    stages = {"fc1": nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()), "penultimate": nn.Identity()}
    dead = StagedClassifier(stages, nn.Linear(3, 2), channels=1)
    stages["fc1"][1].bias.data.fill_(-100)
    images = torch.arange(16, dtype=torch.uint8).reshape(4, 1, 2, 2)
    result = flattening(dead, Split(images, torch.tensor([0, 0, 1, 1])))
    refused = "flattening/fc1_effective_rank: must be finite to be tracked, got nan; all activations of a class are 0"
    assert refused in result.refusals
    assert "flattening/fc1_effective_rank" not in result.metrics()
    assert result.metrics()["flattening/fc1_sum_rest"] == 0
    assert "flattening/logits_effective_rank" in result.metrics()
    result.table()
    result.figure()


def test_one_image_has_no_spectrum(digits, model):
    with pytest.raises(ValueError, match="each of the 10 classes needs at least 2 images, got 1; take more"):
        flattening(model, digits.val, images=19)


def test_activations_that_are_not_finite_are_refused_by_tap(digits):
    broken = build(ModelConfig(name="cnn", width=0.25), image_shape=(1, 8, 8), num_classes=10)
    broken.stages["conv2"][0].weight.data.fill_(math.nan)
    with pytest.raises(ValueError, match="conv2: activations must be finite"):
        flattening(broken, digits.val, images=20)


def test_the_suite_tells_its_limits_and_draws(digits, model):
    subject = Subject(model=model, train=digits.train, val=digits.val, test=digits.val, epsilon=0.1)
    steps = []
    result = suite_of("flattening")(subject, EvaluationBudget(images=50), lambda *step: steps.append(step))[
        "flattening"
    ]
    assert result.limits == (f"test: 50 of {len(digits.val)} images, class-balanced",)
    assert result.refusals == ()
    assert steps[-1][1] == 1.0
    assert len(result.table().rows) == len(model.taps) * 11 * 2
    assert len(result.figure().data) == len(model.taps) * 11
    assert all(math.isfinite(value) for value in result.metrics().values())
