"""The loss against its published vectors, its invariances, and the mistakes others have made."""

import json
import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from trainables.snnl import chance_level, minimise_temperature, per_anchor_losses, soft_nearest_neighbor_loss

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "snnl_vectors.json").read_text())
TOLERANCE = {"rtol": 1e-8, "atol": 1e-10}

VALUES = [
    pytest.param(case, distance, float(temperature), expected, id=f"{name[0]}-{distance}-{temperature}")
    for name, case in VECTORS["cases"].items()
    for distance, by_temperature in case["expected"].items()
    for temperature, expected in by_temperature.items()
]
MINIMA = [
    pytest.param(case, distance, minimum, id=f"{name[0]}-{distance}")
    for name, case in VECTORS["cases"].items()
    for distance, minimum in case["min_over_T_exact"].items()
]
EXACT_GRADIENTS = [gradient for gradient in VECTORS["gradients"] if gradient["form"] == "exact"]


def batch(case, dtype=torch.float64):
    return torch.tensor(case["x"], dtype=dtype), torch.tensor(case["y"])


def random_batch(*, size=40, dimensions=6, classes=4, seed=0, dtype=torch.float64):
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=stream)
    centres = torch.randn(classes, dimensions, generator=stream, dtype=dtype)
    return centres[labels] + torch.randn(size, dimensions, generator=stream, dtype=dtype), labels


def case_named(letter):
    return next(case for name, case in VECTORS["cases"].items() if name.startswith(letter))


@pytest.mark.parametrize(("case", "distance", "temperature", "expected"), VALUES)
def test_value_equals_vector(case, distance, temperature, expected):
    x, y = batch(case)
    assert float(soft_nearest_neighbor_loss(x, y, temperature, distance)) == pytest.approx(
        expected["exact"], rel=1e-8, abs=1e-10
    )
    _, valid = per_anchor_losses(x, y, temperature, distance=distance)
    assert int(valid.sum()) == expected["exact_n_anchors"]


@pytest.mark.parametrize(("case", "distance", "temperature", "expected"), VALUES)
def test_float32_stays_close_to_vector(case, distance, temperature, expected):
    x, y = batch(case, torch.float32)
    loss = float(soft_nearest_neighbor_loss(x, y, temperature, distance))
    # A distance is off by a few roundings of the largest one, and that error is divided by T.
    scale = 2.0 if distance == "cosine" else float(torch.pdist(x).max()) ** 2
    assert loss == pytest.approx(expected["exact"], rel=2e-5, abs=2e-6 + 4e-7 * scale / temperature)


@pytest.mark.parametrize("gradient", EXACT_GRADIENTS, ids=lambda gradient: gradient["distance"])
def test_gradient_equals_vector(gradient):
    x, y = batch(VECTORS["cases"][gradient["case"]])
    x.requires_grad_()
    inverse = torch.tensor(1 / gradient["T"], dtype=torch.float64, requires_grad=True)
    loss = soft_nearest_neighbor_loss(x, y, 1 / inverse, gradient["distance"])
    by_x, by_inverse = torch.autograd.grad(loss, (x, inverse))
    torch.testing.assert_close(by_x, torch.tensor(gradient["grad_x_autograd"], dtype=torch.float64), **TOLERANCE)
    # The file gives this derivative to eight digits.
    assert by_inverse.item() == pytest.approx(gradient["dloss_d_invT"], rel=5e-8)


def test_vectors_hold_gradients_for_both_distances():
    assert {gradient["distance"] for gradient in EXACT_GRADIENTS} == {"sqeuclidean", "cosine"}


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
def test_gradient_passes_gradcheck_in_features_and_temperature(distance):
    x, y = random_batch(size=9, dimensions=3, classes=3)
    temperature = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda features, t: soft_nearest_neighbor_loss(features, y, t, distance), (x.requires_grad_(), temperature)
    )


@pytest.mark.parametrize(("case", "distance", "expected"), MINIMA)
def test_minimum_over_temperature_equals_vector(case, distance, expected):
    x, y = batch(case)
    found = minimise_temperature(x, y, distance)
    assert found.chance == pytest.approx(case["chance_T_inf_exact"], rel=1e-9)
    if expected["T"] is None:
        assert expected["edge"].startswith(found.edge)
        assert found.value == pytest.approx(expected["value_at_edge"], abs=1e-6)
    else:
        assert found.edge == "interior"
        assert found.value == pytest.approx(expected["value"], rel=1e-8)
        assert found.temperature == pytest.approx(expected["T"], rel=3e-6)


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
def test_per_anchor_losses_equal_vector(distance):
    x, y = batch(case_named("A"))
    losses, valid = per_anchor_losses(x, y, 1.0, distance=distance)
    expected = torch.tensor(VECTORS["per_anchor_exact_case_A_T1"][distance], dtype=torch.float64)
    torch.testing.assert_close(losses, expected, **TOLERANCE)
    assert valid.all()


def test_hand_computed_case():
    hand = VECTORS["hand_case"]
    x, y = batch(hand)
    expected = (math.log1p(math.exp(-8)) + math.log1p(math.exp(-3))) / 2
    assert float(soft_nearest_neighbor_loss(x, y, hand["T"])) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(hand["exact"], rel=1e-8)


