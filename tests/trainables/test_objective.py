"""One step's loss: its pieces against the vectors, and what each method adds."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.attacks import projected_ascent
from trainables.config import ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.mixup import Mix, mixed_cross_entropy
from trainables.models import build
from trainables.models.staged import StagedClassifier
from trainables.objective import Draws, Methods, draw, step_loss
from trainables.seeding import Streams
from trainables.snnl import training_loss

NO_DRAWS = Draws()


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def methods_for(model, **point):
    return Methods.resolve(TrialConfig.from_point(point), model)


@pytest.fixture
def softmax_case(mixup_vectors):
    """The linear model of the vectors as a classifier with no hidden stage, and its images."""
    vector = mixup_vectors["attacks_linear_softmax"]
    case = vector["in"]
    head = nn.Linear(4, 3)
    head.weight.data, head.bias.data = tensor(case["W"]), tensor(case["b"])
    model = StagedClassifier({"penultimate": nn.Flatten()}, head, channels=1).double()
    return model, tensor(case["x"]).reshape(3, 1, 1, 4), torch.tensor(case["y"]), vector["expected"]


@pytest.fixture
def pgd_methods(softmax_case):
    return methods_for(
        softmax_case[0],
        **{
            "adversarial.epsilon": 0.1,
            "adversarial.attack": "pgd",
            "adversarial.steps": 5,
            "adversarial.relative_step": 0.3,
            "snnl.layers": "penultimate",
        },
    )


@pytest.fixture
def digits_batch():
    model = build(ModelConfig(name="mlp", width=0.2), image_shape=(1, 8, 8), num_classes=10).double()
    stream = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, 8, 8, generator=stream, dtype=torch.float64)
    return model, x, torch.arange(40) % 10


def test_half_clean_half_adversarial_loss_equals_vector(softmax_case, pgd_methods):
    model, x, y, expected = softmax_case
    loss = step_loss(model, x, y, num_classes=3, methods=pgd_methods, draws=NO_DRAWS)
    key = next(key for key in expected if key.startswith("madry_half_half_loss"))
    assert loss.total.item() == pytest.approx(expected[key], rel=1e-9)


@pytest.mark.parametrize(("fraction", "key"), [(1.0, "clean_ce_mean"), (0.0, "ce_mean")])
def test_clean_fraction_weighs_the_clean_cross_entropy(softmax_case, pgd_methods, fraction, key):
    model, x, y, expected = softmax_case
    expected = {**expected, **expected["pgd_linf_eps0.1_alpha0.03_steps5_nostart"]}
    adversarial = pgd_methods.adversarial.model_copy(update={"clean_fraction": fraction})
    methods = replace(pgd_methods, adversarial=adversarial)
    loss = step_loss(model, x, y, num_classes=3, methods=methods, draws=NO_DRAWS)
    assert loss.total.item() == pytest.approx(expected[key], rel=1e-9)


def test_interpolated_adversarial_training_step_equals_vector(softmax_case, pgd_methods, mixup_vectors):
    model, x, y, _ = softmax_case
    vector = mixup_vectors["iat_step"]
    clean, attacked = (
        Mix("input", vector["in"][key]["lam"], torch.tensor(vector["in"][key]["perm"])) for key in ("clean", "advmix")
    )
    draws = Draws(clean_mix=clean, adversarial_mix=attacked)
    loss = step_loss(model, x, y, num_classes=3, methods=pgd_methods, draws=draws)
    assert loss.total.item() == pytest.approx(vector["expected"]["total(0.5,0.5)"], rel=1e-9)

    targets = functional.one_hot(y, 3).double()
    x_adversarial = projected_ascent(model, x, y, epsilon=0.1, steps=5, step_size=0.03)
    pieces = [
        mixed_cross_entropy(model.features(images, mix=mixture).logits, targets, mixture).item()
        for images, mixture in ((x, clean), (x_adversarial, attacked))
    ]
    expected = [vector["expected"]["loss_clean_mix"], vector["expected"]["loss_adv_mix"]]
    assert pieces == pytest.approx(expected, rel=1e-9)


def test_with_every_method_off_the_loss_is_the_cross_entropy(digits_batch):
    model, x, y = digits_batch
    loss = step_loss(model, x, y, num_classes=10, methods=methods_for(model), draws=NO_DRAWS)
    torch.testing.assert_close(loss.total, functional.cross_entropy(model(x), y))
    assert set(loss.terms) == {"ce"}


@pytest.mark.parametrize("weight", [-0.5, 0.5])
@pytest.mark.parametrize("mode", ["minimised", "relative", "absolute"])
def test_snnl_is_added_with_its_signed_weight_and_summed_over_layers(digits_batch, weight, mode):
    model, x, y = digits_batch
    settings = {"snnl.weight": weight, "snnl.temperature_mode": mode, "snnl.layers": "fc1+penultimate"}
    loss = step_loss(model, x, y, num_classes=10, methods=methods_for(model, **settings), draws=NO_DRAWS)
    taps = model.features(x, taps=("fc1", "penultimate")).taps
    entanglement = sum(training_loss(tap, y, mode=mode) for tap in taps.values())
    torch.testing.assert_close(loss.terms["snnl"], entanglement)
    torch.testing.assert_close(loss.total, loss.terms["ce"] + weight * entanglement)


def test_snnl_is_computed_on_unmixed_and_unattacked_activations(digits_batch):
    model, x, y = digits_batch
    alone = methods_for(model, **{"snnl.weight": 1.0})
    together = methods_for(
        model, **{"snnl.weight": 1.0, "mixup.alpha": 1.0, "mixup.layers": "all", "adversarial.epsilon": 0.2}
    )
    draws = draw(x, methods=together, streams=Streams.from_seed(0))
    expected = step_loss(model, x, y, num_classes=10, methods=alone, draws=NO_DRAWS).terms["snnl"]
    loss = step_loss(model, x, y, num_classes=10, methods=together, draws=draws)
    torch.testing.assert_close(loss.terms["snnl"], expected)


def test_snnl_costs_an_extra_pass_only_with_mixup(digits_batch, monkeypatch):
    model, x, y = digits_batch
    passes = []
    original = StagedClassifier.features
    monkeypatch.setattr(StagedClassifier, "features", lambda self, *a, **k: passes.append(k) or original(self, *a, **k))
    for point, expected in (({"snnl.weight": 1.0}, 1), ({"snnl.weight": 1.0, "mixup.alpha": 1.0}, 2)):
        passes.clear()
        methods = methods_for(model, **point)
        draws = draw(x, methods=methods, streams=Streams.from_seed(0))
        step_loss(model, x, y, num_classes=10, methods=methods, draws=draws)
        assert len(passes) == expected


def test_clean_and_adversarial_batches_are_mixed_independently(digits_batch):
    model, x, _ = digits_batch
    methods = methods_for(model, **{"mixup.alpha": 1.0, "adversarial.epsilon": 0.1})
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    assert draws.clean_mix.lam != draws.adversarial_mix.lam
    assert not torch.equal(draws.clean_mix.permutation, draws.adversarial_mix.permutation)


def test_a_method_that_is_off_draws_nothing(digits_batch):
    model, x, _ = digits_batch
    streams = Streams.from_seed(0)
    before = {name: str(value) for name, value in streams.state().items()}
    assert draw(x, methods=methods_for(model, **{"snnl.weight": 1.0}), streams=streams) == NO_DRAWS
    assert {name: str(value) for name, value in streams.state().items()} == before


@pytest.mark.parametrize(
    ("name", "value", "nearest"), [("snnl.layers", "cf1", "fc1"), ("mixup.layers", "inputt", "input")]
)
def test_an_unknown_layer_is_an_error_with_the_nearest_name(digits_batch, name, value, nearest):
    with pytest.raises(ConfigError, match=rf"{name}: '{value}' is no layer .*did you mean '{nearest}'"):
        methods_for(digits_batch[0], **{name: value})
