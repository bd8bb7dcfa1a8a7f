"""One step's loss: its pieces against the vectors, and what each method adds."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.attacks import projected_ascent, trades_ascent
from trainables.config.trial import LossConfig, ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.mixup import Mix, mixed_targets
from trainables.models import build
from trainables.models.staged import StagedClassifier
from trainables.regularizers.resolved_methods import Draws, Methods, draw
from trainables.seeding import Streams
from trainables.snnl import chance_level, minimise_temperature, soft_composition, soft_label_loss, training_term
from trainables.tasks.classifier.cross_entropy import classification_loss
from trainables.tasks.classifier.objective import step_loss

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
        classification_loss(
            model.features(images, mix=mixture).logits, mixed_targets(targets, mixture), settings=LossConfig()
        ).item()
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
    entanglement = sum(training_term(tap, y, mode=mode).loss for tap in taps.values())
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


ATTACKED = {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd", "adversarial.steps": 2}


def test_trades_adds_its_divergence_between_unmixed_predictions(digits_batch):
    model, x, y = digits_batch
    point = {**ATTACKED, "adversarial.attack": "trades", "adversarial.trades_beta": 3.0}
    for mixing in ({}, {"mixup.alpha": 1.0}):
        methods = methods_for(model, **point, **mixing)
        draws = draw(x, methods=methods, streams=Streams.from_seed(0))
        loss = step_loss(model, x, y, num_classes=10, methods=methods, draws=draws)
        x_adversarial = trades_ascent(model, x, epsilon=0.1, steps=2, step_size=0.125, noise=draws.noise_BCHW)
        clean, attacked = (functional.log_softmax(model(images), 1) for images in (x, x_adversarial))
        kl = functional.kl_div(attacked, clean, log_target=True, reduction="batchmean")
        torch.testing.assert_close(loss.terms["kl"], kl)
        torch.testing.assert_close(loss.total, loss.terms["ce"] + 3 * kl)
        assert draws.adversarial_mix is None


def test_trades_without_its_noise_is_refused(digits_batch):
    model, x, y = digits_batch
    methods = methods_for(model, **{**ATTACKED, "adversarial.attack": "trades"})
    with pytest.raises(ValueError, match="noise_BCHW: must be present for trades"):
        step_loss(model, x, y, num_classes=10, methods=methods, draws=NO_DRAWS)


def test_plain_fgsm_draws_no_start(digits_batch):
    model, x, _ = digits_batch
    methods = methods_for(model, **{"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm"})
    assert draw(x, methods=methods, streams=Streams.from_seed(0)) == NO_DRAWS


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_of_a_step_stays_in_the_ball_of_its_norm(digits_batch, monkeypatch, norm):
    model, x, y = digits_batch
    methods = methods_for(model, **ATTACKED, **{"adversarial.norm": norm})
    seen = []
    original = StagedClassifier.features
    monkeypatch.setattr(
        StagedClassifier, "features", lambda self, x, **k: seen.append(x.detach()) or original(self, x, **k)
    )
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    step_loss(model, x, y, num_classes=10, methods=methods, draws=draws)
    moved = max((images - x for images in seen), key=lambda step: float(step.abs().max())).flatten(1)
    radius = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    assert float(radius.max()) == pytest.approx(0.1, rel=0.05)
    assert bool((radius <= 0.1 + 1e-9).all())


def test_the_chance_level_and_the_singletons_stand_beside_the_snnl(digits_batch):
    model, x, _ = digits_batch
    y = torch.tensor([0] * 20 + [1] * 19 + [2])
    loss = step_loss(model, x, y, num_classes=10, methods=methods_for(model, **{"snnl.weight": 1.0}), draws=NO_DRAWS)
    assert float(loss.terms["snnl_singletons"]) == 1
    assert float(loss.terms["snnl_chance"]) == pytest.approx(2 * chance_level(y))
    assert float(loss.terms["snnl"].detach()) <= float(loss.terms["snnl_chance"])


@pytest.mark.parametrize("weight", [-1.0, 1.0])
def test_a_learned_temperature_goes_from_step_to_step_and_downhill_whatever_the_weight(digits_batch, weight):
    model, x, y = digits_batch
    methods = methods_for(model, **{"snnl.weight": weight, "snnl.temperature_mode": "learned"})
    memory, values = {}, []
    for _ in range(12):
        loss = step_loss(model, x, y, num_classes=10, methods=methods, draws=NO_DRAWS, memory=memory)
        memory = loss.memory
        values.append(float(loss.terms["snnl"].detach()))
    assert set(memory["snnl"]) == {f"{tap}/{name}" for tap in methods.taps for name in ("log_beta", "origin")}
    assert all(not value.requires_grad for value in memory["snnl"].values())
    assert values[-1] < values[0]
    least = sum(minimise_temperature(tap, y).value for tap in model.features(x, taps=methods.taps).taps.values())
    assert values[-1] == pytest.approx(least, rel=0.02)


def test_on_mixed_activations_the_soft_form_is_taken_in_the_same_pass(digits_batch):
    model, x, y = digits_batch
    point = {"snnl.weight": 1.0, "snnl.temperature_mode": "absolute", "snnl.on_mixed": True, "mixup.alpha": 1.0}
    methods = methods_for(model, **point)
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    loss = step_loss(model, x, y, num_classes=10, methods=methods, draws=draws)
    targets = mixed_targets(functional.one_hot(y, 10).double(), draws.clean_mix)
    taps = model.features(x, mix=draws.clean_mix, taps=methods.taps).taps
    expected = sum(soft_label_loss(tap, targets, 1.0) for tap in taps.values())
    torch.testing.assert_close(loss.terms["snnl"], expected)


def test_a_tap_that_is_read_before_the_mixture_keeps_its_own_targets(digits_batch):
    model, x, y = digits_batch
    point = {"snnl.weight": 1.0, "snnl.temperature_mode": "absolute", "snnl.layers": "all", "snnl.on_mixed": True}
    methods = methods_for(model, **point, **{"mixup.alpha": 1.0, "mixup.layers": "fc2"})
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    loss = step_loss(model, x, y, num_classes=10, methods=methods, draws=draws)
    hard = functional.one_hot(y, 10).double()
    soft = mixed_targets(hard, draws.clean_mix)
    taps = model.features(x, mix=draws.clean_mix, taps=methods.taps).taps
    targets = {"fc1": hard, "fc2": hard, "penultimate": soft, "logits": soft}
    expected = sum(soft_label_loss(taps[tap], targets[tap], 1.0) for tap in taps)
    torch.testing.assert_close(loss.terms["snnl"], expected)
    chance = 2 * chance_level(y) + 2 * float(soft_composition(soft)[0])
    assert float(loss.terms["snnl_chance"]) == pytest.approx(chance)
    assert float(loss.terms["snnl_singletons"]) == 0


@pytest.mark.parametrize(
    ("point", "forward_passes"),
    [
        ({"adversarial.clean_fraction": 0.0}, 1),
        ({"adversarial.clean_fraction": 0.5}, 2),
        ({"adversarial.clean_fraction": 1.0}, 1),
        ({"adversarial.clean_fraction": 0.0, "snnl.weight": 0.1}, 2),
        ({"adversarial.clean_fraction": 0.0, "snnl.weight": 0.1, "mixup.alpha": 1.0}, 2),
        ({"adversarial.clean_fraction": 0.5, "snnl.weight": 0.1, "mixup.alpha": 1.0}, 3),
    ],
)
def test_batch_normalisation_sees_the_batches_that_the_loss_is_made_of_and_no_others(point, forward_passes):
    model = build(ModelConfig(name="cnn_bn", width=0.2), image_shape=(1, 8, 8), num_classes=10)
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    methods = methods_for(model, **{"adversarial.epsilon": 0.1}, **point)
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    step_loss(model, x, torch.arange(20) % 10, num_classes=10, methods=methods, draws=draws)
    assert int(model.stages["conv1"][1].num_batches_tracked) == forward_passes


def test_the_divergence_of_trades_is_taken_in_float32_under_autocast():
    model = build(ModelConfig(name="mlp", width=0.2), image_shape=(1, 8, 8), num_classes=10)
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    methods = methods_for(model, **{"adversarial.epsilon": 0.1, "adversarial.attack": "trades"})
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = step_loss(model, x, torch.arange(20) % 10, num_classes=10, methods=methods, draws=draws)
    assert {value.dtype for value in (loss.total, *loss.terms.values())} == {torch.float32}


def test_cutmix_is_drawn_for_the_input(digits_batch):
    model, x, _ = digits_batch
    methods = methods_for(model, **{"mixup.kind": "cutmix", "mixup.alpha": 1.0})
    drawn = draw(x, methods=methods, streams=Streams.from_seed(0)).clean_mix
    assert drawn.boundary == "input"
    assert drawn.boxes is not None


def test_the_detached_ablation_leaves_what_comes_before_the_mixture_without_gradient(digits_batch):
    model, x, y = digits_batch
    methods = methods_for(model, **{"mixup.alpha": 1.0, "mixup.layers": "fc2", "mixup.detached": True})
    draws = draw(x, methods=methods, streams=Streams.from_seed(0))
    step_loss(model, x, y, num_classes=10, methods=methods, draws=draws).total.backward()
    assert all(parameter.grad is None for name in ("fc1", "fc2") for parameter in model.stages[name].parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
