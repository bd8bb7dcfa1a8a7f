"""Samples of a user's own data set as pixels and labels: anything (image, label) becomes uint8 (C, H, W) and an int.

An image is a PIL image, a tensor (H, W) or (C, H, W), or an array (H, W) or (H, W, C); the other order of axes is
recognised where only that one has at most 4 channels. Its pixels are 0..255, or fractions k/255 of white: pixels are
stored as uint8, so other fractions are refused and not rounded. A label is an integer or a text.
Shapes: N images, C channels, H by W pixels.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trainables._torchvision import import_torchvision
from trainables.data.pixel_depth import depth_problem
from trainables.errors import ConfigError, Problem, short_repr

__all__ = ["Label", "Samples", "image_of", "label_of", "read_samples"]

Label = int | str
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

WHITE = 255
MOST_CHANNELS = 4
# A fraction k/255 in float16 is this close to a whole level, k; another fraction is farther, but for one in five.
NEAR = 0.1
GREY_MODES = ("L", "1")
NO_RESCALING = "leave out Normalize, as the model itself normalises"
IN_8_BITS = "round it where it is made: (image * 255).round().to(torch.uint8)"


class _Unsuitable(ValueError):
    """A value of a sample breaks a requirement; its place is added by the caller."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Images (N, C, H, W) uint8 of one part of a set, and their labels as the set has them."""

    images_NCHW: Pixels
    labels: tuple[Label, ...]


def read_samples(
    length: int,
    sample: Callable[[int], object],
    *,
    place: str,
    image_size: int | None,
    shape: tuple[int, ...] | None = None,
) -> Samples:
    """Read all samples of one part of a set.

    Args:
        length: their number, at least 1.
        sample: returns (image, label) at an index.
        place: words for the part in messages.
        image_size: side to which images are resized (the shorter one, and the centre cut out), or None.
        shape: (C, H, W) that all images must have; by default that of the first.

    Raises:
        ConfigError: the first sample that breaks a requirement.

    >>> read_samples(2, lambda index: (np.full((2, 3), index), "cat"), place="pets", image_size=None).labels
    ('cat', 'cat')
    """
    images_NCHW, labels = None if shape is None else np.empty((length, *shape), dtype=np.uint8), []
    for index in range(length):
        try:
            image, label = _pair(sample(index))
            grey = None if images_NCHW is None else images_NCHW.shape[1] == 1
            pixels_CHW = _resized(image_of(image, grey=grey), image_size)
            if images_NCHW is None:
                images_NCHW = np.empty((length, *pixels_CHW.shape), dtype=np.uint8)
            _require_shape(pixels_CHW.shape, images_NCHW.shape[1:])
            images_NCHW[index] = pixels_CHW
            labels.append(label_of(label))
        except _Unsuitable as error:
            raise ConfigError([Problem("data.name", f"{place}[{index}]: {error}")]) from error
    if images_NCHW is None:
        raise ValueError(f"length: must be >= 1, got {length}")
    return Samples(images_NCHW, tuple(labels))


def image_of(image: object, *, grey: bool | None = None) -> Pixels:
    """Return the pixels (C, H, W) of an image; one of PIL is grey as other images are, if `grey` says so.

    Raises:
        ValueError: no image, or one whose pixels 8 bits cannot hold.

    >>> image_of(torch.tensor([[0.0, 1.0]])).tolist()
    [[[0, 255]]]
    >>> image_of(np.zeros((2, 5, 3), dtype=np.uint8)).shape
    (3, 2, 5)
    """
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(image, pil.Image):
        return _pil_pixels(image, grey=grey)
    if isinstance(image, torch.Tensor):
        values = image.detach().cpu()
        return _levels(_channels_first(_numpy(values), tensor=True))
    if isinstance(image, np.ndarray):
        return _levels(_channels_first(image, tensor=False))
    raise _Unsuitable(f"the image must be a PIL image, an array or a tensor, got {type(image).__name__}; convert it")


