"""What the metrics count, on cases whose answer is known."""

import pytest
import torch
from torch import nn

from trainables.attacks import pgd_accuracy
from trainables.config.trial import DataConfig, ModelConfig, TrialConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.clean import expected_calibration_error
from trainables.evaluation.core.entanglement import entanglement
from trainables.evaluation.core.evaluation_attack import robust_accuracy, zero_gradients
from trainables.evaluation.core.prediction import as_pixels, balanced_subset, logits
from trainables.models import build
from trainables.snnl import minimise_temperature
from trainables.tasks.classifier.training import train


def brightness_model(threshold):
    """Class 1 where the one pixel is brighter than the threshold."""
    layer = nn.Linear(1, 2)
    layer.weight.data, layer.bias.data = torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, -threshold])
    return nn.Sequential(nn.Flatten(), layer)


def pixels(*values):
    images = torch.tensor([round(255 * value) for value in values], dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Split(images, torch.tensor([int(value > 0.5) for value in values]))


def test_robust_accuracy_counts_the_images_farther_than_epsilon_from_the_boundary():
    split = pixels(0.1, 0.35, 0.45, 0.55, 0.65, 0.9)
    value = robust_accuracy(brightness_model(0.5), split, epsilon=0.1, steps=10)
    assert value == pytest.approx(4 / 6)


def test_an_image_that_is_wrong_before_the_attack_is_not_robust():
    # The model says class 1 to everything, and nothing can change that.
    value = robust_accuracy(brightness_model(-5.0), pixels(0.1, 0.2, 0.8), epsilon=0.1, steps=3)
    assert value == pytest.approx(1 / 3)


@pytest.fixture(scope="module")
def digits_model():
    point = {"epochs": 4, "model.name": "mlp"}
    return train(TrialConfig.from_point(point)).model, balanced_subset(load_splits(DataConfig()).val, size=200)


class Rescaled(nn.Module):
    """The same decisions from other logits."""

    def __init__(self, model, *, scale=1.0, bias=0.0):
        super().__init__()
        self.model, self.scale, self.bias = model, scale, bias

    def forward(self, x):
        return self.scale * self.model(x) + self.bias


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.6)])
@pytest.mark.parametrize("changed", [{"scale": 10.0}, {"scale": 100.0}, {"scale": 1e4}, {"bias": 1e4}])
def test_robust_accuracy_does_not_rise_with_the_scale_or_a_bias_of_the_logits(digits_model, norm, epsilon, changed):
    model, split = digits_model
    plain = robust_accuracy(model, split, epsilon=epsilon, norm=norm, steps=10)
    other = robust_accuracy(Rescaled(model, **changed), split, epsilon=epsilon, norm=norm, steps=10)
    assert 0.1 < plain < 0.9
    assert other == pytest.approx(plain, abs=0.05)


def test_training_accuracy_under_pgd_does_not_rise_with_the_scale_of_the_logits(digits_model):
    model, split = digits_model
    x = as_pixels(split.images_NCHW)
    plain, large = (
        float(
            pgd_accuracy(
                Rescaled(model, scale=scale), x, split.labels_N, epsilon=0.1, generator=torch.Generator().manual_seed(0)
            )
        )
        for scale in (1.0, 1e3)
    )
    assert large == pytest.approx(plain, abs=0.05)


def test_zero_gradients_are_the_share_of_images_that_pgd_cannot_move(digits_model):
    model, split = digits_model
    assert zero_gradients(model, split) == zero_gradients(Rescaled(model, scale=1e4), split) == 0
    rounding = nn.Sequential(nn.Threshold(0.5, 0.0), nn.Flatten(), nn.Linear(1, 2))
    assert zero_gradients(rounding, pixels(0.1, 0.2, 0.3, 0.9)) == 0.75


def test_robust_accuracy_is_the_same_each_time():
    splits = load_splits(DataConfig())
    model = build(ModelConfig(), image_shape=(1, 8, 8), num_classes=10, seed=1)
    subset = balanced_subset(splits.val, size=50)
    values = {robust_accuracy(model, subset, epsilon=0.02, steps=3) for _ in range(3)}
    assert len(values) == 1


@pytest.mark.parametrize("size", [10, 100, 256, 340])
def test_balanced_subset_holds_each_class_equally_often(size):
    counts = balanced_subset(load_splits(DataConfig()).val, size=size).labels_N.bincount(minlength=10)
    assert counts.sum() == size
    assert counts.max() - counts.min() <= 1


def test_balanced_subset_ends_where_the_rarest_class_ends():
    val = load_splits(DataConfig()).val
    rarest = int(val.labels_N.bincount().min())
    assert balanced_subset(val, size=10_000).labels_N.bincount().tolist() == [rarest] * 10


def test_a_smaller_balanced_subset_is_a_beginning_of_a_larger_one():
    val = load_splits(DataConfig()).val
    small, large = balanced_subset(val, size=50), balanced_subset(val, size=200)
    assert torch.equal(small.images_NCHW, large.images_NCHW[:50])


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [(0.9, 9, 0.0), (0.9, 5, 0.4), (0.6, 10, 0.4), (0.999999, 10, 0.0)],
)
def test_calibration_error_is_the_gap_between_confidence_and_accuracy(confidence, right, expected):
    scores = torch.tensor([[confidence, 1 - confidence]]).log().repeat(10, 1)
    labels = torch.tensor([0] * right + [1] * (10 - right))
    assert expected_calibration_error(scores, labels) == pytest.approx(expected, abs=1e-5)


def test_calibration_error_does_not_cancel_between_bins():
    low, high = torch.tensor([0.6, 0.4]).log(), torch.tensor([0.9, 0.1]).log()
    scores = torch.stack([low] * 10 + [high] * 10)
    labels = torch.tensor([0] * 10 + [0] * 5 + [1] * 5)
    assert expected_calibration_error(scores, labels) == pytest.approx(0.4, abs=1e-5)


def test_logits_of_a_split_are_those_of_the_model_in_eval_mode_and_flags_are_restored():
    val = load_splits(DataConfig()).val
    model = build(ModelConfig(), image_shape=(1, 8, 8), num_classes=10).train()
    scores = logits(model, val)
    assert model.training
    torch.testing.assert_close(scores, model.eval()(as_pixels(val.images_NCHW)).detach())


def test_entanglement_of_a_tap_is_the_minimised_loss_of_its_activations():
    subset = balanced_subset(load_splits(DataConfig()).val, size=100)
    model = build(ModelConfig(name="mlp"), image_shape=(1, 8, 8), num_classes=10).eval()
    minima = entanglement(model, subset)
    assert tuple(minima) == model.taps
    taps = model.features(as_pixels(subset.images_NCHW), taps=model.taps).taps
    for tap, minimum in minima.items():
        assert minimum == minimise_temperature(taps[tap].detach(), subset.labels_N)
        assert minimum.num_anchors == 100
