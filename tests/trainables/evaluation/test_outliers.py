"""Outliers made from the test images, and read from idx files, image files and known data sets."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.config.trial import DataConfig
from trainables.data import Split, load_test
from trainables.errors import ConfigError
from trainables.evaluation.uncertainty.outliers import fitted, noise, outliers, parse, permuted, rotated


def images(number=4, channels=1, height=8, width=8, seed=0):
    source = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (number, channels, height, width), generator=source, dtype=torch.uint8)
    return Split(pixels, torch.arange(number) % 3)


def write_idx(folder, pixels, labels, *, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("t10k-images-idx3-ubyte", pixels), ("t10k-labels-idx1-ubyte", labels)):
        data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)


PIXELS = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
LABELS = np.array([7, 8, 9], dtype=np.uint8)


def test_four_quarter_turns_are_none():
    like = images()
    turned = rotated(rotated(rotated(rotated(like))))
    assert torch.equal(turned.images_NCHW, like.images_NCHW)
    assert not torch.equal(rotated(like).images_NCHW, like.images_NCHW)


def test_a_quarter_turn_of_images_that_are_not_square_is_refused():
    with pytest.raises(ConfigError, match=r"outliers\.rotated: rotated: needs square images, got 6 by 8 pixels"):
        parse("rotated", like=images(height=6))


def test_all_images_are_permuted_alike_and_keep_their_pixels():
    like = images(channels=3)
    like = Split(torch.cat([like.images_NCHW[:2], like.images_NCHW[:2]]), like.labels_N)
    result = permuted(like, seed=1).images_NCHW
    assert torch.equal(result[:2], result[2:])
    assert torch.equal(result.flatten(2).sort().values, like.images_NCHW.flatten(2).sort().values)
    assert torch.equal(result, permuted(like, seed=1).images_NCHW)
    assert not torch.equal(result, permuted(like, seed=2).images_NCHW)


def test_channels_stay_together_when_pixels_are_permuted():
    grey = images()
    colour = Split(grey.images_NCHW.repeat(1, 3, 1, 1), grey.labels_N)
    result = permuted(colour).images_NCHW
    assert torch.equal(result[:, 0], result[:, 2])


def test_noise_is_uniform_and_depends_on_its_seed():
    like = images(number=100, height=28, width=28)
    result = noise(like, seed=3).images_NCHW
    counts = result.flatten().bincount(minlength=256).double()
    expected = result.numel() / 256
    chi_square = float(((counts - expected).square() / expected).sum())
    assert 150 < chi_square < 370, "far in the tails of chi-square with 255 degrees of freedom"
    assert torch.equal(result, noise(like, seed=3).images_NCHW)
    assert not torch.equal(result, noise(like, seed=4).images_NCHW)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inner", ["", "raw"])
def test_idx_files_are_read_packed_or_not_and_under_raw(tmp_path, packed, inner):
    write_idx(tmp_path / inner, PIXELS, LABELS, packed=packed)
    name, split = parse(f"notmnist={tmp_path}", like=images())
    assert name == "notmnist"
    assert np.array_equal(split.images_NCHW.numpy()[:, 0], PIXELS)
    assert split.labels_N.tolist() == [7, 8, 9]


def test_idx_files_of_another_length_than_their_header_says_are_refused(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=r"outliers.x: .*idx3-ubyte has 187 values, its header says 192"):
        parse(f"x={tmp_path}", like=images())


def test_idx_files_of_another_kind_are_refused(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"<html>not found</html>")
    with pytest.raises(ConfigError, match="does not begin like idx1-ubyte data"):
        parse(f"x={tmp_path}", like=images())


def test_idx_images_without_labels_are_refused(tmp_path):
    write_idx(tmp_path, PIXELS, LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ConfigError, match="holds t10k-images-idx3-ubyte without t10k-labels-idx1-ubyte"):
        parse(f"x={tmp_path}", like=images())


def test_image_files_of_several_sizes_are_brought_to_one(tmp_path):
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "deep" / "a.png")
    Image.new("L", (8, 16), 100).save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no image")
    split = parse(f"photos={tmp_path}", like=images())[1]
    assert split.images_NCHW.shape == (2, 1, 8, 8)
    grey, red = split.images_NCHW.flatten(1)
    assert grey.unique().tolist() == [100] or abs(int(grey[0]) - 100) <= 1
    assert red.unique().tolist() == [int(0.2989 * 255)]
    assert split.labels_N.tolist() == [0, 0]


def test_a_damaged_image_file_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"outliers.photos: .*broken.png cannot be read"):
        parse(f"photos={tmp_path}", like=images())


def test_images_of_16_bits_are_refused_and_not_made_white(tmp_path):
    Image.fromarray(np.full((8, 8), 30_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ConfigError, match=r"deep.png has more than 8 bits .*; convert it"):
        parse(f"photos={tmp_path}", like=images())


def test_grey_images_get_equal_channels():
    result = fitted(images(), like=images(channels=3)).images_NCHW
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, :1], images().images_NCHW)


def test_resizing_is_torchvisions():
    from torchvision.transforms import functional

    large = images(height=12, width=12)
    result = fitted(large, like=images()).images_NCHW
    assert torch.equal(result, functional.resize(large.images_NCHW, [8, 8], antialias=True))


def test_wide_images_lose_their_sides_not_their_proportions():
    stripes = torch.zeros(1, 1, 8, 24, dtype=torch.uint8)
    stripes[..., 8:16] = 200
    assert fitted(Split(stripes, torch.tensor([0])), like=images()).images_NCHW.unique().tolist() == [200]


def test_channels_that_cannot_be_converted_are_refused():
    with pytest.raises(ValueError, match="has images of 4 channels, the test images have 1: only 1 and 3"):
        fitted(images(channels=4), like=images())


def test_a_known_set_gives_its_test_split():
    name, split = parse("digits", like=images(channels=3, height=16, width=16))
    assert name == "digits"
    assert split.images_NCHW.shape == (len(load_test(DataConfig())), 3, 16, 16)


def test_a_known_set_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"outliers.fashion_mnist: .*FashionMNIST/raw lacks"):
        parse(f"fashion_mnist={tmp_path}", like=images())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rotated=/somewhere", "outliers.rotated: is made from the test images and has no place, got '/somewhere'"),
        ("letters", "outliers.letters: must be one of rotated, permuted, noise or digits, or have a place"),
        ("a/b=/somewhere", "outliers.a/b: must be a name of small letters"),
        ("letters=/no/such/folder", "outliers.letters: must be a folder, got /no/such/folder"),
    ],
)
def test_a_text_that_asks_for_nothing_says_why(text, message):
    with pytest.raises(ConfigError) as raised:
        parse(text, like=images())
    assert message in str(raised.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must hold t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"):
        parse(f"letters={tmp_path}", like=images())


def test_all_wrong_texts_are_reported_at_once():
    with pytest.raises(ConfigError) as raised:
        outliers(["letters", "noise", "rotated=x", "noise"], like=images())
    assert [problem.path for problem in raised.value.problems] == [
        "outliers.letters",
        "outliers.rotated",
        "outliers.noise",
    ]


def test_the_real_letters_have_the_shape_of_digits(image_data):
    like = images(number=3, height=28, width=28)
    name, split = parse(f"notmnist={image_data}/notmnist", like=like)
    assert name == "notmnist"
    assert split.images_NCHW.shape[1:] == (1, 28, 28)
    assert split.labels_N.unique().tolist() == list(range(10))
