"""Attacks against their vectors, and one battery of promises over the table of all attacks."""

import math
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from trainables.attacks import fgsm, pgd

EXACT = {"rtol": 1e-9, "atol": 1e-11}
EPSILON = 0.1
ATTACKS = {
    "fgsm": fgsm,
    "pgd": partial(pgd, steps=3, step_size=0.05, random_start=False),
    "pgd-random-start": partial(pgd, steps=3, step_size=0.05, random_start=True),
    "fgsm-rs": partial(pgd, steps=1, step_size=1.25 * EPSILON, random_start=True),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def linear(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = tensor(weight), tensor(bias)
    return layer


@pytest.fixture
def softmax_case(mixup_vectors):
    vector = mixup_vectors["attacks_linear_softmax"]
    case = vector["in"]
    model = linear(case["W"], case["b"])
    return model, tensor(case["x"]), torch.tensor(case["y"]), case, vector["expected"]


@pytest.fixture
def tanh_case(mixup_vectors):
    vector = mixup_vectors["attacks_tanh_mlp"]
    case = vector["in"]
    model = nn.Sequential(linear(case["W1"], case["b1"]), nn.Tanh(), linear(case["W2"], case["b2"]))
    return model, tensor(case["x"]), torch.tensor(case["y"]), case, vector["expected"]


def network():
    """Dropout and batch norm, some of it deliberately frozen: a model whose flags differ."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )
    model.train()
    model[2].eval()
    return model


def images(size=5, dtype=torch.float32):
    stream = torch.Generator().manual_seed(1)
    return torch.rand(size, 3, 2, 2, generator=stream).to(dtype), torch.arange(size) % 3


def test_fgsm_equals_vector(softmax_case):
    model, x, y, _, expected = softmax_case
    adversarial = fgsm(model, x, y, epsilon=EPSILON)
    torch.testing.assert_close(adversarial, tensor(expected["fgsm_eps0.1"]["adv"]), **EXACT)
    loss = functional.cross_entropy(model(adversarial), y).item()
    assert loss == pytest.approx(expected["fgsm_eps0.1"]["ce_mean"], rel=1e-9)


def test_targeted_fgsm_equals_vector(softmax_case):
    model, x, _, case, expected = softmax_case
    targets = torch.tensor(case["target_labels"])
    adversarial = fgsm(model, x, targets, epsilon=EPSILON, targeted=True)
    key = next(key for key in expected if key.startswith("fgsm_targeted"))
    torch.testing.assert_close(adversarial, tensor(expected[key]["adv"]), **EXACT)


def test_every_iterate_of_pgd_equals_vector(softmax_case):
    model, x, y, _, expected = softmax_case
    trajectory = expected["pgd_linf_eps0.1_alpha0.03_steps5_nostart"]["trajectory"]
    for steps in range(1, 6):
        iterate = pgd(model, x, y, epsilon=EPSILON, steps=steps, step_size=0.03, random_start=False)
        torch.testing.assert_close(iterate, tensor(trajectory[steps]), **EXACT)


def test_pgd_from_a_given_start_equals_vector(softmax_case):
    model, x, y, case, expected = softmax_case
    start = x + tensor(case["linf_init_delta"])
    adversarial = pgd(model, x, y, epsilon=EPSILON, steps=5, step_size=0.03, random_start=False, start=start)
    vector = expected["pgd_linf_eps0.1_alpha0.03_steps5_given_init"]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), **EXACT)


def test_targeted_pgd_equals_vector(softmax_case):
    model, x, _, case, expected = softmax_case
    targets = torch.tensor(case["target_labels"])
    adversarial = pgd(model, x, targets, epsilon=EPSILON, steps=5, step_size=0.03, random_start=False, targeted=True)
    vector = expected["pgd_linf_targeted_eps0.1_alpha0.03_steps5"]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), **EXACT)


def test_one_large_step_from_a_random_start_is_fgsm_rs(softmax_case):
    model, x, y, case, expected = softmax_case
    start = x + tensor(case["linf_init_delta"])
    adversarial = pgd(model, x, y, epsilon=EPSILON, steps=1, step_size=0.125, random_start=False, start=start)
    key = next(key for key in expected if key.startswith("fgsm_rs"))
    torch.testing.assert_close(adversarial, tensor(expected[key]["adv"]), **EXACT)


def test_fgsm_on_a_curved_model_equals_vector(tanh_case):
    model, x, y, _, expected = tanh_case
    adversarial = fgsm(model, x, y, epsilon=0.3)
    torch.testing.assert_close(adversarial, tensor(expected["fgsm_eps0.3"]["adv"]), **EXACT)


@pytest.mark.parametrize("given_start", [False, True])
def test_pgd_on_a_curved_model_equals_vector_and_returns_its_last_iterate(tanh_case, given_start):
    model, x, y, case, expected = tanh_case
    start = x + tensor(case["linf_init_delta"]) if given_start else None
    adversarial = pgd(model, x, y, epsilon=0.3, steps=6, step_size=0.1, random_start=False, start=start)
    vector = expected["pgd_linf_eps0.3_alpha0.1_steps6" + ("_given_init" if given_start else "")]
    torch.testing.assert_close(adversarial, tensor(vector["adv"]), **EXACT)
    losses = functional.cross_entropy(model(adversarial), y, reduction="none")
    torch.testing.assert_close(losses, tensor(vector["ce"]), **EXACT)


@every_attack
def test_attack_gives_every_module_its_flag_back(attack):
    model = network()
    before = [module.training for module in model.modules()]
    attack(model, *images(), epsilon=EPSILON)
    assert [module.training for module in model.modules()] == before
    assert set(before) == {True, False}  # the battery's model mixes both, or it would prove nothing


@every_attack
def test_attack_gives_every_module_its_flag_back_when_the_model_raises(attack):
    model = network()
    before = [module.training for module in model.modules()]
    model[-1] = nn.Linear(9, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        attack(model, *images(), epsilon=EPSILON)
    assert [module.training for module in model.modules()] == before


@every_attack
def test_attack_runs_the_model_in_eval_mode(attack):
    model, (x, y) = network(), images()
    seen = []
    model[2].register_forward_pre_hook(lambda module, _: seen.append(module.training))
    model[4].register_forward_pre_hook(lambda module, _: seen.append(module.training))
    attack(model, x, y, epsilon=EPSILON)
    assert seen
    assert not any(seen)


@every_attack
def test_attack_leaves_parameters_gradients_and_buffers_alone(attack):
    model, (x, y) = network(), images()
    model[5].weight.grad = torch.full_like(model[5].weight, 7.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attack(model, x, y, epsilon=EPSILON)
    assert (model[5].weight.grad == 7).all()
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "5.weight")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@every_attack
@given(epsilon=st.floats(0, 1), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_attack_stays_inside_the_ball_and_the_box(attack, epsilon, seed):
    x = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    adversarial = attack(network().double(), x, torch.arange(4) % 3, epsilon=epsilon)
    assert float((adversarial - x).abs().max()) <= epsilon + 1e-12
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1


@every_attack
@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.float16, torch.float32)],
)
def test_attack_computes_in_the_dtype_of_its_input_at_least_float32(attack, given, computed):
    model = network().to(computed)
    seen = []
    model[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = attack(model, *images(dtype=given), epsilon=EPSILON)
    assert adversarial.dtype == computed
    assert set(seen) == {computed}


@every_attack
def test_attack_is_detached_and_works_where_gradients_are_off(attack):
    model, (x, y) = network(), images()
    with torch.no_grad():
        adversarial = attack(model, x, y, epsilon=EPSILON)
    assert not adversarial.requires_grad
    assert not torch.equal(adversarial, x)


@every_attack
def test_attack_raises_the_loss(attack):
    model, (x, y) = network().eval(), images(size=64)
    before = functional.cross_entropy(model(x), y)
    after = functional.cross_entropy(model(attack(model, x, y, epsilon=EPSILON)), y)
    assert after > before + 0.01


@every_attack
def test_epsilon_zero_returns_the_images(attack):
    x, y = images()
    assert torch.equal(attack(network(), x, y, epsilon=0.0), x)


def test_attack_on_an_image_does_not_depend_on_its_batch():
    model, (x, y) = network().double(), images(size=6, dtype=torch.float64)
    whole = pgd(model, x, y, epsilon=EPSILON, steps=4, step_size=0.04, random_start=False)
    halves = [
        pgd(model, x[part], y[part], epsilon=EPSILON, steps=4, step_size=0.04, random_start=False)
        for part in (slice(3), slice(3, 6))
    ]
    torch.testing.assert_close(whole, torch.cat(halves), rtol=0, atol=1e-12)


def test_equal_generators_give_equal_attacks():
    first, second, other = (
        pgd(
            network(),
            *images(),
            epsilon=EPSILON,
            steps=2,
            step_size=0.02,
            random_start=True,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@every_attack
@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_epsilon_that_is_no_radius_is_refused(attack, epsilon):
    with pytest.raises(ValueError, match="epsilon: must be finite and >= 0, got"):
        attack(network(), *images(), epsilon=epsilon)


@every_attack
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
def test_images_outside_the_unit_interval_are_refused(attack, value):
    x, y = images()
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"x: must lie in \[0, 1\].*normalise inside the model"):
        attack(network(), x, y, epsilon=EPSILON)


@every_attack
def test_integer_images_are_refused(attack):
    with pytest.raises(ValueError, match="divide uint8 images by 255"):
        attack(network(), torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), epsilon=EPSILON)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps: must be >= 1, got 0"),
        ({"step_size": 0.0}, "step_size: must be finite and > 0, got 0.0"),
        ({"random_start": True, "start": torch.zeros(5, 3, 2, 2)}, "random_start: must be False when"),
    ],
)
def test_wrong_arguments_of_pgd_are_refused(arguments, message):
    good = {"epsilon": EPSILON, "steps": 2, "step_size": 0.05, "random_start": False}
    with pytest.raises(ValueError, match=message):
        pgd(network(), *images(), **(good | arguments))
