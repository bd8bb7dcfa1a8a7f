"""A user's own data set is prepared as a published one is: same cache, same digest, same splits by content."""

import gzip
import importlib
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainables._torchvision import import_torchvision
from trainables.config.trial import DataConfig, TrialConfig
from trainables.data import available, digest_of, load_splits, load_test, loading, shape_of
from trainables.data.own.libraries import TORCHVISION_SPLITS
from trainables.data.splits import Split
from trainables.errors import ConfigError
from trainables.import_paths import registered

PETS = """
    import numpy as np

    CLASSES = ["cat", "dog", "eel"]

    class Pets:
        classes = CLASSES

        def __init__(self, size: int = 6, first: int = 0, images: int = 60):
            noise = np.random.default_rng(first)
            self.images = noise.integers(0, 256, (images, size, size, 3), dtype=np.uint8)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index], index % 3

    def whole(size: int = 6):
        return Pets(size)

    def halves():
        return Pets(first=1), Pets(first=2, images=12)

    def thirds():
        return {"train": Pets(first=1), "val": Pets(first=3, images=9), "test": Pets(first=2, images=12)}

    class Both:
        train, test = Pets(first=1), Pets(first=2, images=12)

    def flagged(train: bool):
        return Pets(first=1) if train else Pets(first=2, images=12)
"""


