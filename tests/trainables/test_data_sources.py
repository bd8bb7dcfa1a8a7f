"""One battery over every source: tiny sets in the real file formats, laid out as their authors publish them."""

import gzip
import hashlib
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from trainables._torchvision import import_torchvision
from trainables.config.sections import DATA_NAMES
from trainables.config.trial import DataConfig
from trainables.data import available, load_splits, load_test, shape_of
from trainables.data.sources import SOURCES
from trainables.errors import DatasetDamaged, DatasetMissing

NUM_TRAIN, NUM_TEST = 60, 12
IDX_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
CIFAR = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py", "labels", 10),
    "cifar100": ("CIFAR100", "cifar-100-python", "fine_labels", 100),
}
LAID_OUT = [*IDX_FOLDERS, *CIFAR, "svhn", "image_folder", "arrays"]
OWN_SHAPE = ("image_folder", "arrays")
CLASSES = ["cat", "dog", "eel"]


def pixels(num_images, *shape, seed):
    return np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8)


def labels(num_images, num_classes):
    return np.arange(num_images) * 7 % num_classes


def published(name):
    """Images (N, C, H, W) and labels of both parts, as they go into the files."""
    (channels, height, width), num_classes = ((3, 6, 8), 3) if name in OWN_SHAPE else shape_of(DataConfig(name=name))
    return {
        part: (pixels(size, channels, height, width, seed=seed), labels(size, num_classes))
        for seed, (part, size) in enumerate({"train": NUM_TRAIN, "test": NUM_TEST}.items())
    }


def lay_out_idx(name, root):
    folder = root / IDX_FOLDERS[name] / "raw"
    folder.mkdir(parents=True)
    for part, (images, classes) in published(name).items():
        stem = {"train": "train", "test": "t10k"}[part]
        head = struct.pack(">4I", 0x803, len(images), 28, 28)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x801, len(classes)) + classes.astype(np.uint8).tobytes()
        )


def lay_out_cifar(name, root, monkeypatch):
    class_name, folder_name, key, num_classes = CIFAR[name]
    folder, kind = root / folder_name, getattr(import_torchvision("torchvision.datasets"), class_name)
    folder.mkdir()

    def write(file, content):
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()

    for part, listed in (("train", "train_list"), ("test", "test_list")):
        files = [file for file, _ in getattr(kind, listed)]
        images, classes = (np.array_split(array, len(files)) for array in published(name)[part])
        monkeypatch.setattr(
            kind,
            listed,
            [
                [file, write(file, {"data": images[i].reshape(len(images[i]), -1), key: classes[i].tolist()})]
                for i, file in enumerate(files)
            ],
        )
    names = {kind.meta["key"]: [f"class {i}" for i in range(num_classes)]}
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": write(kind.meta["filename"], names)})


def lay_out_svhn(root, monkeypatch):
    kind = import_torchvision("torchvision.datasets").SVHN
    checksums = dict(kind.split_list)
    for part, (images, classes) in published("svhn").items():
        path = root / f"{part}_32x32.mat"
        ten_for_zero = np.where(classes == 0, 10, classes).astype(np.uint8)
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": ten_for_zero[:, None]})
        checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        checksums[part] = [checksums[part][0], path.name, checksum]
    monkeypatch.setattr(kind, "split_list", checksums)


def lay_out_folders(root):
    for part, (images, classes) in published("image_folder").items():
        for i, (image, label) in enumerate(zip(images, classes, strict=True)):
            folder = root / part / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:03}.png")


def lay_out_arrays(root):
    made = {
        f"{key}_{part}": array
        for part, pair in published("arrays").items()
        for key, array in zip(("images", "labels"), pair, strict=True)
    }
    np.savez(root / "set.npz", **made)


@pytest.fixture
def lay_out(tmp_path, monkeypatch):
    """Lay out a set and describe it, with a cache of its own."""

    def lay_out(name):
        root = tmp_path / name
        root.mkdir()
        if name in IDX_FOLDERS:
            lay_out_idx(name, root)
        elif name in CIFAR:
            lay_out_cifar(name, root, monkeypatch)
        elif name == "svhn":
            lay_out_svhn(root, monkeypatch)
        elif name == "arrays":
            lay_out_arrays(root)
        else:
            lay_out_folders(root)
        return DataConfig(name=name, root=str(root), cache=str(tmp_path / "cache"))

    return lay_out


def pairs(images, classes):
    """A set of labelled images, whatever their order."""
    return sorted((np.asarray(image).tobytes(), int(label)) for image, label in zip(images, classes, strict=True))


