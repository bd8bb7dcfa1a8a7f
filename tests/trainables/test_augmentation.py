"""What varies, by how much, and what stays as it was."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.nn import functional

from trainables.config.trial import DataConfig
from trainables.data.augmentation.augmentation import Augmentation, augment, draw, vary
from trainables.data.augmentation.deformation import rotate, warp

KINDS = {"crop_padding": 2, "flip": True, "rotation": 0.4, "shear": 0.3, "zoom": 0.2}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def images(batch=8, height=5, width=7):
    # No pixel is 0, so black is padding and nothing else.
    return torch.rand(batch, 3, height, width, generator=stream()).add(0.1)


def crop_and_flip_by_hand(x_BCHW, variation, padding):
    padded = functional.pad(x_BCHW, (padding,) * 4)
    height, width = x_BCHW.shape[2:]
    places = zip(variation.top_B.tolist(), variation.left_B.tolist(), variation.mirrored_B.tolist(), strict=True)
    crops = [
        padded[i, :, top : top + height, left : left + width].flip(2)
        if mirrored
        else padded[i, :, top : top + height, left : left + width]
        for i, (top, left, mirrored) in enumerate(places)
    ]
    return torch.stack(crops)


def test_the_default_varies_nothing_and_draws_nothing():
    generator, x_BCHW = stream(), images()
    before = generator.get_state()
    assert augment(x_BCHW, settings=Augmentation.from_config(DataConfig()), generator=generator) is x_BCHW
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_varies_images(kind):
    settings = Augmentation(**{kind: KINDS[kind]})
    varied = augment(images(), settings=settings, generator=stream())
    assert not settings.is_identity
    assert varied.shape == images().shape
    assert not torch.equal(varied, images())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_generators_vary_equally(kind):
    settings = Augmentation(**{kind: KINDS[kind]})
    once, again = (augment(images(), settings=settings, generator=stream(7)) for _ in range(2))
    assert torch.equal(once, again)


@given(padding=st.integers(0, 9), flip=st.booleans(), seed=st.integers(0, 99), width=st.integers(1, 7))
def test_crop_and_flip_equal_those_made_by_hand(padding, flip, seed, width):
    settings, x_BCHW = Augmentation(crop_padding=padding, flip=flip), images(width=width)
    variation = draw(8, settings=settings, generator=stream(seed))
    moved = vary(x_BCHW, variation, settings=settings)
    assert torch.equal(moved, crop_and_flip_by_hand(x_BCHW, variation, padding))
    assert torch.equal(augment(x_BCHW, settings=settings, generator=stream(seed)), moved)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_changes_no_pixel(memory_format):
    settings = Augmentation(**KINDS)
    varied = augment(images().to(memory_format=memory_format), settings=settings, generator=stream())
    torch.testing.assert_close(varied, augment(images(), settings=settings, generator=stream()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_variation_of_the_host_without_waiting_for_it():
    moves, x_BCHW = Augmentation(crop_padding=2, flip=True), images()
    on_host = [augment(x_BCHW, settings=settings, generator=stream()) for settings in (moves, Augmentation(**KINDS))]
    x_BCHW = x_BCHW.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu = [augment(x_BCHW, settings=settings, generator=stream()) for settings in (moves, Augmentation(**KINDS))]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(on_gpu[0].cpu(), on_host[0])
    torch.testing.assert_close(on_gpu[1].cpu(), on_host[1], rtol=0, atol=1e-4)


def test_every_offset_and_both_mirrors_are_drawn_equally_often():
    variation = draw(20_000, settings=Augmentation(crop_padding=2, flip=True), generator=stream())
    for offsets in (variation.top_B, variation.left_B):
        torch.testing.assert_close(offsets.bincount() / 20_000, torch.full((5,), 0.2), rtol=0, atol=0.015)
    assert variation.mirrored_B.double().mean() == pytest.approx(0.5, abs=0.015)


def test_deformations_are_drawn_from_their_own_ranges():
    variation = draw(20_000, settings=Augmentation(rotation=0.4), generator=stream())
    angle_B = torch.atan2(variation.matrices_B22[:, 1, 0], variation.matrices_B22[:, 0, 0])
    assert angle_B.abs().max() == pytest.approx(0.4, rel=1e-3)
    assert angle_B.std() == pytest.approx(0.4 / math.sqrt(3), rel=0.02)
    zoomed = draw(20_000, settings=Augmentation(zoom=0.2), generator=stream()).matrices_B22[:, 0, 0]
    assert (zoomed.min(), zoomed.max()) == (pytest.approx(0.8, rel=1e-3), pytest.approx(1.2, rel=1e-3))


def test_switching_one_kind_on_leaves_the_others_as_they_were():
    plain, more = (
        draw(8, settings=settings, generator=stream())
        for settings in (Augmentation(crop_padding=2), Augmentation(crop_padding=2, flip=True, rotation=0.1))
    )
    assert torch.equal(plain.top_B, more.top_B)
    assert torch.equal(plain.left_B, more.left_B)
    assert not plain.mirrored_B.any()


def test_deformation_comes_after_crop_and_flip_in_one_interpolation():
    settings, x_BCHW = Augmentation(**KINDS), images()
    variation = draw(8, settings=settings, generator=stream())
    moved = crop_and_flip_by_hand(x_BCHW, variation, 2)
    torch.testing.assert_close(vary(x_BCHW, variation, settings=settings), warp(moved, variation.matrices_B22))


def test_a_rotation_alone_is_that_of_the_deformation():
    settings, x_BCHW = Augmentation(rotation=0.4), images()
    variation = draw(8, settings=settings, generator=stream())
    angle_B = torch.atan2(variation.matrices_B22[:, 1, 0], variation.matrices_B22[:, 0, 0])
    torch.testing.assert_close(vary(x_BCHW, variation, settings=settings), rotate(x_BCHW, angle_B))


def test_pixels_stay_between_black_and_white():
    varied = augment(images().clamp(max=1), settings=Augmentation(**KINDS), generator=stream())
    assert 0 <= varied.min() <= varied.max() <= 1 + 1e-6


def test_images_vary_one_by_one():
    same = images(batch=1).expand(16, -1, -1, -1)
    varied = augment(same, settings=Augmentation(crop_padding=2, flip=True), generator=stream())
    assert len(varied.flatten(1).unique(dim=0)) > 8


def test_settings_of_a_config_are_taken_over_with_rotation_in_radians():
    config = DataConfig(crop_padding=4, flip=True, rotation=90.0, shear=0.5, zoom=0.1)
    expected = Augmentation(crop_padding=4, flip=True, rotation=math.pi / 2, shear=0.5, zoom=0.1)
    assert Augmentation.from_config(config) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_padding": -1}, "crop_padding: must be finite and >= 0, got -1"),
        ({"rotation": math.inf}, "rotation: must be finite and >= 0, got inf"),
        ({"shear": math.nan}, "shear: must be finite and >= 0, got nan"),
        ({"zoom": 1.0}, "zoom: must be < 1, as the smallest factor is 1 - zoom, got 1.0"),
    ],
)
def test_settings_cannot_be_constructed_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**wrong)


@pytest.mark.parametrize("x", [torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)])
def test_images_of_another_type_are_refused(x):
    with pytest.raises(ValueError, match=r"images: must be floating \(B, C, H, W\)"):
        augment(x, settings=Augmentation(flip=True), generator=stream())