def label_of(label: object) -> Label:
    """Return a label as an int or a text.

    Raises:
        ValueError: neither.

    >>> label_of(np.int64(3)), label_of(torch.tensor([3])), label_of("cat")
    (3, 3, 'cat')
    """
    if isinstance(label, str):
        return str(label)
    if isinstance(label, torch.Tensor | np.ndarray | np.generic):
        array = _numpy(label.detach().cpu()) if isinstance(label, torch.Tensor) else np.asarray(label)
        if array.size == 1 and array.dtype.kind in "iu":
            return int(array.item())
        if array.ndim and array.size > 1:
            value = f"an array {array.shape}"
            raise _Unsuitable(f"the label must be one integer or text, got {value}; use its argmax if it is one-hot")
        label = array.item() if array.size == 1 else label
    if type(label) is int:
        return label
    raise _Unsuitable(f"the label must be an integer or a text, got {short_repr(label)}; convert it")


def _pair(sample: object) -> tuple[object, object]:
    if isinstance(sample, tuple | list) and len(sample) == 2:
        return sample[0], sample[1]
    size = f" of {len(sample)}" if isinstance(sample, tuple | list | dict) else ""
    raise _Unsuitable(f"a sample must be a pair (image, label), got {type(sample).__name__}{size}; return a pair")


def _pil_pixels(image: Any, *, grey: bool | None) -> Pixels:
    if (problem := depth_problem(image.mode)) is not None:
        raise _Unsuitable(f"the image {problem}; convert all to 8 bits")
    is_grey = image.mode in GREY_MODES
    if grey and not is_grey:
        raise _Unsuitable(
            f"the image must be grey as earlier ones are, got mode {image.mode!r}; convert all: image.convert('RGB')"
        )
    if is_grey and grey is not False:
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def _channels_first(values: np.ndarray, *, tensor: bool) -> np.ndarray:
    if 0 in values.shape or values.ndim not in {2, 3}:
        axes = "(H, W) or (C, H, W)" if tensor else "(H, W) or (H, W, C)"
        raise _Unsuitable(f"the image must have the shape {axes}, got {values.shape}; reshape it")
    if values.ndim == 2:
        return values[None]
    first, last = values.shape[0] <= MOST_CHANNELS, values.shape[2] <= MOST_CHANNELS
    return values if first > last or (tensor and first == last) else values.transpose(2, 0, 1)


def _levels(values: np.ndarray) -> Pixels:
    """Return the pixels as levels 0..255, which they are or are fractions of."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf":
        raise _Unsuitable(f"pixels must be uint8 0..255 or floats in [0, 1], got {values.dtype}; convert them")
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise _Unsuitable(f"pixels must be finite, got {count} that are not; repair or leave out the image")
    low, high = values.min(), values.max()
    most, kind = (1, "floats in [0, 1]") if values.dtype.kind == "f" else (WHITE, "integers 0..255")
    if low < 0 or high > most:
        floats = NO_RESCALING if low < 0 else "divide them by the value of white"
        remedy = floats if values.dtype.kind == "f" else "rescale them to 8 bits"
        raise _Unsuitable(f"pixels must be {kind}, got {low:.4g} to {high:.4g}; {remedy}")
    if values.dtype.kind != "f":
        return values.astype(np.uint8)
    scaled = values.astype(np.float64) * WHITE
    levels = scaled.round()
    if (np.abs(scaled - levels) > NEAR).any():
        odd = values.ravel()[int(np.abs(scaled - levels).argmax())]
        raise _Unsuitable(f"floats must be levels k/255, as pixels are stored in 8 bits, got {odd:.4g}; {IN_8_BITS}")
    return levels.astype(np.uint8)


def _resized(pixels_CHW: Pixels, side: int | None) -> Pixels:
    """Resize the shorter side and cut the centre out, as for an image_folder."""
    if side is None or pixels_CHW.shape[1:] == (side, side):
        return pixels_CHW
    functional = import_torchvision("torchvision.transforms.functional")
    resized = functional.resize(torch.from_numpy(np.ascontiguousarray(pixels_CHW)), side, antialias=True)
    cut: Pixels = functional.center_crop(resized, [side, side]).numpy()
    return cut


def _require_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape == expected:
        return
    if shape[0] != expected[0]:
        requirement = f"the image must have {expected[0]} channel(s) as earlier images have, got {shape[0]}"
        raise _Unsuitable(f"{requirement}; convert all images alike")
    requirement = f"the image must have {_by(expected[1:])} pixels as earlier images have, got {_by(shape[1:])}"
    raise _Unsuitable(f"{requirement}; set data.image_size to resize all images")


def _by(shape: tuple[int, ...]) -> str:
    return " by ".join(map(str, shape))
