"""Subsets of published images, laid out as the trainables read them."""

import gzip
import shutil
import struct
from pathlib import Path

IDX_HEADERS = {"images": ">4i", "labels": ">2i"}
FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}


def subset(source: Path, folder: Path, *, data: str, images: int, skip: int) -> None:
    """Make a data root with so many of the published images after the first `skip`.

    The published test sets of MNIST and Fashion-MNIST are copied, as their readers ask for them, and not used.
    """
    if data == "image_folder":
        _subset_of_files(source / "cifar10" / "test", folder, images=images, skip=skip)
        return
    raw = folder / FOLDERS[data]
    raw.mkdir(parents=True)
    files = sorted((source / FOLDERS[data]).glob("*-ubyte*"))
    if not files:
        raise SystemExit(f"--data-root: must hold the files of {data} in {source / FOLDERS[data]}, got none")
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if path.name.startswith("train"):
            header = IDX_HEADERS["images" if "images" in path.name else "labels"]
            magic, count, *shape = struct.unpack_from(header, content)
            size = struct.calcsize(header)
            item = (len(content) - size) // count
            chosen = content[size + skip * item : size + (skip + images) * item]
            content = struct.pack(header, magic, images, *shape) + chosen
        (raw / path.name.removesuffix(".gz")).write_bytes(content)


def _subset_of_files(source: Path, folder: Path, *, images: int, skip: int) -> None:
    """Copy the first images of each class as training images, and the one after them as the test set."""
    classes = sorted(path for path in source.glob("*") if path.is_dir())
    if not classes:
        raise SystemExit(f"--data-root: must hold class folders below {source}, got none")
    each = images // len(classes)
    for kind in classes:
        files = sorted(kind.iterdir())[skip // len(classes) :][: each + 1]
        for part, chosen in (("train", files[:each]), ("test", files[each:])):
            (folder / part / kind.name).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, folder / part / kind.name)