@pytest.fixture
def write_module(tmp_path, monkeypatch, request):
    """``write_module(text)`` writes a module of the user's, and returns a name that no other test has imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(text):
        name = f"own_{abs(hash(request.node.nodeid)):x}_{len(names)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path):
    """``data(name, **more)``: a configuration with a cache of its own."""

    def configure(name, **more):
        return TrialConfig.from_point({"data.name": name, "data.cache": str(tmp_path / "cache"), **more}).data

    return configure


def next_process():
    for kept in (loading._load_once, loading._subset_once, loading._digest_once):
        kept.cache_clear()


def pairs(*splits):
    return sorted(
        (image.numpy().tobytes(), int(label))
        for split in splits
        for image, label in zip(split.images_NCHW, split.labels_N, strict=True)
    )


def pets(first=0, images=60, size=6):
    pixels = np.random.default_rng(first).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return sorted((pixels[i].transpose(2, 0, 1).tobytes(), i % 3) for i in range(images))


def entries(config):
    return sorted(path.name for path in Path(config.cache).iterdir() if path.is_dir())


def test_one_set_is_cut_by_content_as_the_digits_are(write_module, data):
    config = data(f"{write_module(PETS)}:Pets")
    available(config)
    splits, test = load_splits(config), load_test(config)
    assert pairs(splits.train, splits.val, test) == pets()
    assert (len(splits.train), len(splits.val), len(test)) == (36, 12, 12)
    assert shape_of(config) == ((3, 6, 6), 3) == (splits.image_shape, splits.num_classes)


@pytest.mark.parametrize("maker", ["halves", "Both", "flagged"])
def test_a_set_of_two_parts_is_cut_as_a_published_one(maker, write_module, data):
    config = data(f"{write_module(PETS)}:{maker}")
    splits = load_splits(config)
    assert pairs(splits.train, splits.val) == pets(first=1)
    assert pairs(load_test(config)) == pets(first=2, images=12)
    assert len(splits.train) == 50


def test_three_parts_stay_as_they_are(write_module, data):
    config = data(f"{write_module(PETS)}:thirds")
    splits = load_splits(config)
    assert pairs(splits.train) == pets(first=1)
    assert pairs(splits.val) == pets(first=3, images=9)
    assert pairs(load_test(config)) == pets(first=2, images=12)


def test_arguments_reach_the_code_and_make_a_set_of_their_own(write_module, data):
    name = f"{write_module(PETS)}:whole"
    config = data(name, **{"data.args.size": 4})
    assert shape_of(config) == ((3, 4, 4), 3)
    assert shape_of(data(name)) == ((3, 6, 6), 3)
    assert len(entries(config)) == 2
    assert digest_of(config) != digest_of(data(name))


def test_arguments_that_are_equal_in_python_and_not_in_json_are_two_sets(write_module, data):
    module = write_module("""
        import numpy as np
        def make(kind):
            level = 9 if kind is True else 7
            return [(np.full((2, 2), level * (i + 1)), i % 2) for i in range(12)]
    """)
    one, other = (load_test(data(f"{module}:make", **{"data.args.kind": kind})) for kind in (1, True))
    assert (int(one.images_NCHW.min()) % 7, int(other.images_NCHW.min()) % 9) == (0, 0)
    assert pairs(one) != pairs(other)


def test_a_point_names_a_set_without_importing_it(data):
    config = data("no_such_module_anywhere:Pets", **{"data.args.size": 3})
    assert config.args.by_name == {"size": 3}
    with pytest.raises(ConfigError, match="no module 'no_such_module_anywhere'"):
        available(config)


@pytest.fixture
def fresh_entry_points():
    """Read entry points once more, and forget them after the test."""
    registered.cache_clear()
    yield
    registered.cache_clear()


@pytest.mark.usefixtures("fresh_entry_points")
def test_a_package_registers_a_set_by_name(write_module, data, tmp_path):
    about = tmp_path / "pets_of_a_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pets-of-a-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[ravel.datasets]\nour_pets = {write_module(PETS)}:Pets\n")
    importlib.invalidate_caches()
    config = data("our_pets", **{"data.args.size": 5})
    assert shape_of(config) == ((3, 5, 5), 3)
    with pytest.raises(ConfigError, match=r"data\.name: must be one of .*'our_pets'.*, got 'our_cats'"):
        data("our_cats")


def test_the_root_and_the_download_are_passed_to_code_that_takes_them(write_module, data, tmp_path):
    module = write_module("""
        from pathlib import Path
        import numpy as np
        def make(root: Path, download: bool = False):
            if download:
                root.mkdir()
                (root / "level").write_text("40")
            level = int((root / "level").read_text())
            return [(np.full((2, 2), level + i), "ab"[i % 2]) for i in range(12)]
    """)
    config = data(f"{module}:make", **{"data.root": str(tmp_path / "raw"), "data.download": True})
    assert int(load_test(config).images_NCHW.min()) >= 40
    next_process()
    load_test(config.model_copy(update={"download": False}))
    assert len(entries(config)) == 1
    (tmp_path / "raw" / "level").write_text("100")
    next_process()
    assert int(load_test(config.model_copy(update={"download": False})).images_NCHW.min()) >= 100


def test_a_changed_module_or_one_that_it_imports_makes_another_entry(tmp_path):
    (tmp_path / "levels.py").write_text("START = 10\n")
    (tmp_path / "shades.py").write_text(
        "import numpy as np\nfrom levels import START\nimport levels\n"
        "def make():\n    return [(np.full((2, 2), levels.START + i), i % 2) for i in range(12)]\n"
    )
    program = (
        "from trainables.config.trial import DataConfig\nfrom trainables.data import load_splits, load_test\n"
        "config = DataConfig(name='shades:make')\n"
        "splits = load_splits(config)\nparts = splits.train, splits.val, load_test(config)\n"
        "print(min(int(part.images_NCHW.min()) for part in parts))"
    )

    def smallest():
        paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
        environment = {**os.environ, "PYTHONPATH": paths, "RAVEL_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-B", "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout), len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()])

    assert smallest() == (10, 1)
    assert smallest() == (10, 1)
    (tmp_path / "levels.py").write_text("START = 20\n")
    assert smallest() == (20, 2)
    (tmp_path / "shades.py").write_text((tmp_path / "shades.py").read_text().replace("+ i", "+ i + 1"))
    assert smallest() == (21, 3)


def test_an_entry_is_found_again_by_the_next_process(write_module, data):
    config = data(f"{write_module(PETS)}:Pets")
    before = load_splits(config)
    next_process()
    after = load_splits(config)
    assert after.train is not before.train
    assert pairs(after.train) == pairs(before.train)
    assert len(entries(config)) == 1


def test_what_the_code_prints_stays_off_the_standard_output(write_module, data, capsys):
    module = write_module("""
        import numpy as np
        print("imported")
        def make():
            print("made")
            return [(np.full((2, 2), i), i % 2) for i in range(12)]
    """)
    load_splits(data(f"{module}:make"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert {"imported", "made"} <= set(captured.err.split())


def as_pil(pixels_HWC):
    return Image.fromarray(pixels_HWC)


def as_tensor(pixels_HWC):
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1)


def as_fractions(pixels_HWC):
    return as_tensor(pixels_HWC).float() / 255


def as_half_fractions(pixels_HWC):
    return as_fractions(pixels_HWC).half()


def as_channels_first_array(pixels_HWC):
    return pixels_HWC.transpose(2, 0, 1).astype(np.int64)


FORMS = [as_pil, np.asarray, as_tensor, as_fractions, as_half_fractions, as_channels_first_array]


@pytest.mark.parametrize("form", FORMS, ids=[form.__name__ for form in FORMS])
def test_images_of_every_form_are_the_same_pixels(form, write_module, data, monkeypatch):
    module = write_module("FORM = None\ndef make():\n    return [(FORM(image), label) for image, label in PAIRS]")
    noise = np.random.default_rng(0).integers(0, 256, (30, 5, 7, 3), dtype=np.uint8)
    monkeypatch.syspath_prepend(".")
    loaded = __import__(module)
    monkeypatch.setattr(loaded, "FORM", form, raising=False)
    monkeypatch.setattr(loaded, "PAIRS", [(image, i % 3) for i, image in enumerate(noise)], raising=False)
    config = data(f"{module}:make")
    splits = load_splits(config)
    everything = pairs(splits.train, splits.val, load_test(config))
    assert everything == sorted((image.transpose(2, 0, 1).tobytes(), i % 3) for i, image in enumerate(noise))


def make_pairs(write_module, data, expression, **more):
    """Load a set of 30 random grey images with labels by an expression of i."""
    module = write_module(f"""
        import numpy as np
        import torch
        from PIL import Image
        noise = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
        def make():
            return [{expression} for i in range(30)]
    """)
    config = data(f"{module}:make", **more)
    splits = load_splits(config)
    return config, splits, loading._load(config).classes


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ("i % 3", ("0", "1", "2")),
        ("i % 3 + 7", ("7", "8", "9")),
        ("[5, -1, 12][i % 3]", ("-1", "5", "12")),
        ("torch.tensor([i % 3])", ("0", "1", "2")),
        ("np.int32(i % 3)", ("0", "1", "2")),
        ("['dog', 'cat', 'eel'][i % 3]", ("cat", "dog", "eel")),
    ],
)
def test_labels_are_numbered_in_sorted_order_and_keep_their_names(label, classes, write_module, data):
    _, splits, names = make_pairs(write_module, data, f"(noise[i], {label})")
    assert names == classes
    assert sorted(set(splits.train.labels_N.tolist())) == [0, 1, 2]


def test_names_come_from_the_set(write_module, data):
    config = data(f"{write_module(PETS)}:thirds")
    load_splits(config)
    assert loading._load(config).classes == ("cat", "dog", "eel")


def test_images_of_several_sizes_are_brought_to_one(write_module, data):
    sample = "(np.full((8 + i % 3, 6 + i), i + 1, dtype=np.uint8), i % 2)"
    config, splits, _ = make_pairs(write_module, data, sample, **{"data.image_size": 4})
    assert shape_of(config) == ((1, 4, 4), 2)
    everything = torch.cat([split.images_NCHW for split in (splits.train, splits.val, load_test(config))])
    assert sorted(everything.flatten(1).float().mean(1).tolist()) == [float(i + 1) for i in range(30)]


def test_a_palette_is_read_as_colours_and_a_grey_image_among_colours_as_equal_channels(write_module, data):
    sample = "(Image.fromarray(noise[i]).convert('RGB' if i == 0 else 'L' if i == 7 else 'P'), i % 3)"
    _, splits, _ = make_pairs(write_module, data, sample)
    assert splits.image_shape == (3, 6, 6)
    assert (splits.train.images_NCHW == splits.train.images_NCHW[:, :1]).all()


def test_images_of_16_bits_are_refused_and_not_made_white(write_module, data):
    sample = "(Image.fromarray(np.full((6, 6), 30_000, dtype=np.uint16)), i % 3)"
    with pytest.raises(ConfigError, match=r"more than 8 bits a channel \(mode I;16\).*; convert all to 8 bits"):
        make_pairs(write_module, data, sample)


def test_a_set_of_torchvision_is_read_by_name(data):
    config = data(
        "torchvision:FakeData",
        **{"data.args.size": 50, "data.args.image_size": [3, 5, 6], "data.args.num_classes": 4},
    )
    splits, test = load_splits(config), load_test(config)
    assert shape_of(config) == ((3, 5, 6), 4)
    made = import_torchvision("torchvision.datasets").FakeData(50, (3, 5, 6), 4)
    expected = sorted((np.asarray(image).transpose(2, 0, 1).tobytes(), int(label)) for image, label in made)
    assert pairs(splits.train, splits.val, test) == expected


def test_emnist_is_read_in_its_own_format(data, tmp_path):
    folder = tmp_path / "data" / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, size in (("train", 52), ("test", 26)):
        images = np.random.default_rng(size).integers(0, 256, (size, 28, 28), dtype=np.uint8)
        labels = (np.arange(size) % 26 + 1).astype(np.uint8)
        for kind, head, array in (
            ("images-idx3", struct.pack(">4I", 0x803, size, 28, 28), images),
            ("labels-idx1", struct.pack(">2I", 0x801, size), labels),
        ):
            (folder / f"emnist-letters-{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    config = data("torchvision:EMNIST", **{"data.root": str(tmp_path / "data"), "data.args.split": "letters"})
    splits = load_splits(config)
    assert shape_of(config) == ((1, 28, 28), 26)
    assert (len(splits.train) + len(splits.val), len(load_test(config))) == (52, 26)
    assert loading._load(config).classes[:3] == ("a", "b", "c")


def test_stl10_is_read_in_its_own_format(data, tmp_path, monkeypatch):
    kind = import_torchvision("torchvision.datasets").STL10
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    for part, size in (("train", 40), ("test", 20)):
        images = np.random.default_rng(size).integers(0, 256, (size, 3, 96, 96), dtype=np.uint8)
        (folder / f"{part}_X.bin").write_bytes(images.tobytes())
        (folder / f"{part}_y.bin").write_bytes((np.arange(size) % 10 + 1).astype(np.uint8).tobytes())
    (folder / kind.class_names_file).write_text("\n".join(f"class {i}" for i in range(10)))
    monkeypatch.setattr(kind, "_check_integrity", lambda _: True)
    config = data("torchvision:STL10", **{"data.root": str(tmp_path)})
    splits = load_splits(config)
    assert shape_of(config) == ((3, 96, 96), 10)
    assert (len(splits.train), len(splits.val), len(load_test(config))) == (33, 7, 20)
    assert loading._load(config).classes[0] == "class 0"


def test_torchvision_and_our_own_reader_of_mnist_give_the_same_bits(data, mnist_root):
    generic, published = (data(name, **{"data.root": str(mnist_root)}) for name in ("torchvision:MNIST", "mnist"))
    assert digest_of(generic) == digest_of(published)
    assert torch.equal(load_test(generic).images_NCHW, load_test(published).images_NCHW)


def test_every_set_of_torchvision_with_splits_has_the_names_that_the_library_takes():
    module = import_torchvision("torchvision.datasets")
    for name, splits in TORCHVISION_SPLITS.items():
        for split in (*splits, "no such split"):
            with pytest.raises((RuntimeError, OSError, ValueError, TypeError)) as caught:
                getattr(module, name)("/nowhere", split=split)
            if "h5py" in str(caught.value):
                continue
            refused = "Unknown value" in str(caught.value)
            assert refused == (split == "no such split"), f"{name} {split}: {caught.value}"


NPZ = {
    "one set": ("images", "labels"),
    "keras": ("x_{}", "y_{}"),
    "ours": ("images_{}", "labels_{}"),
    "in front": ("{}_images", "{}_labels"),
}


@pytest.mark.parametrize("names", NPZ.values(), ids=list(NPZ))
def test_arrays_are_read_from_a_file(names, data, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 5), dtype=np.uint8)
    labels = np.arange(60)[:, None] % 3
    parts = {"train": slice(48), "test": slice(48, None)} if "{}" in names[0] else {"": slice(None)}
    arrays = {
        name.format(part): array[rows]
        for part, rows in parts.items()
        for name, array in zip(names, (images, labels), strict=True)
    }
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    config = data("arrays", **{"data.root": str(tmp_path / "set.npz")})
    splits, test = load_splits(config), load_test(config)
    assert shape_of(config) == ((1, 6, 5), 3)
    assert pairs(splits.train, splits.val, test) == sorted((images[i].tobytes(), i % 3) for i in range(60))
    assert len(test) == 12


def test_arrays_with_names_of_their_own_are_named_in_arguments(data, tmp_path):
    images = np.random.default_rng(0).random((30, 4, 4, 3))
    np.savez(tmp_path / "set.npz", pictures=(images * 255).round() / 255, kinds=np.array(["a", "b"] * 15))
    config = data(
        "arrays",
        **{"data.root": str(tmp_path), "data.args.images": "pictures", "data.args.labels": "kinds"},
    )
    assert shape_of(config) == ((3, 4, 4), 2)


def test_arrays_have_the_pixels_and_labels_of_the_same_images_in_folders(data, tmp_path, image_data):
    content = gzip.decompress((image_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(content, dtype=np.uint8, offset=16).reshape(-1, 28, 28)[:200]
    kinds = gzip.decompress((image_data / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())
    labels = np.frombuffer(kinds, dtype=np.uint8, offset=8)[:200]
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images[:100], y_test=labels[:100])
    for part, size in (("train", 200), ("test", 100)):
        for i in range(size):
            folder = tmp_path / "folders" / part / str(labels[i])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[i]).save(folder / f"{i:03}.png")
    arrays, folders = (
        load_splits(data(name, **{"data.root": str(tmp_path / place)}))
        for name, place in (("arrays", "set.npz"), ("image_folder", "folders"))
    )
    expected = pairs(*(Split(split.images_NCHW[:, :1], split.labels_N) for split in (folders.train, folders.val)))
    assert pairs(arrays.train, arrays.val) == expected


def test_hugging_face_sets_are_read_from_the_disk(data, tmp_path):
    library = pytest.importorskip("datasets")
    noise = np.random.default_rng(0).integers(0, 256, (60, 5, 6, 3), dtype=np.uint8)

    def table(rows):
        columns = {"img": [Image.fromarray(noise[i]) for i in rows], "kind": [i % 3 for i in rows]}
        features = library.Features({"img": library.Image(), "kind": library.ClassLabel(names=["cat", "dog", "eel"])})
        return library.Dataset.from_dict(columns, features=features)

    library.DatasetDict(train=table(range(48)), test=table(range(48, 60))).save_to_disk(tmp_path / "set")
    columns = {"data.args.image": "img", "data.args.label": "kind"}
    config = data("huggingface", **{"data.root": str(tmp_path / "set"), **columns})
    splits, test = load_splits(config), load_test(config)
    everything = sorted((image.transpose(2, 0, 1).tobytes(), i % 3) for i, image in enumerate(noise))
    assert pairs(splits.train, splits.val, test) == everything
    assert loading._load(config).classes == ("cat", "dog", "eel")
    with pytest.raises(ConfigError, match=r"data\.args\.image: the data set has no column 'image'"):
        load_splits(data("huggingface", **{"data.root": str(tmp_path / "set"), "data.args.label": "kind"}))


def test_a_configuration_with_arguments_can_be_sent_to_another_process(data):
    config = data("pets:Pets", **{"data.args.sizes": [1, 2], "data.part": "1/2"})
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301  our own bytes
    assert DataConfig.model_validate_json(config.model_dump_json()) == config
