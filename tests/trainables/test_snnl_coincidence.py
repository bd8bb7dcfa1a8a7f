"""Temperatures where points coincide, where tails are heavy, and where no temperature can be."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import minimize_scalar
from torch.nn import functional

from trainables.evaluation.representation import entangled_layers
from trainables.snnl import (
    chance_level,
    minimise_temperature,
    per_anchor_losses,
    soft_label_loss,
    soft_nearest_neighbor_loss,
    soft_training_term,
    streaming_losses,
    training_term,
)
from trainables.snnl.controls import activation_l2, class_mean, soft_class_mean

FREE = ["minimised", "learned", "relative"]
Y = torch.arange(100) % 3


def dead_layer(seed=4, *, dead=72):
    """Return 100 float32 points in 5 dimensions, of which most are exactly 0."""
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(seed))
    x[:dead] = 0
    return x


def naive_loss(distances, labels, log_beta):
    """Return equation 1 in NumPy, in float64."""
    itself = np.eye(len(labels), dtype=bool)
    same = (labels[:, None] == labels) & ~itself
    scores = np.where(itself, -np.inf, -math.exp(log_beta) * distances)
    every, own = (np.logaddexp.reduce(np.where(mask, scores, -np.inf), axis=1) for mask in (~itself, same))
    return (every - own)[same.any(1)].mean()


def naive_minimum(x, y):
    """Return the lowest loss on a dense grid over all scales of the data, refined by SciPy, and its temperature."""
    x, labels = x.double().numpy(), y.numpy()
    distances = np.square(x[:, None] - x).sum(2)
    low, high = math.log(1e-4 / distances.max()), math.log(1e3 / distances[distances > 0].min())
    grid = np.arange(low, high, 0.1)
    losses = [naive_loss(distances, labels, theta) for theta in grid]
    start = grid[int(np.argmin(losses))]
    fine = minimize_scalar(
        lambda theta: naive_loss(distances, labels, theta), bounds=(start - 0.1, start + 0.1), method="bounded"
    )
    value, theta = min((min(losses), start), (fine.fun, fine.x))
    return value, math.exp(-theta)


def points_of(kind, rng, shape):
    x = rng.normal(size=shape)
    match kind:
        case "dead":
            return x * (rng.random((shape[0], 1)) < 0.4)
        case "heavy tails":
            return rng.standard_cauchy(size=shape)
        case "many scales":
            return x * 10.0 ** rng.integers(-4, 5, size=(shape[0], 1))
        case "lattice":
            return rng.integers(0, 4, size=shape).astype(float)
        case _:
            return x + 1e5 * (rng.random((shape[0], 1)) < 0.1) * rng.normal(size=(shape[0], 1))


@given(
    seed=st.integers(0, 2**31),
    size=st.integers(8, 24),
    kind=st.sampled_from(["dead", "heavy tails", "many scales", "lattice", "outliers"]),
)
@settings(max_examples=30, deadline=None)
def test_minimum_equals_a_naive_search_over_all_scales(seed, size, kind):
    rng = np.random.default_rng(seed)
    x, y = torch.tensor(points_of(kind, rng, (size, 3))), torch.arange(size) % 3
    x[0, 0] += 1  # at least two points differ
    expected, _ = naive_minimum(x, y)
    found, chance = minimise_temperature(x, y), chance_level(y)
    assert found.value == pytest.approx(min(expected, chance), abs=1e-6 * chance)
    if kind in {"dead", "lattice"}:
        term = float(training_term(x, y, mode="minimised").loss)
        assert found.value - 1e-6 * chance <= term <= min(expected, chance) + 3e-3 * chance


@pytest.mark.parametrize("mode", FREE)
def test_mostly_dead_layer_has_a_temperature_of_its_living_rows(mode):
    x = dead_layer()
    x[72:] += 2 * functional.one_hot(Y, 5)[72:]
    expected, temperature = naive_minimum(x, Y)
    assert expected < 0.99 * chance_level(Y)
    exact = minimise_temperature(x, Y)
    assert (exact.edge, exact.value) == ("interior", pytest.approx(expected, rel=1e-5))
    assert exact.temperature == pytest.approx(temperature, rel=1e-2)
    x.requires_grad_()
    loss = training_term(x, Y, mode=mode).loss
    (gradient,) = torch.autograd.grad(loss, x)
    assert expected * (1 - 1e-5) <= loss.item() <= (1.001 * expected if mode == "minimised" else 1.1 * chance_level(Y))
    assert 1e-5 < float(gradient.abs().max()) < 1


@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("mode", FREE)
@pytest.mark.parametrize("value", [0.0, 0.1, -7e3])
def test_points_that_all_coincide_are_at_chance_without_gradient(value, mode, distance):
    x = torch.full((100, 5), value, requires_grad=True)
    for term in (
        training_term(x, Y, mode=mode, distance=distance),
        soft_training_term(x, functional.one_hot(Y), mode=mode, distance=distance),
    ):
        (gradient,) = torch.autograd.grad(term.loss, x)
        assert term.loss.item() == pytest.approx(chance_level(Y), rel=1e-6)
        assert not gradient.any()
    exact = minimise_temperature(x.detach(), Y, distance)
    assert (exact.value, exact.edge) == (exact.chance, "T->inf")


def test_learned_temperature_begins_at_the_first_batch_with_a_scale():
    dead = training_term(torch.zeros(100, 5), Y, mode="learned").learned
    alive = dead_layer(dead=0)
    begun = training_term(alive, Y, mode="learned", learned=dead).learned
    fresh = training_term(alive, Y, mode="learned").learned
    torch.testing.assert_close(begun.log_beta, fresh.log_beta)
    assert begun.origin.isfinite()


@pytest.mark.parametrize("penalty", [class_mean, lambda x, y: soft_class_mean(x, functional.one_hot(y))])
def test_class_mean_of_a_dead_layer_is_in_medians_of_its_living_rows(penalty):
    assert abs(float(penalty(dead_layer(), Y))) < 10
    x = torch.zeros(100, 5, requires_grad=True)
    assert float(penalty(x, Y).detach()) == 0
    assert not torch.autograd.grad(penalty(x, Y), x)[0].any()


def test_median_of_the_evaluation_leaves_out_what_coincides():
    x, dead = dead_layer(), torch.full((100, 5), 0.1)
    apart = torch.pdist(x).square()
    median = entangled_layers._median_distance(x, "sqeuclidean", seed=0)
    assert median == pytest.approx(float(apart[apart > 0].median()), rel=1e-5)
    assert entangled_layers._median_distance(dead, "sqeuclidean", seed=0) == 0


def test_neighbours_of_both_kinds_at_one_place_end_at_the_edge_and_not_in_the_interior():
    # Five places, each with three points of one class and two of another: at T -> 0 an anchor picks among four.
    x = torch.arange(5.0)[:, None].repeat_interleave(5, 0) ** 2
    place = torch.arange(5).repeat_interleave(5)
    found = minimise_temperature(x, 2 * place + torch.tensor([0, 0, 0, 1, 1] * 5))
    assert (found.edge, found.value) == ("T->0", pytest.approx(7 / 5 * math.log(2), rel=1e-6))
    assert 0 < found.temperature < 0.1


def test_infinite_temperature_is_the_chance_level_in_every_form():
    x = dead_layer(dead=0)
    for size in (100, 10):
        y = torch.arange(100) % (100 // size * 2)
        for loss in (
            soft_nearest_neighbor_loss(x, y, 1e37),
            per_anchor_losses(x, y, 1e37)[0].mean(),
            streaming_losses(x, y, 1e37)[0].mean(),
        ):
            assert float(loss) == pytest.approx(chance_level(y), rel=1e-6)


FORMS = {
    "loss": soft_nearest_neighbor_loss,
    "per anchor": per_anchor_losses,
    "streaming": streaming_losses,
    "term": lambda x, y, t: training_term(x, y, mode="absolute", temperature=t),
    "soft": lambda x, y, t: soft_label_loss(x, functional.one_hot(y.long(), 3), t),
    "soft term": lambda x, y, t: soft_training_term(x, functional.one_hot(y.long(), 3), mode="relative", temperature=t),
}


@pytest.mark.parametrize("form", FORMS)
def test_temperature_without_an_inverse_in_float32_is_refused(form):
    x = dead_layer()
    with pytest.raises(ValueError, match=r"temperature: must be >= 1\.18e-38 for features in float32"):
        FORMS[form](x, Y, 1e-40)
    FORMS[form](x.double(), Y, 1e-40)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(0, 5), "features: must be at least 1 point, got an empty batch"),
        (torch.zeros(100), r"features: must have a row per point, got shape \(100,\)"),
        (torch.zeros(100, 5, dtype=torch.complex64), "features: must be real, got torch.complex64"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_features_that_are_no_rows_of_real_numbers_are_refused(form, features, message):
    labels = Y[: len(features)]
    with pytest.raises(ValueError, match=message):
        FORMS[form](features, labels, 1.0)
    with pytest.raises(ValueError, match=message):
        activation_l2(features)
    with pytest.raises(ValueError, match=message):
        class_mean(features, labels)


def test_bool_labels_are_refused():
    for form in ("loss", "per anchor", "streaming", "term"):
        with pytest.raises(ValueError, match=r"labels: must be class indices, got torch.bool; .*labels.long\(\)"):
            FORMS[form](dead_layer(), Y > 0, 1.0)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_features_that_are_not_finite_have_no_minimum(number):
    x = dead_layer()
    x[3, 2] = number
    for measure in (lambda: minimise_temperature(x, Y), lambda: streaming_losses(x, Y, 1.0)):
        with pytest.raises(ValueError, match="features: must be finite to have distances, got NaN or infinity in 1 of"):
            measure()
    assert training_term(x, Y, mode="minimised").loss.isnan()