def pairs_of(*splits):
    return sorted(pair for split in splits for pair in pairs(split.images_NCHW.numpy(), split.labels_N.numpy()))


def test_every_source_is_laid_out_here():
    assert {"digits", "huggingface", *LAID_OUT} == set(SOURCES)  # the last is in test_own_data.py


def test_every_name_of_the_config_has_a_source():
    assert set(DATA_NAMES) == set(SOURCES)


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_source_gives_the_published_images_with_their_labels(name, lay_out):
    config = lay_out(name)
    available(config)
    splits, test = load_splits(config), load_test(config)
    assert pairs_of(splits.train, splits.val) == pairs(*published(name)["train"])
    assert pairs_of(test) == pairs(*published(name)["test"])
    assert len(splits.train) == NUM_TRAIN * 5 // 6


@pytest.mark.parametrize("name", LAID_OUT)
def test_the_shape_is_that_of_the_images(name, lay_out):
    config = lay_out(name)
    splits = load_splits(config)
    assert shape_of(config) == (splits.image_shape, splits.num_classes)
    assert int(splits.train.labels_N.max()) < splits.num_classes


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_source_without_a_root_says_what_to_set(name):
    with pytest.raises(DatasetMissing, match=rf"{name}.*set data\.root"):
        available(DataConfig(name=name))


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_source_that_is_not_there_says_where_it_should_be(name, tmp_path):
    config = DataConfig(name=name, root=str(tmp_path / "nowhere"))
    for ask in (available, load_splits, load_test):
        with pytest.raises(DatasetMissing, match="nowhere"):
            ask(config)


@pytest.mark.parametrize("name", [name for name in LAID_OUT if name not in OWN_SHAPE])
def test_each_missing_file_is_named(name, lay_out):
    config = lay_out(name)
    for file, path in SOURCES[name].raw(config).items():
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DatasetMissing, match=rf"lacks {file}; fetch it with data\.download: true"):
            available(config)
        path.write_bytes(content)
    available(config)


@pytest.mark.parametrize("name", LAID_OUT)
def test_each_truncated_file_is_named(name, lay_out):
    config = lay_out(name)
    for path in list(SOURCES[name].raw(config).values())[:8]:
        content = path.read_bytes()
        path.write_bytes(content[: -len(content) // 3])
        with pytest.raises(DatasetDamaged, match=f"{path.name} "):
            load_splits(config)
        path.write_bytes(content)


def test_a_download_is_not_demanded_beforehand(tmp_path):
    available(DataConfig(name="cifar10", root=str(tmp_path), download=True))


def test_a_download_of_what_is_there_fetches_nothing(lay_out):
    config = lay_out("kmnist")
    assert len(load_test(config.model_copy(update={"download": True}))) == NUM_TEST


def test_a_download_that_fails_says_so(tmp_path, monkeypatch):
    kind = import_torchvision("torchvision.datasets").FashionMNIST
    monkeypatch.setattr(kind, "mirrors", [(tmp_path / "no-mirror").as_uri() + "/"])
    config = DataConfig(name="fashion_mnist", root=str(tmp_path), download=True, cache=str(tmp_path / "cache"))
    with pytest.raises(DatasetMissing, match=rf"its download into {tmp_path} failed: .*train-images"):
        load_splits(config)


def test_packed_files_are_to_be_unpacked(lay_out):
    config = lay_out("mnist")
    path = SOURCES["mnist"].raw(config)["train-images-idx3-ubyte"]
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(DatasetMissing, match=r"unpack train-images-idx3-ubyte\.gz in .*raw"):
        available(config)


def test_another_format_under_the_right_name_is_damage(lay_out):
    config = lay_out("mnist")
    path = SOURCES["mnist"].raw(config)["train-labels-idx1-ubyte"]
    path.write_bytes(b"<html>" + path.read_bytes())
    with pytest.raises(DatasetDamaged, match="train-labels-idx1-ubyte does not begin like idx1-ubyte data"):
        load_splits(config)


def test_old_copies_that_torchvision_would_read_instead_are_refused(lay_out):
    config = lay_out("mnist")
    old = Path(config.root, "MNIST", "processed")
    old.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(60, 28, 28, dtype=torch.uint8), torch.zeros(60, dtype=torch.int64)), old / file)
    with pytest.raises(DatasetDamaged, match=r"the old copies in .*processed instead: delete these"):
        load_splits(config)


def test_a_label_that_no_class_has_is_damage(lay_out):
    config = lay_out("mnist")
    path = SOURCES["mnist"].raw(config)["train-labels-idx1-ubyte"]
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DatasetDamaged, match=r"a label is outside 0\.\.9"):
        load_splits(config)


