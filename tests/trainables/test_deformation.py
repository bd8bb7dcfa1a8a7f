"""Deformations against the literal vectors, torchvision, and their own laws."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from trainables._torchvision import import_torchvision
from trainables.data.augmentation.deformation import (
    rotate,
    rotation_matrices,
    shear,
    shear_matrices,
    tangent_shear,
    tangent_shear_matrices,
    warp,
    zoom,
    zoom_matrices,
)

DEFORMATIONS = {
    "rotation": (rotate, rotation_matrices),
    "shear": (shear, shear_matrices),
    "tangent_shear": (tangent_shear, tangent_shear_matrices),
    "zoom": (zoom, zoom_matrices),
}
IDENTITY = {"rotation": 0.0, "shear": 0.0, "tangent_shear": 0.0, "zoom": 1.0}
VECTORS = {
    "rot+20deg": (rotate, math.radians(20)),
    "shear_0.5rad(28.6deg,torchsample form)": (shear, 0.5),
    "zoom_in_60%": (zoom, 0.6),
    "zoom_out_140%": (zoom, 1.4),
}


def image(height=6, width=9, *, batch=2, dtype=torch.float64):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("name", VECTORS)
def test_literal_outputs_are_met(name, mixup_vectors):
    vectors = mixup_vectors["deformations"]
    deform, value = VECTORS[name]
    x_BCHW = torch.tensor(vectors["in"]["img"], dtype=torch.float64).reshape(1, 1, 8, 8)
    expected = torch.tensor(vectors["expected"][name]["bilinear_zeros"], dtype=torch.float64).reshape(1, 1, 8, 8)
    torch.testing.assert_close(deform(x_BCHW, values(value)), expected, rtol=1e-9, atol=1e-12)


def test_no_vector_is_left_out(mixup_vectors):
    assert set(VECTORS) == set(mixup_vectors["deformations"]["expected"])


@pytest.mark.parametrize("name", DEFORMATIONS)
def test_the_neutral_value_leaves_an_image_as_it_is(name):
    x_BCHW = image()
    torch.testing.assert_close(DEFORMATIONS[name][0](x_BCHW, values(IDENTITY[name], IDENTITY[name])), x_BCHW)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", DEFORMATIONS)
def test_each_image_is_deformed_by_its_own_value(name, interpolation):
    deform = DEFORMATIONS[name][0]
    x_BCHW, value_B = image(), values(0.3, 0.9)
    alone = [deform(x_BCHW[i : i + 1], value_B[i : i + 1], interpolation=interpolation) for i in range(2)]
    torch.testing.assert_close(deform(x_BCHW, value_B, interpolation=interpolation), torch.cat(alone))


@given(angle=st.floats(-3.1, 3.1), height=st.integers(2, 7), width=st.integers(2, 7))
def test_rotation_agrees_with_torchvision_on_any_shape(angle, height, width):
    affine = import_torchvision("torchvision.transforms.v2.functional").affine
    x_BCHW = image(height, width, batch=1)
    expected = affine(
        x_BCHW, angle=math.degrees(angle), translate=[0, 0], scale=1.0, shear=[0.0], interpolation=_bilinear()
    )
    torch.testing.assert_close(rotate(x_BCHW, values(angle)), expected, rtol=0, atol=1e-6)


@given(factor=st.floats(0.2, 1.9), height=st.integers(2, 7), width=st.integers(2, 7))
def test_zoom_is_the_inverse_scale_of_torchvision(factor, height, width):
    affine = import_torchvision("torchvision.transforms.v2.functional").affine
    x_BCHW = image(height, width, batch=1)
    expected = affine(x_BCHW, angle=0.0, translate=[0, 0], scale=1 / factor, shear=[0.0], interpolation=_bilinear())
    torch.testing.assert_close(zoom(x_BCHW, values(factor)), expected, rtol=0, atol=1e-5)


@given(angle=st.floats(-1.0, 1.0), height=st.integers(2, 7), width=st.integers(2, 7))
def test_tangent_shear_agrees_with_torchvision(angle, height, width):
    affine = import_torchvision("torchvision.transforms.v2.functional").affine
    x_BCHW = image(height, width, batch=1)
    shear_degrees = [math.degrees(angle), 0.0]
    expected = affine(x_BCHW, angle=0.0, translate=[0, 0], scale=1.0, shear=shear_degrees, interpolation=_bilinear())
    torch.testing.assert_close(tangent_shear(x_BCHW, values(angle)), expected, rtol=0, atol=1e-5)


def test_half_a_turn_reverses_rows_and_columns():
    x_BCHW = image(4, 5, batch=1)
    torch.testing.assert_close(rotate(x_BCHW, values(math.pi), interpolation="nearest"), x_BCHW.flip(2, 3))


def test_reference_shear_by_a_straight_angle_mirrors():
    x_BCHW = image(4, 4, batch=1)
    torch.testing.assert_close(shear(x_BCHW, values(math.pi), interpolation="nearest"), x_BCHW.flip(3))


def test_what_comes_from_outside_is_the_fill_of_its_channel():
    fill_C = values(0.25, 0.5, 0.75)
    shrunk = zoom(image(8, 8, batch=1), values(4.0), fill=fill_C)
    torch.testing.assert_close(shrunk[0, :, 0, 0], fill_C)


def test_an_image_of_one_colour_on_that_fill_stays_itself():
    x_BCHW = torch.full((1, 3, 6, 6), 0.5, dtype=torch.float64)
    torch.testing.assert_close(rotate(x_BCHW, values(0.4), fill=0.5), x_BCHW)


def test_nearest_invents_no_value():
    x_BCHW = image(dtype=torch.float32)
    turned = rotate(x_BCHW, values(0.5, -0.7), interpolation="nearest")
    assert set(turned.unique().tolist()) <= {0.0, *x_BCHW.unique().tolist()}


def test_composed_matrices_act_from_left_to_right():
    # On whole pixels, so that two interpolations in a row lose nothing.
    x_BCHW = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    x_BCHW[:, :, 3:5, 2:7] = image(2, 5, batch=1)[:, :1]
    quarter, mirror = rotation_matrices(values(math.pi / 2)), shear_matrices(values(math.pi))
    one_by_one = warp(warp(x_BCHW, quarter, interpolation="nearest"), mirror, interpolation="nearest")
    torch.testing.assert_close(warp(x_BCHW, quarter @ mirror, interpolation="nearest"), one_by_one)
    assert not torch.equal(warp(x_BCHW, mirror @ quarter, interpolation="nearest"), one_by_one)


def test_gradients_flow_back_to_the_pixels():
    x_BCHW = image(4, 4, batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotate(x, values(0.3), fill=0.2), (x_BCHW,))


@pytest.mark.parametrize(
    ("x_BCHW", "angle_B", "message"),
    [
        (torch.zeros(1, 3, 4), torch.zeros(1), r"images: must be floating \(B, C, H, W\), got torch\.float32 \(1, 3"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1), r"images: must be floating"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(3), r"matrices: must be \(2, 2, 2\), one per image, got \(3, 2, 2\)"),
    ],
)
def test_wrong_shapes_are_refused(x_BCHW, angle_B, message):
    with pytest.raises(ValueError, match=message):
        rotate(x_BCHW, angle_B)


def _bilinear():
    return import_torchvision("torchvision.transforms.v2").InterpolationMode.BILINEAR
