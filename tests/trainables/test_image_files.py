"""Image files as the pixels of a model: equal to those that a data set gets, and nothing is cut off silently."""

import os

import numpy as np
import pytest
from PIL import Image

from trainables.config.trial import DataConfig
from trainables.data import load_test
from trainables.data.image_files import read_image
from trainables.errors import ImageUnreadable


def picture(size, *, mode="RGB", seed=0):
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(12, 12), (30, 20), (9, 31), (7, 7)])
def test_a_file_gives_the_pixels_that_an_image_folder_gives(tmp_path, size):
    seeds = iter(range(100))
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for index in range(8):
                picture(size, seed=next(seeds)).save(tmp_path / part / label / f"{index}.png")
    config = DataConfig(name="image_folder", root=str(tmp_path), image_size=12, cache=str(tmp_path / "cache"))
    images_NCHW = load_test(config).images_NCHW.numpy()
    files = [tmp_path / "test" / label / f"{index}.png" for label in ("cat", "dog") for index in range(8)]
    read = {read_image(path, shape=(3, 12, 12)).pixels_CHW.tobytes() for path in files}
    assert read == {image_CHW.tobytes() for image_CHW in images_NCHW}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 10, 6), (3, 6, 10)])
def test_an_image_of_any_size_and_mode_gets_the_shape_and_says_so(tmp_path, mode, shape):
    picture((31, 17), mode=mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", shape=shape)
    assert image.pixels_CHW.shape == shape
    assert image.pixels_CHW.dtype == np.uint8
    assert (image.size, image.mode, image.is_resized) == ((31, 17), mode, True)
    assert image.is_converted == (mode != {1: "L", 3: "RGB"}[shape[0]])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif", "ppm"])
def test_formats_of_pillow_are_read(tmp_path, suffix):
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / f"a.{suffix}")
    assert (read_image(tmp_path / f"a.{suffix}", shape=(3, 8, 8)).pixels_CHW == 255).all()


def test_an_image_of_the_right_shape_is_left_as_it_is(tmp_path):
    source = picture((8, 8), mode="L")
    source.save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", shape=(1, 8, 8))
    assert (image.pixels_CHW[0] == np.asarray(source)).all()
    assert not image.is_resized
    assert not image.is_converted


def test_pixels_of_16_bits_are_refused_and_not_made_white(tmp_path):
    Image.fromarray(np.full((8, 8), 30_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageUnreadable, match=r"deep.png: has more than 8 bits a channel \(mode I;16\).*; convert it"):
        read_image(tmp_path / "deep.png", shape=(1, 8, 8))


def test_a_file_that_is_no_image_is_named(tmp_path):
    picture((64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.png", "text.png", "absent.png"):
        with pytest.raises(ImageUnreadable, match=r"cannot be read \(.+\); name an image file"):
            read_image(tmp_path / name, shape=(3, 8, 8))


@pytest.mark.parametrize("name", ["a.png", "."])
def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageUnreadable, match=r"is no regular file.*name an image file"):
        read_image(tmp_path / name, shape=(3, 8, 8))


def test_a_model_of_other_channels_takes_no_files(tmp_path):
    picture((8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ImageUnreadable, match="takes images of 4 channels, image files give it 1 or 3"):
        read_image(tmp_path / "a.png", shape=(4, 8, 8))