def test_images_of_several_sizes_are_refused_by_name(lay_out):
    config = lay_out("image_folder")
    Image.new("RGB", (9, 6)).save(Path(config.root, "train", "dog", "odd.png"))
    with pytest.raises(
        DatasetDamaged, match=r"odd\.png has 6 by 9 pixels, other images have 6 by 8; set data\.image_size"
    ):
        load_splits(config)


def test_images_of_16_bits_are_refused_and_not_made_white(lay_out):
    config = lay_out("image_folder")
    Image.fromarray(np.full((6, 8), 30_000, dtype=np.uint16)).save(Path(config.root, "train", "dog", "deep.png"))
    with pytest.raises(DatasetDamaged, match=r"deep\.png has more than 8 bits a channel \(mode I;16\).*; convert all"):
        load_splits(config)


def test_images_of_several_sizes_are_brought_to_one(lay_out):
    config = lay_out("image_folder").model_copy(update={"image_size": 4})
    Image.new("L", (90, 60), 77).save(Path(config.root, "train", "dog", "grey.jpg"))
    splits = load_splits(config)
    assert shape_of(config) == ((3, 4, 4), 3)
    assert splits.image_shape == (3, 4, 4)
    everything = torch.cat((splits.train.images_NCHW, splits.val.images_NCHW))
    assert (everything == 77).flatten(1).all(1).sum() == 1


def test_the_centre_is_what_remains(tmp_path):
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = 200
    for part, size in (("train", 12), ("test", 1)):
        (tmp_path / part / "one").mkdir(parents=True)
        for i in range(size):
            wide[0, 4] = 200 - size + 1 + i  # training images must differ; those of the test are alike
            wide[0, 0] = 7  # outside the centre
            Image.fromarray(wide).save(tmp_path / part / "one" / f"{i}.png")
    config = DataConfig(name="image_folder", root=str(tmp_path), cache=str(tmp_path / "cache"), image_size=4)
    assert load_test(config).images_NCHW.unique().tolist() == [200]


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images_is_named(part, lay_out):
    config = lay_out("image_folder")
    Path(config.root, part, "emu").mkdir()
    with pytest.raises(DatasetMissing, match=rf"{part}/emu holds no image; lay images out as"):
        available(config)


def test_images_that_are_all_alike_cannot_be_split(lay_out):
    config = lay_out("image_folder").model_copy(update={"image_size": 4})
    for path in Path(config.root).glob("train/*/*.png"):
        Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(DatasetDamaged, match="too few different images to set a sixth of them aside"):
        load_splits(config)


def test_a_class_in_one_part_only_is_named(lay_out):
    config = lay_out("image_folder")
    (Path(config.root) / "test" / "eel").rename(Path(config.root) / "test" / "elk")
    with pytest.raises(DatasetDamaged, match=r"only one of train and test under .* has eel, elk"):
        available(config)


def test_the_shape_of_a_folder_needs_no_intact_pixels(lay_out):
    config = lay_out("image_folder")
    path = Path(config.root, "train", "cat", "000.png")
    path.write_bytes(path.read_bytes()[:60])
    assert shape_of(config) == ((3, 6, 8), 3)


@pytest.fixture(scope="module")
def jpeg_root(tmp_path_factory):
    """The first images of each class of CIFAR-10, as JPEG files."""
    archive = Path(os.environ.get("RAVEL_TEST_DATA", "nowhere"), "cifar10-jpeg.tar.xz")
    if not archive.is_file():
        pytest.skip("RAVEL_TEST_DATA names no folder with cifar10-jpeg.tar.xz")
    root = tmp_path_factory.mktemp("jpeg")
    with tarfile.open(archive) as tar:
        few = (member for member in tar if member.name.endswith((*(f"/000{i}.jpg" for i in range(10)), "/0010.jpg")))
        tar.extractall(root, members=few, filter="data")
    return root


def test_photographs_are_read_from_folders(jpeg_root, tmp_path):
    config = DataConfig(name="image_folder", root=str(jpeg_root), cache=str(tmp_path))
    splits, test = load_splits(config), load_test(config)
    assert shape_of(config) == ((3, 32, 32), 10)
    assert len(splits.train) + len(splits.val) == len(test) == 110
    with Image.open(jpeg_root / "test" / "airplane" / "0000.jpg") as image:
        first = np.asarray(image).transpose(2, 0, 1).tobytes()
    assert (first, 0) in pairs_of(test)
