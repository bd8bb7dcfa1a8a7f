"""Cosine distances between nearly parallel rows keep their digits in float32."""

import pytest
import torch
from torch.nn import functional

from trainables.snnl import (
    minimise_temperature,
    per_anchor_losses,
    soft_label_loss,
    soft_nearest_neighbor_loss,
    streaming_losses,
    training_term,
)
from trainables.snnl.distances import block_distances, differentiable_distances, offsets, pairwise_distances, place
from trainables.snnl.functions import BlockLoss

ANGLES = [1e-2, 1e-3, 1e-4]


def nearly_parallel(angle, *, size=60, dimensions=16):
    """Return rows around one direction, in float64 but exact in float32, and their labels."""
    stream = torch.Generator().manual_seed(3)
    labels = torch.arange(size) % 3
    direction, centres = torch.randn(dimensions, generator=stream), torch.randn(3, dimensions, generator=stream)
    noise = torch.randn(size, dimensions, generator=stream)
    return (direction + angle * (centres[labels] + noise)).double(), labels


def exact_distances(x):
    unit = functional.normalize(x, dim=1)
    return (unit[:, None] - unit).square().sum(2) / 2


@pytest.mark.parametrize("angle", ANGLES)
def test_every_form_of_a_distance_is_that_of_float64(angle):
    x, _ = nearly_parallel(angle)
    expected, points = exact_distances(x), place(x.float(), "cosine")
    largest = float(expected.max())
    for actual in (
        pairwise_distances(points),
        differentiable_distances(x.float(), "cosine"),
        block_distances(points, offsets(points), rows=slice(0, 60), columns=slice(0, 60)),
    ):
        # A unit row is rounded to float32: 1e-7 of 1, against an angle.
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=largest * (2e-6 + 2e-7 / angle))


@pytest.mark.parametrize("angle", ANGLES)
def test_losses_and_gradients_are_those_of_float64(angle):
    x, y = nearly_parallel(angle)
    temperature = float(exact_distances(x).median()) / 20
    tolerance = 1e-4 + 1e-5 / angle
    forms = {
        "loss": lambda x: soft_nearest_neighbor_loss(x, y, temperature, "cosine"),
        "blocks": lambda x: BlockLoss.of(place(x, "cosine"), y, x.new_full((), 1 / temperature), block=7),
        "definition": lambda x: per_anchor_losses(x, y, temperature, distance="cosine")[0].mean(),
        "soft": lambda x: soft_label_loss(x, functional.one_hot(y), temperature, distance="cosine"),
        "minimised": lambda x: training_term(x, y, mode="minimised", distance="cosine").loss,
    }
    for name, form in forms.items():
        narrow, wide = x.float().requires_grad_(), x.clone().requires_grad_()
        loss, exact = form(narrow), form(wide)
        assert loss.item() == pytest.approx(exact.item(), rel=tolerance), name
        (by_narrow,), (by_wide,) = torch.autograd.grad(loss, narrow), torch.autograd.grad(exact, wide)
        assert (by_narrow - by_wide).norm() < tolerance * 10 * by_wide.norm(), name


def test_analyses_are_those_of_float64():
    x, y = nearly_parallel(1e-3)
    narrow, wide = (minimise_temperature(features, y, "cosine") for features in (x.float(), x))
    assert (narrow.edge, narrow.value) == (wide.edge, pytest.approx(wide.value, rel=1e-3))
    losses, _ = streaming_losses(x.float(), y, wide.temperature, distance="cosine")
    expected, _ = streaming_losses(x, y, wide.temperature, distance="cosine")
    assert float(losses.mean()) == pytest.approx(float(expected.mean()), rel=1e-3)


@pytest.mark.parametrize("size", [60, 1100])
def test_dead_rows_stay_at_distance_one_from_every_row(size):
    x, _ = nearly_parallel(0.1, size=size)
    x[:5] = 0
    points = place(x.float(), "cosine")
    for distances in (
        pairwise_distances(points),
        differentiable_distances(x.float(), "cosine"),
        block_distances(points, offsets(points), rows=slice(0, size), columns=slice(0, size)),
    ):
        torch.testing.assert_close(distances[:5, 5:], torch.ones(5, size - 5), rtol=0, atol=2e-6)
        others = distances[:5, :5][~torch.eye(5, dtype=torch.bool)]
        torch.testing.assert_close(others, torch.ones(20), rtol=0, atol=2e-6)
