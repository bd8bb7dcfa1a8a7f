"""Outliers: images of other kinds, made from the test images or read from a folder, in the shape of the test images.

    rotated, permuted, noise     the test images rotated by 90 degrees, their pixels in one other order, uniform noise
    fashion_mnist=ROOT, digits   the test split of a set that `data.name` knows, with its `data.root`
    NAME=FOLDER                  MNIST's idx files (packed or not, in FOLDER or FOLDER/raw), or image files at any depth

A grey image gets equal channels, a coloured one becomes its luminance. As for an image_folder, the smaller scale is
resized to the required size (bilinear, antialiased) and the centre is cropped. Labels of outliers mean nothing to the
model, and those of image files are all 0.
Shapes: N images, C channels, H by W pixels.
"""

import gzip
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from trainables._torchvision import import_torchvision
from trainables.config.trial import DataConfig
from trainables.data import Split, load_test
from trainables.data.folders import EXTENSIONS
from trainables.data.pixel_depth import depth_problem
from trainables.data.sources import SOURCES
from trainables.errors import ConfigError, Problem, TrainableError
from trainables.seeding import generator

__all__ = ["MADE", "fitted", "noise", "outliers", "parse", "permuted", "rotated"]

IDX_IMAGES, IDX_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def rotated(like: Split, *, seed: int = 0) -> Split:  # noqa: ARG001 - the signature of all that is made
    """Rotate each image by 90 degrees counterclockwise.

    Raises:
        ValueError: images that are not square would change their shape.

    >>> images = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    >>> rotated(Split(images, torch.tensor([0]))).images_NCHW.tolist()
    [[[[2, 4], [1, 3]]]]
    """
    height, width = like.images_NCHW.shape[2:]
    if height != width:
        raise ValueError(f"rotated: needs square images, got {height} by {width} pixels; use permuted")
    return Split(like.images_NCHW.rot90(1, (2, 3)).contiguous(), like.labels_N)


def permuted(like: Split, *, seed: int = 0) -> Split:
    """Permute the pixels of all images in one order, which depends on `seed`; channels stay together."""
    flat_NCP = like.images_NCHW.flatten(2)
    order_P = torch.randperm(flat_NCP.shape[2], generator=generator(seed, "permuted pixels"))
    return Split(flat_NCP[:, :, order_P.to(flat_NCP.device)].reshape(like.images_NCHW.shape), like.labels_N)


def noise(like: Split, *, seed: int = 0) -> Split:
    """Return equally many images of independent pixels, uniform over 0..255."""
    source = generator(seed, "noise images")
    images_NCHW = torch.randint(256, like.images_NCHW.shape, generator=source, dtype=torch.uint8)
    return Split(images_NCHW.to(like.images_NCHW.device), like.labels_N)


MADE: Final[Mapping[str, Callable[..., Split]]] = MappingProxyType(
    {"rotated": rotated, "permuted": permuted, "noise": noise}
)
"""Functions that make outliers from the test images, by name."""


def outliers(texts: Iterable[str], *, like: Split, seed: int = 0) -> dict[str, Split]:
    """Return the sets that these texts name, by name, in their order.

    Raises:
        ConfigError: all texts that name no set, and duplicate names.

    >>> like = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    >>> {name: len(split) for name, split in outliers(["noise", "rotated"], like=like).items()}
    {'noise': 3, 'rotated': 3}
    """
    sets: dict[str, Split] = {}
    problems: list[Problem] = []
    for text in texts:
        try:
            name, split = parse(text, like=like, seed=seed)
        except ConfigError as error:
            problems += error.problems
            continue
        if name in sets:
            problems.append(Problem(f"outliers.{name}", "must be given once, got it twice; rename one: NAME=FOLDER"))
        sets[name] = split
    if problems:
        raise ConfigError(problems)
    return sets


def parse(text: str, *, like: Split, seed: int = 0) -> tuple[str, Split]:
    """Return a name and its images, in the shape and on the device of `like`.

    Raises:
        ConfigError: no such set, no such place, or images that cannot take the shape.

    >>> parse("shuffled", like=Split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0])))
    Traceback (most recent call last):
    trainables.errors.ConfigError: outliers.shuffled: must be one of rotated, permuted, noise or digits, or have a \
place: shuffled=FOLDER
    """
    name, has_place, place = text.partition("=")
    try:
        split = _read_set(name, place if has_place else None, like=like, seed=seed)
    except ConfigError:
        raise
    except (TrainableError, ValueError, OSError) as error:
        raise ConfigError([Problem(f"outliers.{name}", str(error))]) from error
    return name, split.to(like.images_NCHW.device)


