"""Mixing against its vectors, and the distribution and reproducibility of what is drawn."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats
from torch import nn
from torch.nn import functional

from trainables.config.sections import LossConfig
from trainables.mixup import Boxes, Mix, apply, cut_edges, interpolate, mix, mixed_targets, sample_cutmix, sample_mix
from trainables.models.staged import StagedClassifier
from trainables.tasks.classifier.cross_entropy import classification_loss

EXACT = {"rtol": 1e-9, "atol": 1e-11}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def mixed_loss(logits, targets, mixture, **settings):
    return classification_loss(logits, mixed_targets(targets, mixture), settings=LossConfig(**settings))


def one_hot(case):
    return functional.one_hot(torch.tensor(case["y"]), case.get("num_classes", 3)).double()


def test_one_lambda_per_batch_equals_vector(mixup_vectors):
    case, expected = mixup_vectors["mix_basic"]["in"], mixup_vectors["mix_basic"]["expected"]
    permutation = torch.tensor(case["perm"])
    mixed_x, targets = mix(tensor(case["x"]), one_hot(case), case["lam"], permutation)
    torch.testing.assert_close(mixed_x, tensor(expected["mixed_x"]), **EXACT)
    torch.testing.assert_close(targets, tensor(expected["soft_targets"]), **EXACT)

    logits = tensor(case["logits"]).requires_grad_()
    loss = mixed_loss(logits, one_hot(case), Mix("input", case["lam"], permutation))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(expected["soft_ce_mean"], rel=1e-9)
    assert loss.item() == pytest.approx(expected["pair_ce_lam_form"], rel=1e-9)
    torch.testing.assert_close(gradient, tensor(expected["dCE_dlogits"]), **EXACT)


def test_binary_cross_entropy_of_the_published_code_equals_vector(mixup_vectors):
    case, expected = mixup_vectors["mix_basic"]["in"], mixup_vectors["mix_basic"]["expected"]
    logits = tensor(case["logits"]).requires_grad_()
    mixture = Mix("input", case["lam"], torch.tensor(case["perm"]))
    loss = mixed_loss(logits, one_hot(case), mixture, name="binary_cross_entropy")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(expected["bce_softmax_mean_over_N_and_C_refcode"], rel=1e-9)
    torch.testing.assert_close(gradient, tensor(expected["dBCE_dlogits"]), **EXACT)


def test_one_lambda_per_sample_equals_vector(mixup_vectors):
    vector = mixup_vectors["mix_per_sample_lambda"]
    case, expected = vector["in"], vector["expected"]
    lam, permutation = tensor(case["lam_per_sample"]), torch.tensor(case["perm"])
    mixed_x, targets = mix(tensor(case["x"]), one_hot(case), lam, permutation)
    torch.testing.assert_close(mixed_x, tensor(expected["mixed_x"]), **EXACT)
    torch.testing.assert_close(targets, tensor(expected["soft_targets"]), **EXACT)
    loss = mixed_loss(tensor(case["logits"]), one_hot(case), Mix("input", lam, permutation))
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
    ("boundary", "detached", "key"),
    [
        ("input", False, "k=0(input mixup)"),
        ("fc1", False, "k=1(mix h, gradients flow through both h and h[perm])"),
        ("fc1", True, "k=1_detached(gradient-blocked ablation)"),
    ],
)
def test_manifold_mixup_losses_and_all_weight_gradients_equal_vector(mixup_vectors, boundary, detached, key):
    vector = mixup_vectors["manifold_mixup_two_layer"]
    case, expected = vector["in"], vector["expected"][key]
    model, first, head = two_layer_model(case)
    mixture = Mix(boundary, case["lam"], torch.tensor(case["perm"]), detached=detached)
    targets = functional.one_hot(torch.tensor(case["Y"]), case["num_classes"]).double()

    logits = model.features(tensor(case["X"]).reshape(4, 1, 1, 2), mix=mixture).logits
    loss = mixed_loss(logits, targets, mixture)
    loss.backward()

    torch.testing.assert_close(logits, tensor(expected["logits"]), **EXACT)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-9)
    gradients = {"dW1": first.weight, "db1": first.bias, "dW2": head.weight, "db2": head.bias}
    for name, parameter in gradients.items():
        if expected[name] == "zeros":
            assert parameter.grad is None
        else:
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


@pytest.mark.parametrize("alpha", [0.05, 0.1, 1.0])
def test_lambda_has_its_beta_distribution_up_to_the_rounding_of_float32_at_its_ends(alpha):
    # Beta(0.05, 0.05) has a fifth of its mass within 3e-8 of 1, which float32 rounds to 1: a fifth is no atom of ours.
    rng, law, edge = np.random.default_rng(0), stats.beta(alpha, alpha), 1e-6
    lam = sample_mix(rng, 100_000, alpha=alpha, boundaries=["input"], per_sample=True).lam.double().numpy()
    low, high = law.cdf(edge), law.cdf(1 - edge)
    inner = lam[(lam > edge) & (lam < 1 - edge)]
    assert stats.kstest(inner, lambda value: (law.cdf(value) - low) / (high - low)).pvalue > 0.01
    for share, expected in (((lam <= edge).mean(), low), ((lam >= 1 - edge).mean(), 1 - high)):
        assert share == pytest.approx(expected, abs=4 * np.sqrt(0.25 / len(lam)))


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


def test_cutmix_boxes_and_their_lambdas_equal_vectors(mixup_vectors):
    for case in mixup_vectors["cutmix_box_32x32"]:
        lam, rows, columns = (np.array([case[name]]) for name in ("lam", "cy", "cx"))
        edges, kept = cut_edges(lam, rows=rows, columns=columns, image_size=(32, 32))
        top, bottom, left, right = (int(edge[0]) for edge in edges)
        assert [left, top, right, bottom] == case["clovaai_box[x1,y1,x2,y2]"]
        assert float(kept[0]) == case["clovaai_lam_adj"]


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_lambda_of_a_cut_mixture_is_the_share_of_pixels_that_stay(per_sample):
    x = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 2, 9, 7)
    rng = np.random.default_rng(3)
    for _ in range(20):
        drawn = sample_cutmix(rng, 6, alpha=1.0, image_size=(9, 7), per_sample=per_sample)
        mixed = apply(x, drawn)
        stays = (mixed == x).double().mean((1, 2, 3))
        moved = drawn.permutation != torch.arange(6)
        expected = torch.as_tensor(drawn.lam, dtype=torch.float64).expand(6)
        torch.testing.assert_close(stays[moved], expected[moved], rtol=1e-6, atol=1e-6)
        assert bool(((mixed == x) | (mixed == x[drawn.permutation])).all())


def test_what_is_pasted_comes_from_the_partner():
    x = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1).expand(2, 1, 3, 3)
    boxes = Boxes(*(torch.tensor([edge]) for edge in (0, 2, 1, 3)))
    mixed = apply(x, Mix("input", 5 / 9, torch.tensor([1, 0]), boxes))
    assert mixed[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [1, 1, 1]]
    assert mixed[1, 0].tolist() == [[2, 1, 1], [2, 1, 1], [2, 2, 2]]


def test_cutmix_without_alpha_is_refused():
    with pytest.raises(ValueError, match="needs alpha > 0, got 0"):
        sample_cutmix(np.random.default_rng(0), 4, alpha=0, image_size=(8, 8))


def test_a_lambda_per_example_is_not_rounded_to_the_precision_of_a_hidden_state():
    ones, lam = torch.ones(2, 4096, dtype=torch.bfloat16), torch.tensor([0.9, 0.7])
    h = torch.cat([ones[:1], 0 * ones[:1]])
    mixed = interpolate(256 * h, lam=lam, permutation=torch.tensor([1, 0]))
    assert mixed.dtype == torch.bfloat16
    assert float(mixed[0, 0]) == float(torch.tensor(256 * 0.9, dtype=torch.bfloat16))
