"""The product bound is above whatever images show, and what it certifies is true."""

import math

import pytest
import torch
from torch import nn

from trainables.config.trial import DataConfig, ModelConfig
from trainables.data import Split, load_splits
from trainables.evaluation.core.prediction import as_pixels, balanced_subset
from trainables.evaluation.core.results import EvaluationBudget, Subject
from trainables.evaluation.core.suites import suite_of
from trainables.evaluation.stability.lipschitz import Constant
from trainables.evaluation.stability.stability_suite import Stability, certified_radii, local_constants, stability
from trainables.models import MODELS, build
from trainables.models.staged import StagedClassifier

RESIDUAL = {"preact_resnet18", "preact_resnet34", "wide_resnet28_10"}


@pytest.fixture(scope="module")
def digits():
    return load_splits(DataConfig())


def model_named(name, *, width=None, std=(0.38,)):
    width = width or (0.02 if name in RESIDUAL else 0.25)
    return build(ModelConfig(name=name, width=width), image_shape=(1, 8, 8), num_classes=10, std=std)


def linear_model():
    stages = {"fc1": nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), "penultimate": nn.Identity()}
    return StagedClassifier(stages, nn.Identity(), channels=1)


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_is_above_the_local_constants_of_every_model(digits, name):
    model = model_named(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(0.3)
            module.weight.data.fill_(-1.5)
    result = stability(model, digits.val, epsilon=0.1, images=10)
    assert 0 < max(result.local_N) <= result.bound
    numbers = result.metrics()
    assert numbers["stability/log10_bound"] == pytest.approx(math.log10(numbers["stability/bound"]))
    assert {f"stability/{tap}_norm" for tap in model.taps} <= set(numbers)
    assert all(math.isfinite(value) for value in numbers.values())


def test_bound_and_local_constant_meet_in_a_linear_model():
    images = Split(torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2), torch.tensor([0, 1, 2]))
    model = linear_model()
    model.std.fill_(0.5)
    result = stability(model, images, epsilon=0.1)
    expected = 2 * float(torch.linalg.matrix_norm(model.stages["fc1"][1].weight.detach(), 2))
    assert result.bound == pytest.approx(expected, rel=1e-5)
    assert result.local_N == pytest.approx([expected] * 3, rel=1e-5)


def test_the_local_constant_is_the_norm_of_the_whole_jacobian(digits):
    model = model_named("cnn_bn").eval()
    few = digits.val.take(torch.arange(3))
    jacobians = [
        torch.autograd.functional.jacobian(model, image[None]).reshape(10, 64).double()
        for image in as_pixels(few.images_NCHW)
    ]
    expected = [float(torch.linalg.matrix_norm(jacobian, 2)) for jacobian in jacobians]
    assert local_constants(model, few).tolist() == pytest.approx(expected, rel=1e-5)


def test_local_constants_touch_no_gradient_and_no_mode(digits):
    model = model_named("cnn_bn").train()
    with torch.no_grad():
        local_constants(model, digits.val.take(torch.arange(2)))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_no_change_within_the_certified_radius_alters_the_label(digits):
    model = model_named("mlp")
    result = stability(model, digits.val, epsilon=0.1, images=50)
    subset = balanced_subset(digits.val, size=50)
    x = as_pixels(subset.images_NCHW).requires_grad_()
    scores = model(x)
    radii = torch.tensor(result.radii_N)
    assert (radii > 0).any()
    second = scores.scatter(1, subset.labels_N[:, None], -math.inf).amax(1)
    (own,) = torch.autograd.grad((scores.gather(1, subset.labels_N[:, None])[:, 0] - second).sum(), x)
    step = -own / own.flatten(1).norm(dim=1)[:, None, None, None] * radii[:, None, None, None]
    assert (model(x + step).argmax(1) == subset.labels_N)[radii > 0].all()


def test_certified_radii_of_two_logits_are_the_distances_to_the_boundary():
    """For rows w and -w the bound of two logits is tight: |x| itself is the distance."""
    x = torch.tensor([0.5, -0.25], dtype=torch.float64)
    scores = torch.stack([x, -x], 1)
    radii = certified_radii(scores, torch.tensor([0, 1]), bound=math.sqrt(2))
    assert radii.tolist() == pytest.approx([0.5, 0.25])
    assert certified_radii(scores, torch.tensor([1, 0]), bound=math.sqrt(2)).tolist() == [0, 0]


def test_the_certified_fraction_counts_right_images_whose_radius_holds_the_ball():
    stages = (Constant("input", "normalisation", (1, 2, 2), 2.0),)
    result = Stability(stages, local_N=(1.0, 3.0, 2.0), radii_N=(0.0, 0.1, 0.2, 0.4), epsilon=0.2)
    assert result.metrics() == {
        "stability/bound": 2.0,
        "stability/log10_bound": pytest.approx(math.log10(2)),
        "stability/input_norm": 2.0,
        "stability/local_max": 3.0,
        "stability/local_median": 2.0,
        "stability/certified_radius_median": 0.1,
        "stability/certified_fraction": 0.5,
    }
    nothing = Stability(stages, local_N=(1.0,), radii_N=(0.0, 0.1), epsilon=0.0)
    assert nothing.metrics()["stability/certified_fraction"] == 0.5


def test_a_bound_beyond_float64_is_refused_and_its_logarithm_kept():
    layers = tuple(Constant(f"fc{i}", "linear", (4,), 1e200) for i in range(2))
    result = Stability(layers, local_N=(1.0,), radii_N=(0.0,), epsilon=0.1)
    assert result.refusals == ("stability/bound: must be finite to be tracked, got inf",)
    assert "stability/bound" not in result.metrics()
    assert result.metrics()["stability/log10_bound"] == pytest.approx(400)


def test_the_suite_tells_its_limits_and_says_the_same_each_time(digits):
    subject = Subject(model=model_named("cnn"), train=digits.train, val=digits.val, test=digits.val, epsilon=0.1)
    steps = []
    first, second = (
        suite_of("stability")(subject, EvaluationBudget(images=150), lambda *step: steps.append(step))["stability"]
        for _ in "ab"
    )
    assert first == second
    assert first.limits == (
        f"test: 150 of {len(digits.val)} images, class-balanced",
        "local constants: 100 of 150 images, class-balanced",
    )
    assert len(first.local_N) == 100
    assert len(first.radii_N) == 150
    assert steps[-1][1] == 1.0


def test_table_and_figure_show_every_layer(digits):
    result = stability(model_named("preact_resnet18"), digits.val, epsilon=0.1, images=10)
    table = result.table()
    layers = [row[1] for row in table.rows]
    assert {"stage2.0.conv1", "stage2.0.shortcut", "stage2.0", "input", "logits"} <= set(layers)
    assert len({row for row in layers if row != "all of the stage"}) == len(layers) - len(result.stages)
    assert table.rows[-1][-1] == pytest.approx(result.log10_bound)
    bars, lower, product, local = result.figure().data
    assert len(bars.x) == len(lower.x)
    assert product.y[-1] == pytest.approx(result.bound)
    assert local.y == result.local_N
