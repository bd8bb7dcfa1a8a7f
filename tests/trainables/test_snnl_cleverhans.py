"""The released form is reproduced to its vectors, its faults among them."""

import json
from pathlib import Path

import pytest
import torch

from trainables.snnl import soft_nearest_neighbor_loss
from trainables.snnl.cleverhans import SATURATION, cleverhans_loss, cleverhans_temperature_step

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "snnl_vectors.json").read_text())
VALUES = [
    pytest.param(
        case, distance, float(temperature), expected["cleverhans_eps"], id=f"{name[0]}-{distance}-{temperature}"
    )
    for name, case in VECTORS["cases"].items()
    for distance, by_temperature in case["expected"].items()
    for temperature, expected in by_temperature.items()
]
GRADIENTS = [gradient for gradient in VECTORS["gradients"] if gradient["form"] == "cleverhans_eps"]
COURSES = VECTORS["cleverhans_temperature_steps"]


def batch(case):
    return torch.tensor(case["x"], dtype=torch.float64), torch.tensor(case["y"])


@pytest.mark.parametrize(("case", "distance", "temperature", "expected"), VALUES)
def test_value_equals_vector(case, distance, temperature, expected):
    loss = float(cleverhans_loss(*batch(case), temperature, distance=distance))
    assert loss == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("gradient", GRADIENTS, ids=lambda gradient: gradient["distance"])
def test_gradient_equals_vector(gradient):
    x, y = batch(VECTORS["cases"][gradient["case"]])
    loss = cleverhans_loss(x.requires_grad_(), y, gradient["T"], distance=gradient["distance"])
    expected = torch.tensor(gradient["grad_x_autograd"], dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("course", COURSES, ids=lambda course: f"{course['case'][0]}-{course['distance']}")
def test_temperature_steps_equal_vector(course):
    x, y = batch(VECTORS["cases"][course["case"]])
    scale, base, distance = torch.tensor(1.0, dtype=torch.float64), course["T0"], course["distance"]
    for step in course["steps"]:
        scale = cleverhans_temperature_step(x, y, scale, base=base, rate=course["lr"], distance=distance)
        assert float(scale) == pytest.approx(step["t"], rel=1e-8)
        assert float(cleverhans_loss(x, y, base / scale, distance=distance)) == pytest.approx(step["loss"], rel=1e-8)


def test_vectors_hold_gradients_and_courses():
    assert {gradient["distance"] for gradient in GRADIENTS} == {"sqeuclidean", "cosine"}
    assert len(COURSES) >= 4


def test_released_form_saturates_without_gradient_where_the_exact_one_has_both():
    x, y = torch.tensor([[0.0], [50.0], [1.0], [51.0]], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    x.requires_grad_()
    loss = cleverhans_loss(x, y, 0.1)
    assert loss.item() == pytest.approx(SATURATION)
    assert torch.autograd.grad(loss, x)[0].abs().max() < 1e-3
    assert soft_nearest_neighbor_loss(x, y, 0.1).item() > 1000
