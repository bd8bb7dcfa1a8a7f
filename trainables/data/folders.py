"""Image files in folders named for their classes: <root>/train/<class>/*, <root>/test/<class>/*.

Classes are numbered in the order of their sorted names. All images are converted to RGB.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainables._torchvision import import_torchvision
from trainables.config.trial import DataConfig
from trainables.data.pixel_depth import depth_problem
from trainables.data.splits import Parts, Split, cut
from trainables.errors import DatasetDamaged, DatasetMissing

__all__ = ["ImageFolder"]

NAME = "image_folder"
PARTS = ("train", "test")
# The extensions of torchvision's ImageFolder, which ignores other files.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
LAYOUT = "lay images out as <data.root>/{train,test}/<class>/*.{jpg,png}"


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Data set in this layout; its training folder is cut like a published training set.

    All images share one size, or `data.image_size` makes them square: the short side is resized to it
    (bilinear, antialiased), and the centre is cut out.
    """

    embedded: bool = False

    def shape(self, config: DataConfig) -> tuple[tuple[int, int, int], int]:
        """Read the names of the class folders, and the header of the first image if `image_size` is None."""
        self.require(config)
        num_classes = len(_classes(_part(config, "train")))
        if config.image_size is not None:
            return (3, config.image_size, config.image_size), num_classes
        width, height = _size(next(_images(_part(config, "train"))))
        return (3, height, width), num_classes

    def class_names(self, config: DataConfig) -> tuple[str, ...]:
        """Return the names of the class folders, in the order of their labels."""
        return tuple(_classes(_part(config, "train")))

    def require(self, config: DataConfig) -> None:
        """Require the same classes in both folders, and an image in each class."""
        if config.root is None:
            raise DatasetMissing(NAME, f"set data.root, and {LAYOUT}")
        for part in PARTS:
            folder = _part(config, part)
            if not _classes(folder):
                raise DatasetMissing(NAME, f"{folder} holds no class folder; {LAYOUT}")
            for name in _classes(folder):
                if next(_images(folder / name), None) is None:
                    raise DatasetMissing(NAME, f"{folder / name} holds no image; {LAYOUT}")
        odd = set(_classes(_part(config, "train"))) ^ set(_classes(_part(config, "test")))
        if odd:
            reason = f"only one of train and test under {config.root} has {', '.join(sorted(odd))}"
            raise DatasetDamaged(NAME, reason, "give both the same class folders")

    def fetch(self, config: DataConfig) -> None:
        """Do nothing: an image folder has no download."""

    def raw(self, config: DataConfig) -> Mapping[str, Path]:
        """Return every image file."""
        root = Path(str(config.root))
        return {str(path.relative_to(root)): path for part in PARTS for path in _images(root / part)}

    def recipe(self, config: DataConfig) -> str:
        """Return the name and the size of the images."""
        return f"{NAME} image_size={config.image_size}"

    def read(self, config: DataConfig) -> Parts:
        """Read the training folder, cut in two, and the test folder.

        Raises:
            DatasetDamaged: a file that is no image, or has a different size; too few images.
        """
        shape, _ = self.shape(config)
        train, test = (_split(_part(config, part), shape=shape, image_size=config.image_size) for part in PARTS)
        try:
            return cut(train, test)
        except ValueError as error:
            reason = f"{_part(config, 'train')} holds too few different images to set a sixth of them aside"
            raise DatasetDamaged(NAME, reason, "add some") from error


def _part(config: DataConfig, part: str) -> Path:
    return Path(str(config.root)) / part


def _classes(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []


def _images(folder: Path) -> Iterator[Path]:
    """Yield image files at any depth, in the order of torchvision's ImageFolder."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        yield from (Path(parent, file) for file in sorted(files) if file.lower().endswith(EXTENSIONS))


def _split(folder: Path, *, shape: tuple[int, int, int], image_size: int | None) -> Split:
    data = import_torchvision("torchvision.datasets").ImageFolder(folder, loader=_reader(image_size))
    # Fill one by one: a list of all images and its stack would take twice the memory.
    images_NCHW = np.empty((len(data), *shape), dtype=np.uint8)
    for i, (path, _) in enumerate(data.samples):
        image_HWC = data.loader(path)
        if image_HWC.shape[:2] != shape[1:]:
            sizes = f"{image_HWC.shape[0]} by {image_HWC.shape[1]} pixels, other images have {shape[1]} by {shape[2]}"
            raise DatasetDamaged(NAME, f"{path} has {sizes}", "set data.image_size to resize all images")
        images_NCHW[i] = image_HWC.transpose(2, 0, 1)
    return Split(torch.from_numpy(images_NCHW), torch.tensor(data.targets))


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Name the file in an error of Pillow, which does not name it."""
    try:
        yield
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetDamaged(NAME, f"{path} cannot be read ({error})", "replace or delete it") from error


def _reader(image_size: int | None) -> Any:
    """Return a function from a path to pixels (H, W, 3) uint8."""
    from PIL import Image  # noqa: PLC0415 - comes with torchvision

    transforms = import_torchvision("torchvision.transforms")
    fit = (
        transforms.Compose([])
        if image_size is None
        else transforms.Compose([transforms.Resize(image_size), transforms.CenterCrop(image_size)])
    )

    def read(path: str) -> np.ndarray:
        with _named(path), Image.open(path) as image:
            if (problem := depth_problem(image.mode)) is not None:
                raise DatasetDamaged(NAME, f"{path} {problem}", "convert all images to 8 bits first")
            return np.asarray(fit(image.convert("RGB")))

    return read


def _size(path: Path) -> tuple[int, int]:
    """Return (width, height) from the header alone."""
    from PIL import Image  # noqa: PLC0415

    with _named(path), Image.open(path) as image:
        return image.size