@pytest.mark.parametrize(
    ("mistake", "value"),
    [item for item in VECTORS["bug_fingerprints_case_F_T1_sqeuclidean"].items() if item[0] != "correct_exact"],
)
def test_value_is_not_that_of_a_known_mistake(mistake, value):
    loss = float(soft_nearest_neighbor_loss(*batch(case_named("F")), 1.0))
    assert abs(loss - value) > 1e-5, mistake


def test_singletons_are_excluded_and_the_mean_renormalised():
    conventions = VECTORS["singleton_conventions_case_C_T1_sqeuclidean"]
    x, y = batch(case_named("C"))
    losses, valid = per_anchor_losses(x, y, 1.0)
    assert float(soft_nearest_neighbor_loss(x, y, 1.0)) == pytest.approx(
        conventions["exclude_and_renormalise"], rel=1e-8
    )
    assert valid.tolist() == [True, True, True, True, False]
    assert float(losses[-1]) == 0


@given(seed=st.integers(0, 2**31), shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_loss_is_invariant_to_translation_and_to_scale_with_its_square_in_the_temperature(seed, shift, scale):
    x, y = random_batch(seed=seed)
    loss = soft_nearest_neighbor_loss(x, y, 1.5)
    moved = soft_nearest_neighbor_loss(scale * x + shift, y, 1.5 * scale**2)
    torch.testing.assert_close(moved, loss, rtol=1e-6, atol=1e-9)


@given(seed=st.integers(0, 2**31), order=st.permutations(range(40)))
@settings(max_examples=25, deadline=None)
def test_loss_does_not_depend_on_the_order_of_the_batch_or_the_names_of_the_classes(seed, order):
    x, y = random_batch(seed=seed)
    order = torch.tensor(order)
    renamed = torch.tensor([7, 2, 9, 4])[y]
    torch.testing.assert_close(
        soft_nearest_neighbor_loss(x[order], renamed[order], 1.0), soft_nearest_neighbor_loss(x, y, 1.0)
    )


@given(seed=st.integers(0, 2**31), rows=st.lists(st.floats(0.1, 10), min_size=40, max_size=40))
@settings(max_examples=25, deadline=None)
def test_cosine_loss_is_invariant_to_the_scale_of_each_row(seed, rows):
    x, y = random_batch(seed=seed)
    scaled = x * torch.tensor(rows, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        soft_nearest_neighbor_loss(scaled, y, 0.3, "cosine"),
        soft_nearest_neighbor_loss(x, y, 0.3, "cosine"),
        rtol=1e-8,
        atol=1e-10,
    )


@given(seed=st.integers(0, 2**31), distance=st.sampled_from(["sqeuclidean", "cosine"]))
@settings(max_examples=50, deadline=None)
def test_minimum_lies_between_zero_and_chance_and_under_every_sampled_temperature(seed, distance):
    x, y = random_batch(seed=seed, size=24)
    found = minimise_temperature(x, y, distance)
    assert 0 <= found.value <= found.chance
    sampled = [float(soft_nearest_neighbor_loss(x, y, 10.0**power, distance)) for power in range(-3, 5)]
    assert found.value <= min(sampled) + 1e-9


def test_high_temperature_gives_the_chance_level():
    x, y = random_batch()
    assert float(soft_nearest_neighbor_loss(x, y, 1e9)) == pytest.approx(chance_level(y), abs=1e-7)


@pytest.mark.parametrize("classes", [2, 10])
def test_chance_of_balanced_classes_is_known_in_closed_form(classes):
    labels = torch.arange(classes).repeat(6)
    assert chance_level(labels) == pytest.approx(math.log((6 * classes - 1) / 5))


def test_saturated_loss_still_has_a_gradient():
    x, y = torch.tensor([[0.0], [50.0], [1.0], [51.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    x.requires_grad_()
    loss = soft_nearest_neighbor_loss(x, y, 0.1)
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.item() > 11.6, "the released code saturates at -log(1e-5) = 11.51"
    assert gradient.abs().max() > 1


def test_offset_features_lose_no_precision_in_float32():
    x, y = random_batch(size=64, dimensions=64)
    exact = float(soft_nearest_neighbor_loss(x, y, 5.0))
    offset = (x + 300).float()
    assert float(soft_nearest_neighbor_loss(offset, y, 5.0)) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = random_batch()
    loss = soft_nearest_neighbor_loss(x.to(dtype), y, 1.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, soft_nearest_neighbor_loss(x.to(dtype).float(), y, 1.0))


def test_float64_stays_float64_also_under_autocast():
    x, y = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = soft_nearest_neighbor_loss(x, y, 1.0)
    assert inside.dtype == torch.float64
    torch.testing.assert_close(inside, soft_nearest_neighbor_loss(x, y, 1.0), rtol=0, atol=0)


def test_images_are_flattened():
    x, y = random_batch(dimensions=12)
    torch.testing.assert_close(
        soft_nearest_neighbor_loss(x.reshape(-1, 3, 2, 2), y, 1.0), soft_nearest_neighbor_loss(x, y, 1.0)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature: must be > 0, got 0.0"),
        ({"temperature": math.nan}, "temperature: must be > 0, got nan"),
        ({"labels_B": torch.zeros(40, 1, dtype=torch.int64)}, "labels: must be one class index per point"),
        ({"distance": "manhattan"}, "distance: must be 'sqeuclidean' or 'cosine', got 'manhattan'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    x, y = random_batch()
    with pytest.raises(ValueError, match=message):
        soft_nearest_neighbor_loss(**({"features_BD": x, "labels_B": y, "temperature": 1.0} | arguments))