def fitted(split: Split, *, like: Split) -> Split:
    """Convert the images to the shape (C, H, W) of `like`.

    Raises:
        ValueError: channels other than 1 or 3 that differ.

    >>> like = Split(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.tensor([0]))
    >>> fitted(Split(torch.ones(2, 1, 8, 6, dtype=torch.uint8), torch.tensor([0, 1])), like=like).images_NCHW.shape
    torch.Size([2, 3, 4, 4])
    """
    channels, height, width = like.images_NCHW.shape[1:]
    return Split(_sized(_coloured(split.images_NCHW, channels), (height, width)), split.labels_N)


def _read_set(name: str, place: str | None, *, like: Split, seed: int) -> Split:
    if not _NAME.fullmatch(name):
        raise ValueError("must be a name of small letters, digits, _ and -, such as notmnist=FOLDER")
    if name in MADE:
        if place is not None:
            raise ValueError(f"is made from the test images and has no place, got {place!r}")
        return MADE[name](like, seed=seed)
    if name in SOURCES:
        return fitted(load_test(DataConfig.model_validate({"name": name, "root": place or None})), like=like)
    if not place:
        embedded = [source for source in SOURCES if SOURCES[source].embedded]
        raise ValueError(f"must be one of {', '.join(MADE)} or {', '.join(embedded)}, or have a place: {name}=FOLDER")
    return _read(Path(place), like=like)


def _read(folder: Path, *, like: Split) -> Split:
    if not folder.is_dir():
        raise ValueError(f"must be a folder, got {folder}")
    for inner in (folder, folder / "raw"):
        images, labels = (_idx_file(inner, name) for name in (IDX_IMAGES, IDX_LABELS))
        if images and labels:
            pixels_NHW = torch.from_numpy(_idx(images, dimensions=3))
            return fitted(Split(pixels_NHW[:, None], torch.from_numpy(_idx(labels, dimensions=1)).long()), like=like)
        if images:
            raise ValueError(f"{inner} holds {images.name} without {IDX_LABELS}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise ValueError(
            f"{folder} must hold {IDX_IMAGES} and {IDX_LABELS}, packed or not, or image files; it does not"
        )
    images_NCHW = torch.stack([_image(path, like=like) for path in paths])
    return Split(images_NCHW, torch.zeros(len(paths), dtype=torch.int64))


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _idx(path: Path, *, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"{path} does not begin like idx{dimensions}-ubyte data")
    sizes = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != math.prod(sizes):
        raise ValueError(f"{path} has {len(data) - start} values, its header says {math.prod(sizes)}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes).copy()


def _image(path: Path, *, like: Split) -> Tensor:
    """Read one image file (C, H, W); the sizes of the files may differ."""
    from PIL import Image  # noqa: PLC0415 - comes with torchvision

    channels, height, width = like.images_NCHW.shape[1:]
    try:
        with Image.open(path) as image:
            mode, pixels_HWC = image.mode, np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow does not say which file it could not read
        raise ValueError(f"{path} cannot be read ({error})") from error
    if (problem := depth_problem(mode)) is not None:
        raise ValueError(f"{path} {problem}; convert it to 8 bits first")
    image_1CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None]
    return _sized(_coloured(image_1CHW, channels), (height, width))[0]


def _coloured(images_NCHW: Tensor, channels: int) -> Tensor:
    actual = images_NCHW.shape[1]
    if actual == channels:
        return images_NCHW
    if actual == 1:
        return images_NCHW.repeat(1, channels, 1, 1)
    if (actual, channels) == (3, 1):
        grey_N1HW: Tensor = _functional().rgb_to_grayscale(images_NCHW)
        return grey_N1HW
    raise ValueError(f"has images of {actual} channels, the test images have {channels}: only 1 and 3 can be converted")


def _sized(images_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    actual = tuple(images_NCHW.shape[2:])
    if actual == size:
        return images_NCHW
    scale = max(size[0] / actual[0], size[1] / actual[1])
    covering = [max(side, round(scale * length)) for side, length in zip(size, actual, strict=True)]
    functional = _functional()
    resized = functional.resize(images_NCHW, covering, antialias=True)
    cut: Tensor = functional.center_crop(resized, list(size)).contiguous()
    return cut


def _functional() -> Any:
    return import_torchvision("torchvision.transforms.functional")
