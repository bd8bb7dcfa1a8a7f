"""Splits depend on content alone, and the loaders give what the sources hold."""

import hashlib
import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from sklearn.datasets import load_digits

from trainables.config.trial import DataConfig
from trainables.data import Split, available, load_splits, load_test, shape_of, sources
from trainables.data.splits import partition
from trainables.errors import DatasetMissing

DIGITS = DataConfig(name="digits")
GOLDEN_DIGITS = "e15ca5ef6e9a021fe5e2a5a39d2088cfe0559550b3d827bcb1c52eb0a3dbf678"
GOLDEN_MNIST = "478f4af8b13172acba1e026bb07065856acebe37440afeec7c2d2e812eaf037c"


def split_of(pairs):
    images, labels = zip(*pairs, strict=True)
    return Split(torch.tensor(images, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.tensor(labels))


def pairs_of(split):
    return list(zip(split.images_NCHW.flatten().tolist(), split.labels_N.tolist(), strict=True))


def digest_of(*parts):
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.images_NCHW.numpy().tobytes())
        sha.update(part.labels_N.numpy().tobytes())
    return sha.hexdigest()


def raw_images(split):
    return {image.numpy().tobytes() for image in split.images_NCHW}


def cut(pairs):
    """Three parts as lists of (image, label); examples too uniform to fill three parts are passed over."""
    try:
        return [pairs_of(part) for part in partition(split_of(pairs), (0.6, 0.2))]
    except ValueError as error:
        assume("at least one image" not in str(error))
        raise


labelled_images = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 3)), min_size=20, max_size=80)


@given(pairs=labelled_images, order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_partition_does_not_depend_on_the_order_of_the_source(pairs, order):
    shuffled = list(pairs)
    order.shuffle(shuffled)
    assert cut(pairs) == cut(shuffled)


@given(pairs=labelled_images)
@settings(max_examples=60, deadline=None)
def test_partition_loses_and_invents_nothing(pairs):
    parts = cut(pairs)
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)


@given(pairs=labelled_images)
@settings(max_examples=60, deadline=None)
def test_copies_of_an_image_land_in_one_part_whatever_their_labels(pairs):
    train, val, test = ({image for image, _ in part} for part in cut([*pairs, *pairs, (pairs[0][0], 3)]))
    assert not train & val
    assert not train & test
    assert not val & test


@pytest.mark.parametrize("fractions", [(0.0, 0.5), (0.6, 0.4), (-0.1,)])
def test_fractions_that_leave_nothing_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions: must be > 0 and sum to less than 1"):
        partition(split_of([(0, 0), (1, 1)]), fractions)


def test_digits_are_the_real_ones_in_three_disjoint_parts():
    splits, test = load_splits(DIGITS), load_test(DIGITS)
    parts = [raw_images(part) for part in (splits.train, splits.val, test)]
    assert [len(part) for part in parts] == [1078, 360, 359]
    assert len(set.union(*parts)) == 1797
    source = torch.from_numpy(load_digits().images)
    expected = {image.numpy().tobytes() for image in (source * 255 / 16).round().to(torch.uint8)}
    assert set.union(*parts) == expected


def test_the_digits_are_those_of_scikit_learn_with_its_file_and_without(monkeypatch):
    read = sources._digits()
    monkeypatch.setattr(sources, "DIGITS_FILE", Path("elsewhere.csv.gz"))
    assert all(torch.equal(one, other) for one, other in zip(read, sources._digits(), strict=True))
    assert [one.dtype for one in read] == [other.dtype for other in sources._digits()]


def test_stretching_the_digits_keeps_their_seventeen_levels():
    splits = load_splits(DIGITS)
    levels = splits.train.images_NCHW.unique()
    assert len(levels) == 17
    assert levels[0] == 0
    assert levels[-1] == 255


def test_digits_are_stratified():
    splits, test = load_splits(DIGITS), load_test(DIGITS)
    counts = torch.stack([part.labels_N.bincount() for part in (splits.train, splits.val, test)]).double()
    shares = counts / counts.sum(0)
    torch.testing.assert_close(shares, torch.tensor([[0.6], [0.2], [0.2]]).double().expand(3, 10), rtol=0, atol=0.01)


def test_digits_splits_are_those_of_the_first_release():
    splits, test = load_splits(DIGITS), load_test(DIGITS)
    assert digest_of(splits.train, splits.val, test) == GOLDEN_DIGITS


def test_digits_without_scikit_learn_are_missing_with_a_remedy(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda _: None)
    for use in (sources.Digits().require, sources.Digits().read):
        with pytest.raises(DatasetMissing, match=r"install scikit-learn: pip install 'ravel-sweeps\[train\]'"):
            use(DIGITS)


def test_splits_are_read_once_per_process_however_images_are_varied():
    assert load_splits(DIGITS).train is load_splits(DataConfig(name="digits", crop_padding=2, flip=True)).train


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_shape_is_known_without_data(name):
    image_shape, num_classes = shape_of(DataConfig(name=name))
    assert len(image_shape) == 3
    assert num_classes == 10


def test_pixel_statistics_equal_those_of_the_float_images():
    train = load_splits(DIGITS).train
    (mean,), (std,) = train.pixel_statistics()
    pixels = train.images_NCHW.double() / 255
    assert mean == pytest.approx(pixels.mean().item(), rel=1e-12)
    assert std == pytest.approx(pixels.std(correction=0).item(), rel=1e-12)


def test_mnist_without_a_root_is_missing_with_its_remedy():
    with pytest.raises(DatasetMissing, match=r"set data\.root to the folder that holds MNIST/raw"):
        available(DataConfig(name="mnist"))


def test_mnist_with_a_file_missing_names_it(mnist_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        os.link(file, raw / file.name)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetMissing, match=r"lacks t10k-labels-idx1-ubyte; fetch it with .*download=True"):
        load_splits(DataConfig(name="mnist", root=str(tmp_path)))


def test_mnist_is_cut_to_50000_and_10000_with_its_own_test_set(mnist_root):
    config = DataConfig(name="mnist", root=str(mnist_root))
    available(config)
    splits, test = load_splits(config), load_test(config)
    assert [len(part) for part in (splits.train, splits.val, test)] == [50_000, 10_000, 10_000]
    assert splits.image_shape == (1, 28, 28)
    assert digest_of(splits.train, splits.val, test) == GOLDEN_MNIST
    published = (mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert raw_images(test) == {published[i : i + 784] for i in range(0, len(published), 784)}
    assert not raw_images(splits.train) & raw_images(splits.val)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.int64), "images: must be uint8"),
        (torch.zeros(2, 1, 1, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images: must be uint8"),
        (
            torch.zeros(2, 1, 1, 1, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.int64),
            r"labels: must be int64 \(2,\)",
        ),
        (torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.zeros(2), r"labels: must be int64 \(2,\)"),
        (torch.zeros(0, 1, 1, 1, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "at least one image"),
    ],
)
def test_a_split_cannot_be_constructed_wrong(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Split(images, labels)
