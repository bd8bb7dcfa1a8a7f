"""Adversarial training of hidden layers: the change against differences, its size, and trials."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces import SearchSpace
from trainables.config.trial import ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.mixup import Shift
from trainables.models import build
from trainables.models.hooked import HookedClassifier
from trainables.models.trace import trace
from trainables.regularizers import user_terms
from trainables.regularizers.fragments import with_fragments
from trainables.regularizers.protocol import Batch
from trainables.regularizers.terms.hidden_adversarial import HiddenAdversarial, ascent, resized
from trainables.seeding import generator
from trainables.tasks.classifier.training import train
from trainables.testing import check_regularizer

SHAPE, CLASSES = (1, 4, 4), 3


def staged():
    model = build(ModelConfig(name="mlp", width=0.1), image_shape=SHAPE, num_classes=CLASSES)
    return model.double()


def hooked():
    def net():
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 6), nn.ReLU(inplace=True), nn.Linear(6, 5), nn.Linear(5, CLASSES)
        )

    model = HookedClassifier(net(), trace(net(), image_shape=SHAPE, num_classes=CLASSES, device="cpu"), channels=1)
    return model.double()


@pytest.fixture
def images():
    stream = generator(0, "images")
    return torch.rand(6, *SHAPE, generator=stream, dtype=torch.float64), torch.arange(6) % CLASSES


def batch_of(model, x, y, taps, *, seed=0):
    read = model.features(x, taps=taps)
    calls = []

    def forward(images, shift=None):
        calls.append(shift)
        return model.features(images, mix=shift)

    return Batch(read.taps, read.logits, y, {}, mixed=False, images=x, forward=forward, seed=seed), calls


def loss_at(model, x, y, shift):
    return functional.cross_entropy(model.features(x, mix=shift).logits, y, reduction="sum")


@pytest.mark.parametrize(("make", "tap"), [(staged, "fc1"), (staged, "fc2"), (hooked, "1"), (hooked, "2")])
def test_the_gradient_at_a_layer_is_that_of_differences_of_the_loss(make, tap, images):
    model, (x, y) = make(), images
    h = model.features(x, taps=[tap]).taps[tap].detach()
    slope = ascent(lambda images, shift: model.features(images, mix=shift), x, y, h, boundary=tap)
    assert slope.shape == h.shape
    for row, column in [(0, 0), (3, 2), (5, 4)]:
        step = torch.zeros_like(h)
        step[row, column] = 1e-5
        up, down = (loss_at(model, x, y, Shift(tap, delta)).item() for delta in (step, -step))
        assert float(slope[row, column]) == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("make", [staged, hooked])
def test_a_shift_at_the_input_moves_the_pixels(make, images):
    model, (x, _) = make(), images
    delta = torch.linspace(-0.1, 0.1, x.numel(), dtype=x.dtype).reshape(x.shape)
    moved = model.features(x, mix=Shift("input", delta)).logits
    assert torch.allclose(moved, model(x + delta), rtol=1e-12, atol=0)


def test_each_change_is_epsilon_times_as_long_as_the_activations_of_its_image(images):
    model, (x, y) = staged(), images
    for direction, passes in (("ascent", 2), ("random", 1)):
        batch, calls = batch_of(model, x, y, ["fc1"])
        HiddenAdversarial(0.2, direction).term(batch, {})
        assert len(calls) == passes
        assert calls[-1].boundary == "fc1"
        ratio = calls[-1].delta.norm(dim=1) / batch.taps["fc1"].norm(dim=1)
        assert torch.allclose(ratio, torch.full_like(ratio, 0.2), rtol=1e-12)


def test_the_gradient_raises_the_loss_more_than_a_random_direction_of_the_same_length(images):
    model, (x, y) = staged(), images

    def rise(direction, seed):
        return float(
            HiddenAdversarial(0.2, direction).term(batch_of(model, x, y, ["fc1"], seed=seed)[0], {}).metrics["rise"]
        )

    worst = rise("ascent", 0)
    assert worst > 0
    assert all(rise("random", seed) < worst for seed in range(20))


def test_activations_of_zeros_are_left_alone_with_a_finite_gradient():
    h = torch.zeros(2, 3)
    assert not resized(torch.ones(2, 3), h, epsilon=1.0).any()
    assert not resized(torch.zeros(2, 3), h + 1, epsilon=1.0).any()


@pytest.mark.parametrize("scale", [1e-20, 1e-30, 1e-44, 1e20])
def test_the_length_does_not_depend_on_the_size_of_the_gradient(scale):
    h = torch.tensor([[3.0, 4.0]])
    assert resized(torch.tensor([[0.0, 1.0]]) * scale, h, epsilon=0.1).tolist() == [[0.0, pytest.approx(0.5)]]


def test_every_layer_has_its_turn_and_the_same_step_has_the_same_one(images):
    model, (x, y) = staged(), images

    def chosen(seed):
        batch, calls = batch_of(model, x, y, ["fc1", "fc2"], seed=seed)
        HiddenAdversarial().term(batch, {})
        return calls[-1].boundary

    assert {chosen(seed) for seed in range(20)} == {"fc1", "fc2"}
    assert chosen(3) == chosen(3)


def test_the_change_itself_has_no_gradient(images):
    model, (x, y) = staged(), images
    batch, calls = batch_of(model, x, y, ["fc1"])
    term = HiddenAdversarial().term(batch, {})
    assert not calls[-1].delta.requires_grad
    first = model.stages["fc1"][1].weight
    (slope,) = torch.autograd.grad(term.value, first)
    fixed = functional.cross_entropy(model.features(x, mix=Shift("fc1", calls[-1].delta)).logits, y)
    (expected,) = torch.autograd.grad(fixed, first)
    assert torch.equal(slope, expected)


def test_it_keeps_the_rules_of_regularizers():
    # Of a few images, the change of a hidden layer is small, so the weight is large.
    reports = check_regularizer("hidden_adversarial", {"epsilon": 0.5}, weight=1.0, layers="fc1")
    assert all(report["train/checked/rise"] > 0 for report in reports)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, r"^regularizers\.adversary\.epsilon: .*greater than 0"),
        ({"direction": "down"}, r"^regularizers\.adversary\.direction: .*'ascent' or 'random'"),
    ],
)
def test_a_wrong_argument_is_refused_at_its_place(arguments, message):
    point = {"regularizers.adversary.use": "hidden_adversarial", "regularizers.adversary.passes": 2}
    point |= {f"regularizers.adversary.{name}": value for name, value in arguments.items()}
    settings = TrialConfig.from_point(point).regularizers.by_label["adversary"]
    with pytest.raises(ConfigError, match=message):
        user_terms.build("adversary", settings, num_classes=10)


def test_use_in_a_space_searches_its_weight_and_radius():
    space = SearchSpace.from_dict(with_fragments({"use": ["hidden_adversarial"]}, catalog=[]))
    prefix = "regularizers.hidden_adversarial"
    on = {f"{prefix}.use": "hidden_adversarial", f"{prefix}.passes": 2}
    assert space.contains({**on, f"{prefix}.weight": 0.0})
    assert space.contains({**on, f"{prefix}.weight": 0.5, f"{prefix}.epsilon": 0.1})


def test_a_layer_that_cannot_be_mixed_at_is_refused_with_its_name():
    point = {"regularizers.adversary.use": "hidden_adversarial", "regularizers.adversary.passes": 2}
    point |= {"regularizers.adversary.weight": 1.0, "regularizers.adversary.layers": "penultimate", "model.name": "mlp"}
    with pytest.raises(ConfigError, match=r"^regularizers\.adversary: .*must be one of .*'fc2'.*, got 'penul"):
        train(TrialConfig.from_point({**point, "epochs": 1, "device": "cpu"}), report=lambda _: None)


def test_a_trial_that_weighs_it_withstands_the_change_better_than_one_that_does_not():
    def rise_after(weight):
        adversary = {"use": "hidden_adversarial", "passes": 2, "layers": "fc1", "weight": weight}
        point = {f"regularizers.adversary.{name}": value for name, value in adversary.items()}
        point |= {"epochs": 3, "device": "cpu", "precision": "float32", "model.name": "mlp"}
        reports = []
        train(TrialConfig.from_point({**point, "evaluation.robust_epsilon": 0.0}), report=reports.append)
        return reports[-1].metrics["train/adversary/rise"]

    assert rise_after(1.0) < 0.8 * rise_after(1e-9)
