"""Mixing against its vectors, and the distribution and reproducibility of what is drawn."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional

from trainables.mixup import Mix, interpolate, mix, mixed_cross_entropy, sample_mix
from trainables.models.staged import StagedClassifier

EXACT = {"rtol": 1e-9, "atol": 1e-11}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def one_hot(case):
    return functional.one_hot(torch.tensor(case["y"]), case.get("num_classes", 3)).double()


def test_one_lambda_per_batch_equals_vector(mixup_vectors):
    case, expected = mixup_vectors["mix_basic"]["in"], mixup_vectors["mix_basic"]["expected"]
    permutation = torch.tensor(case["perm"])
    mixed_x, targets = mix(tensor(case["x"]), one_hot(case), case["lam"], permutation)
    torch.testing.assert_close(mixed_x, tensor(expected["mixed_x"]), **EXACT)
    torch.testing.assert_close(targets, tensor(expected["soft_targets"]), **EXACT)

    logits = tensor(case["logits"]).requires_grad_()
    loss = mixed_cross_entropy(logits, one_hot(case), Mix("input", case["lam"], permutation))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(expected["soft_ce_mean"], rel=1e-9)
    assert loss.item() == pytest.approx(expected["pair_ce_lam_form"], rel=1e-9)
    torch.testing.assert_close(gradient, tensor(expected["dCE_dlogits"]), **EXACT)


def test_one_lambda_per_sample_equals_vector(mixup_vectors):
    vector = mixup_vectors["mix_per_sample_lambda"]
    case, expected = vector["in"], vector["expected"]
    lam, permutation = tensor(case["lam_per_sample"]), torch.tensor(case["perm"])
    mixed_x, targets = mix(tensor(case["x"]), one_hot(case), lam, permutation)
    torch.testing.assert_close(mixed_x, tensor(expected["mixed_x"]), **EXACT)
    torch.testing.assert_close(targets, tensor(expected["soft_targets"]), **EXACT)
    loss = mixed_cross_entropy(tensor(case["logits"]), one_hot(case), Mix("input", lam, permutation))
    assert loss.item() == pytest.approx(expected["soft_ce_mean"], rel=1e-9)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_lambda_one_keeps_and_lambda_zero_exchanges(mixup_vectors, as_tensor):
    case = mixup_vectors["mix_edge"]["in"]
    x, targets, permutation = tensor(case["x"]), one_hot(case), torch.tensor(case["perm"])
    one, zero = (tensor(1.0), tensor(0.0)) if as_tensor else (1.0, 0.0)
    assert all(map(torch.equal, mix(x, targets, one, permutation), (x, targets)))
    assert all(map(torch.equal, mix(x, targets, zero, permutation), (x[permutation], targets[permutation])))


def two_layer_model(case):
    first, head = nn.Linear(2, 3), nn.Linear(3, 3)
    for layer, weight, bias in ((first, "W1", "b1"), (head, "W2", "b2")):
        layer.weight.data, layer.bias.data = tensor(case[weight]), tensor(case[bias])
    stages = {"fc1": nn.Sequential(nn.Flatten(), first, nn.ReLU()), "penultimate": nn.Identity()}
    return StagedClassifier(stages, head, channels=1).double(), first, head


@pytest.mark.parametrize(
    ("boundary", "key"),
    [("input", "k=0(input mixup)"), ("fc1", "k=1(mix h, gradients flow through both h and h[perm])")],
)
def test_manifold_mixup_losses_and_all_weight_gradients_equal_vector(mixup_vectors, boundary, key):
    vector = mixup_vectors["manifold_mixup_two_layer"]
    case, expected = vector["in"], vector["expected"][key]
    model, first, head = two_layer_model(case)
    mixture = Mix(boundary, case["lam"], torch.tensor(case["perm"]))
    targets = functional.one_hot(torch.tensor(case["Y"]), case["num_classes"]).double()

    logits = model.features(tensor(case["X"]).reshape(4, 1, 1, 2), mix=mixture).logits
    loss = mixed_cross_entropy(logits, targets, mixture)
    loss.backward()

    torch.testing.assert_close(logits, tensor(expected["logits"]), **EXACT)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)
    gradients = {"dW1": first.weight, "db1": first.bias, "dW2": head.weight, "db2": head.bias}
    for name, parameter in gradients.items():
        torch.testing.assert_close(parameter.grad, tensor(expected[name]), **EXACT)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 9), lam=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_mixing_is_linear_and_keeps_targets_a_distribution(seed, size, lam):
    rng = np.random.default_rng(seed)
    x, permutation = torch.from_numpy(rng.normal(size=(size, 3))), torch.from_numpy(rng.permutation(size))
    targets = functional.one_hot(torch.from_numpy(rng.integers(4, size=size)), 4).double()
    mixed_x, mixed_targets = mix(x, targets, lam, permutation)
    torch.testing.assert_close(mixed_x.sum(0), x.sum(0))
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(size, dtype=torch.float64))


@pytest.mark.parametrize("per_sample", [False, True])
def test_lambda_has_the_moments_of_its_beta_distribution(per_sample):
    rng, alpha = np.random.default_rng(0), 0.4
    draws = [sample_mix(rng, 8, alpha=alpha, boundaries=["input"], per_sample=per_sample).lam for _ in range(4000)]
    lam = torch.stack(draws).flatten().double() if per_sample else tensor(draws)
    assert float(lam.mean()) == pytest.approx(0.5, abs=0.025)
    assert float(lam.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_boundaries_are_drawn_uniformly():
    rng = np.random.default_rng(0)
    drawn = [sample_mix(rng, 2, alpha=1.0, boundaries=["input", "fc1", "fc2"]).boundary for _ in range(3000)]
    assert all(abs(drawn.count(name) - 1000) < 120 for name in ("input", "fc1", "fc2"))


def test_equal_generators_draw_equal_mixtures():
    first, second = (
        sample_mix(np.random.default_rng(5), 6, alpha=1.0, boundaries=["input", "fc1"], per_sample=True)
        for _ in range(2)
    )
    assert first.boundary == second.boundary
    assert torch.equal(first.lam, second.lam)
    assert torch.equal(first.permutation, second.permutation)


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_lambda_outside_the_unit_interval_is_refused(lam):
    with pytest.raises(ValueError, match=r"lam: must be in \[0, 1\], got"):
        interpolate(torch.zeros(2, 3), lam=lam, permutation=torch.tensor([1, 0]))


def test_lambda_of_another_length_than_the_batch_is_refused():
    with pytest.raises(ValueError, match=r"lam: must have shape \(\) or \(2,\), got \(3,\)"):
        interpolate(torch.zeros(2, 3), lam=torch.zeros(3), permutation=torch.tensor([1, 0]))


def test_drawing_with_mixup_off_is_refused():
    with pytest.raises(ValueError, match="needs alpha > 0"):
        sample_mix(np.random.default_rng(0), 4, alpha=0.0, boundaries=["input"])
