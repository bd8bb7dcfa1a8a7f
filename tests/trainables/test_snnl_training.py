"""The training term: its four ways to choose a temperature, and what no batch may break."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.snnl import (
    LearnedTemperature,
    batch_composition,
    chance_level,
    minimise_temperature,
    soft_nearest_neighbor_loss,
    training_term,
)

MODES = ["minimised", "learned", "relative", "absolute"]
NOISE = torch.randn(6, 3, generator=torch.Generator().manual_seed(5))


def random_batch(*, size=40, dimensions=6, classes=4, seed=0, dtype=torch.float64):
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=stream)
    centres = torch.randn(classes, dimensions, generator=stream, dtype=dtype)
    return centres[labels] + torch.randn(size, dimensions, generator=stream, dtype=dtype), labels


def term_gradient(x, y, **how):
    x = x.clone().requires_grad_()
    loss = training_term(x, y, **how).loss
    return loss, torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        pytest.param(torch.zeros(6, 3), torch.tensor([0, 0, 1, 1, 2, 2]), id="all duplicates"),
        pytest.param(NOISE, torch.zeros(6, dtype=torch.int64), id="one class"),
        pytest.param(NOISE, torch.arange(6), id="all singletons"),
        pytest.param(1e5 * NOISE, torch.tensor([0, 0, 1, 1, 2, 2]), id="underflow"),
        pytest.param(torch.eye(6, 3), torch.tensor([0, 1, 0, 1, 0, 1]), id="dead rows"),
    ],
)
@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("mode", MODES)
def test_degenerate_batches_have_finite_loss_and_gradient(features, labels, distance, mode):
    loss, gradient = term_gradient(features, labels, mode=mode, temperature=0.1, distance=distance)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_dead_rows_get_no_gradient_under_cosine():
    _, gradient = term_gradient(torch.eye(6, 3), torch.tensor([0, 1, 0, 1, 0, 1]), mode="absolute", distance="cosine")
    assert gradient[:3].abs().max() > 0
    assert not gradient[3:].any()


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize(("size", "classes"), [(40, 4), (128, 10), (512, 10), (1100, 10)])
def test_minimised_loss_is_within_a_thousandth_of_the_exact_minimum(size, classes, distance):
    x, y = random_batch(size=size, classes=classes)
    exact = minimise_temperature(x.float(), y, distance)
    assert exact.edge == "interior"
    loss = float(training_term(x, y, mode="minimised", distance=distance).loss)
    assert exact.value * (1 - 1e-5) <= loss <= exact.value * 1.001


@given(seed=st.integers(0, 2**31), spread=st.floats(-4, 4), distance=st.sampled_from(["sqeuclidean", "cosine"]))
@settings(max_examples=60)
def test_minimised_loss_never_exceeds_chance(seed, spread, distance):
    x, y = random_batch(seed=seed, size=24)
    loss = float(training_term(10**spread * x.float(), y, mode="minimised", distance=distance).loss)
    assert 0 <= loss <= chance_level(y) * (1 + 1e-6)


def test_minimised_loss_of_anti_clustered_points_is_chance_with_next_to_no_gradient():
    x = torch.tensor([[0.0], [10.0], [0.1], [10.1]], dtype=torch.float64)
    loss, gradient = term_gradient(x, torch.tensor([0, 0, 1, 1]), mode="minimised")
    assert loss.item() == pytest.approx(math.log(3), rel=1e-6)
    assert gradient.abs().max() < 1e-3


def test_no_gradient_flows_through_the_chosen_temperature():
    x, y = random_batch()
    median = float(torch.pdist(x).square().median())
    _, relative = term_gradient(x, y, mode="relative", temperature=0.5)
    fixed = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(soft_nearest_neighbor_loss(fixed, y, 0.5 * median), fixed)
    torch.testing.assert_close(relative, expected, rtol=1e-9, atol=1e-12)


def test_ascent_on_the_minimised_loss_stays_below_chance():
    x, y = random_batch(size=60, dimensions=4, classes=3)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = training_term(x, y, mode="minimised").loss
        assert float(loss.detach()) <= chance_level(y) * (1 + 1e-6)
        (-loss).backward()
        optimizer.step()
    found = minimise_temperature(x.detach(), y)
    assert 0.9 * found.chance < found.value <= found.chance + 1e-6


def test_learned_temperature_begins_near_the_median_distance():
    x, y = random_batch()
    learned = training_term(x, y, mode="learned").learned
    median = torch.pdist(x).square().median()
    torch.testing.assert_close(learned.origin, -median.log(), rtol=1e-9, atol=0)
    assert 0 < abs(float(learned.log_beta - learned.origin)) <= 1.5


def test_learned_temperature_arrives_at_the_minimum_of_a_repeated_batch():
    x, y = random_batch(size=128, classes=10)
    learned = None
    for _ in range(40):
        term = training_term(x, y, mode="learned", learned=learned)
        learned = term.learned
    exact = minimise_temperature(x, y)
    assert exact.value <= float(term.loss) <= 1.002 * exact.value
    assert math.exp(-learned.log_beta) == pytest.approx(exact.temperature, rel=0.1)


def trained(weight, *, steps=150):
    """Features after plain descent on weight times the loss, the last loss, and its exact minimum."""
    x, y = random_batch(size=60, dimensions=4, classes=3)
    x.requires_grad_()
    optimizer, learned = torch.optim.Adam([x], lr=0.02), None
    for _ in range(steps):
        optimizer.zero_grad()
        term = training_term(x, y, mode="learned", learned=learned)
        learned = term.learned
        (weight * term.loss).backward()
        optimizer.step()
    return float(training_term(x.detach(), y, mode="learned", learned=learned).loss), minimise_temperature(
        x.detach(), y
    )


def test_learned_temperature_minimises_even_while_the_features_maximise():
    loss, exact = trained(-1.0)
    assert exact.value > 0.9 * exact.chance
    assert loss <= 1.05 * exact.value


def test_learned_temperature_follows_features_that_separate():
    before, _ = trained(1.0, steps=0)
    after, _ = trained(1.0)
    assert after < 0.2 * before


def test_learned_temperature_keeps_within_eight_of_where_it_began():
    x, y = torch.tensor([[0.0], [0.1], [5.0], [5.1]]), torch.tensor([0, 0, 1, 1])
    learned = None
    for _ in range(100):
        learned = training_term(x, y, mode="learned", learned=learned).learned
    assert float(learned.log_beta - learned.origin) <= 8
    extreme = LearnedTemperature(learned.origin + 100, learned.origin)
    moved = training_term(x, y, mode="learned", learned=extreme).learned
    assert float(moved.log_beta - moved.origin) == 8


def test_learned_temperature_lies_outside_of_the_graph():
    x, y = random_batch()
    learned = training_term(x.requires_grad_(), y, mode="learned").learned
    assert not learned.log_beta.requires_grad
    assert not learned.origin.requires_grad
    assert learned.log_beta.shape == learned.origin.shape == ()


@pytest.mark.parametrize("mode", MODES)
def test_only_the_learned_mode_learns(mode):
    assert (training_term(*random_batch(), mode=mode).learned is None) == (mode != "learned")


@given(labels=st.lists(st.integers(0, 9), min_size=1, max_size=30))
@settings(max_examples=40)
def test_composition_is_chance_and_the_number_of_singletons(labels):
    y = torch.tensor(labels)
    chance, singletons = batch_composition(y)
    companies = [math.log((len(labels) - 1) / (n - 1)) for n in map(labels.count, labels) if n > 1]
    assert float(chance) == pytest.approx(sum(companies) / max(len(companies), 1), rel=1e-6)
    assert float(singletons) == sum(labels.count(label) == 1 for label in labels)
    assert chance.shape == singletons.shape == ()
    assert chance_level(y) == pytest.approx(float(chance), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_half_precision_gets_a_gradient_of_its_own_kind_under_autocast(mode, dtype):
    x, y = random_batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradient = term_gradient(x.to(dtype), y, mode=mode)
    plain, expected = term_gradient(x.to(dtype).float(), y, mode=mode)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected.to(dtype))


@pytest.mark.parametrize("size", [40, 1100])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_looks_at_no_value_so_the_host_never_waits_for_the_device(mode, size):
    # Tensors without values: whoever asks for one gets an error.
    with FakeTensorMode():
        x, y = torch.randn(size, 6, requires_grad=True), torch.zeros(size, dtype=torch.int64)
        term = training_term(x, y, mode=mode)
        term.loss.backward()
        chance, _ = batch_composition(y)
    assert x.grad.shape == x.shape
    assert term.loss.shape == chance.shape == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "annealed"}, "mode: must be one of 'minimised', 'learned', 'relative', 'absolute', got 'annealed'"),
        ({"temperature": -1.0}, "temperature: must be > 0, got -1"),
        ({"labels_B": torch.zeros(3, dtype=torch.int64)}, "labels: must be one class index per point"),
        ({"distance": "manhattan"}, "distance: must be 'sqeuclidean' or 'cosine', got 'manhattan'"),
        ({"features_BD": torch.ones(1, 2), "labels_B": torch.zeros(1)}, "features: must be at least 2 points"),
        ({"learned": LearnedTemperature(torch.zeros(()), torch.zeros(()))}, "learned: belongs to mode 'learned' alone"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    x, y = random_batch()
    with pytest.raises(ValueError, match=message):
        training_term(**({"features_BD": x, "labels_B": y, "mode": "minimised"} | arguments))
