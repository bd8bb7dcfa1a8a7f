"""One battery of promises over the registry of all attacks; what one attack promises alone has a file of its own."""

import math
import subprocess
import sys
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

import trainables.attacks
from trainables.attacks import (
    ATTACKS,
    aa_lite,
    autoattack,
    fab_nearest,
    lbfgs,
    n_fgsm,
    pgd_accuracy,
    projected_ascent,
    trades_ascent,
)

EPSILON = 0.1
every_attack = pytest.mark.parametrize("name", ATTACKS)


def network():
    """Dropout and batch norm, some of it deliberately frozen: a model whose flags differ."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5)
    )
    model.train()
    model[2].eval()
    return model


def images(size=12, dtype=torch.float32):
    stream = torch.Generator().manual_seed(1)
    return torch.rand(size, 3, 4, 4, generator=stream).to(dtype), torch.arange(size) % 5


def run(name, model, x, y, *, epsilon=None, seed=0):
    epsilon = (0.5 if name.endswith("l2") else EPSILON) if epsilon is None else epsilon
    return ATTACKS[name](model, x, y, epsilon=epsilon, generator=torch.Generator().manual_seed(seed))


def lengths(name, delta):
    return delta.flatten(1).norm(dim=1) if name.endswith("l2") else delta.flatten(1).abs().amax(1)


@every_attack
def test_attack_gives_every_module_its_flag_back(name):
    model = network()
    before = [module.training for module in model.modules()]
    run(name, model, *images())
    assert [module.training for module in model.modules()] == before
    assert set(before) == {True, False}  # the battery's model mixes both, or it would prove nothing


@every_attack
def test_attack_gives_every_module_its_flag_back_when_the_model_raises(name):
    model = network()
    before = [module.training for module in model.modules()]
    model[-1] = nn.Linear(9, 5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(name, model, *images())
    assert [module.training for module in model.modules()] == before


@every_attack
def test_attack_runs_the_model_in_eval_mode(name):
    model = network()
    seen = []
    for index in (2, 4):
        model[index].register_forward_pre_hook(lambda module, _: seen.append(module.training))
    run(name, model, *images())
    assert seen
    assert not any(seen)


@every_attack
def test_attack_leaves_parameters_gradients_and_buffers_alone(name):
    model = network()
    model[5].weight.grad = torch.full_like(model[5].weight, 7.0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run(name, model, *images())
    assert (model[5].weight.grad == 7).all()
    assert all(parameter.grad is None for key, parameter in model.named_parameters() if key != "5.weight")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@every_attack
@given(epsilon=st.floats(0, 1), seed=st.integers(0, 2**31))
@settings(max_examples=8)
def test_attack_stays_inside_the_ball_and_the_box(name, epsilon, seed):
    x = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    adversarial = run(name, network().double(), x, torch.arange(3), epsilon=epsilon, seed=seed)
    assert float(lengths(name, adversarial - x).max()) <= epsilon + 1e-12
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1


@every_attack
@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.float16, torch.float32)],
)
def test_attack_computes_in_the_dtype_of_its_input_at_least_float32(name, given, computed):
    model = network().to(computed)
    seen = []
    model[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = run(name, model, *images(dtype=given))
    assert adversarial.dtype == computed
    assert set(seen) == {computed}


@every_attack
def test_attack_is_detached_and_works_where_gradients_are_off(name):
    model, (x, y) = network(), images()
    with torch.no_grad():
        adversarial = run(name, model, x, y)
    assert not adversarial.requires_grad
    assert not torch.equal(adversarial, x)


@every_attack
def test_attack_leaves_the_images_it_was_given_alone(name):
    x, y = images()
    before = x.clone()
    run(name, network(), x, y)
    assert torch.equal(x, before)


@every_attack
def test_attack_lowers_accuracy(name):
    model, (x, _) = network().eval(), images(size=64)
    y = model(x).argmax(1)
    accuracy = (model(run(name, model, x, y)).argmax(1) == y).double().mean()
    assert accuracy < 0.95


@every_attack
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 0.5))
@settings(max_examples=4)
def test_attack_does_not_lower_the_loss_of_a_linear_model(name, seed, epsilon):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).double()
    x = torch.rand(32, 3, 4, 4, dtype=torch.float64)
    y = model(x).argmax(1)
    before, after = (functional.cross_entropy(model(z), y) for z in (x, run(name, model, x, y, epsilon=epsilon)))
    assert after > before


@every_attack
def test_epsilon_zero_returns_the_images(name):
    x, y = images()
    assert torch.equal(run(name, network(), x, y, epsilon=0.0), x)


@every_attack
def test_equal_generators_give_equal_attacks_whatever_the_global_one_holds(name):
    results = []
    for seed in (0, 1):
        model, (x, y) = network(), images()
        torch.manual_seed(seed)
        results.append(run(name, model, x, y, seed=3))
    assert torch.equal(*results)


@every_attack
def test_only_an_attack_without_randomness_ignores_its_generator(name):
    first, second = (run(name, network(), *images(), seed=seed) for seed in (3, 4))
    assert torch.equal(first, second) == (name == "fgsm" or name.startswith("fab"))  # whose restarts meet none here


@every_attack
@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_epsilon_that_is_no_radius_is_refused(name, epsilon):
    with pytest.raises(ValueError, match="epsilon: must be finite and >= 0, got"):
        run(name, network(), *images(), epsilon=epsilon)


@every_attack
@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
def test_images_outside_the_unit_interval_are_refused(name, value):
    x, y = images()
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"x: must be in \[0, 1\].*normalise inside the model"):
        run(name, network(), x, y)


@every_attack
def test_integer_images_are_refused(name):
    x, y = images()
    with pytest.raises(ValueError, match="divide uint8 images by 255"):
        run(name, network(), x.to(torch.uint8), y)


@every_attack
@pytest.mark.parametrize("labels", [torch.zeros(11, dtype=torch.int64), torch.zeros(12), torch.zeros(12, 5)])
def test_labels_of_another_shape_or_type_are_refused(name, labels):
    with pytest.raises(ValueError, match=r"y: must be \(12,\) int64, one label per image, got"):
        run(name, network(), images()[0], labels)


@pytest.mark.parametrize("name", [name for name in ATTACKS if not name.startswith("square")])
def test_a_gradient_that_is_not_finite_is_an_error(name):
    class Overflowing(nn.Module):
        def forward(self, x):
            logits = x.flatten(1)[:, :5]
            return logits + (logits - logits).sqrt()  # the derivative of sqrt at 0 is infinite

    x, _ = images()
    with pytest.raises(ValueError, match="model: its loss has a gradient that is not finite"):
        run(name, Overflowing(), x, x.flatten(1)[:, :5].argmax(1))


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_radius_of_eight_bit_pixels_is_refused_under_linf(attack, request):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    x, y = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    attack_in_ball = partial(attack, model, x, y, epsilon=8, generator=torch.Generator().manual_seed(0))
    if "l2" in request.node.callspec.id:
        assert attack_in_ball().shape == x.shape
        return
    with pytest.raises(ValueError, match=r"epsilon: must be <= 1 under linf, .* got (8|10.0); divide"):
        attack_in_ball()


def test_a_radius_of_eight_bit_pixels_is_refused_where_images_are_not_checked():
    model, x, y = nn.Linear(4, 3), torch.rand(2, 4), torch.arange(2)
    for attack in (
        partial(pgd_accuracy, model, x, y),
        partial(projected_ascent, model, x, y, steps=1, step_size=1.0),
        partial(trades_ascent, model, x, steps=1, step_size=1.0, noise=torch.zeros(2, 4)),
        partial(aa_lite, nn.Linear(4, 5), x, y, seed=0),
        partial(autoattack, nn.Linear(4, 5), x, y, seed=0),
    ):
        with pytest.raises(ValueError, match="epsilon: must be <= 1 under linf"):
            attack(epsilon=8)


@every_attack
def test_attack_under_inference_mode_equals_that_outside(name):
    model, (x, y) = network(), images()
    expected = run(name, model, x, y)
    with torch.inference_mode():
        inside = run(name, model, x.clone(), y.clone())
    assert torch.equal(inside, expected)


def test_other_attacks_run_under_inference_mode():
    model, (x, y) = network(), images()
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        x, y = x.clone(), y.clone()
        assert 0 <= pgd_accuracy(model, x, y, epsilon=0.1, generator=noise) <= 1
        assert trades_ascent(model, x, epsilon=0.1, steps=2, step_size=0.1, noise=0.001 * x).shape == x.shape
        for ensemble in (aa_lite, autoattack):
            assert ensemble(model, x, y, epsilon=0.1, steps=2, queries=2, seed=0).x_adv.shape == x.shape
        assert fab_nearest(model, x, y, start_radius=0.1, steps=2).x_adv.shape == x.shape
        assert n_fgsm(model, x, y, step_size=0.1, noise=0.1 * x).shape == x.shape
        assert lbfgs(model, x[:1], y[:1], decades=1, bisections=1).x_adv.shape == x[:1].shape


def test_a_model_built_under_inference_mode_is_refused_with_the_remedy():
    with torch.inference_mode():
        model = network()
    with pytest.raises(ValueError, match=r"model: must have tensors that autograd may use, .* build and load"):
        run("pgd", model, *images())


def test_importing_the_attacks_brings_no_scipy():
    program = "import sys, trainables.attacks; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout == b"False\n"


def test_every_export_is_there():
    assert all(hasattr(trainables.attacks, name) for name in trainables.attacks.__all__)


def test_an_unknown_export_says_what_there_is():
    with pytest.raises(AttributeError, match="it exports ATTACKS, "):
        _ = trainables.attacks.deepfool
