"""Image files as the pixels of a trained model: its channels, and its size, as those of an image_folder get theirs."""

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from trainables._torchvision import import_torchvision
from trainables.data.pixel_depth import depth_problem
from trainables.errors import ImageUnreadable

__all__ = ["ImageFile", "read_image"]

MODES = {1: "L", 3: "RGB"}
"""Mode of Pillow by the number of channels."""
"""First letters of the modes whose pixels have more than 8 bits, which Pillow cuts off at white."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Pixels (C, H, W) uint8 of a file; `size` (width, height) and Pillow's `mode` are those that the file has."""

    pixels_CHW: np.ndarray[Any, np.dtype[np.uint8]]
    size: tuple[int, int]
    mode: str

    @property
    def is_resized(self) -> bool:
        """True if the file has another size."""
        _, height, width = self.pixels_CHW.shape
        return self.size != (width, height)

    @property
    def is_converted(self) -> bool:
        """True if the file has other channels."""
        return self.mode != MODES[self.pixels_CHW.shape[0]]


def read_image(path: str | PathLike[str], *, shape: tuple[int, int, int]) -> ImageFile:
    """Read the first image of a file as one of this shape (C, H, W).

    It is converted to grey or RGB, as all images of an image_folder are to RGB. One of another size is scaled until it
    covers the shape (bilinear, antialiased), and its centre is cut out.

    Raises:
        ImageUnreadable: no image, one of more than 8 bits a channel, or a shape that no image file has.
    """
    from PIL import Image  # noqa: PLC0415 - comes with torchvision

    channels, height, width = shape
    if channels not in MODES:
        reason = f"the model takes images of {channels} channels, image files give it 1 or 3"
        raise ImageUnreadable(fspath(path), reason, "give it arrays in Python")
    if Path(path).exists() and not Path(path).is_file():
        raise ImageUnreadable(fspath(path), "is no regular file", "name an image file")
    try:
        with Image.open(path) as image:
            image.load()
            _refuse_deep(path, image.mode)
            fitted = _fitted(image.convert(MODES[channels]), height, width)
            pixels_HWC = np.asarray(fitted).reshape(height, width, channels)
            return ImageFile(np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)), image.size, image.mode)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageUnreadable(fspath(path), f"cannot be read ({reason})", "name an image file") from error


def _refuse_deep(path: str | PathLike[str], mode: str) -> None:
    if (problem := depth_problem(mode)) is not None:
        raise ImageUnreadable(fspath(path), problem, "convert it to 8 bits first")


def _fitted(image: Any, height: int, width: int) -> Any:
    """Return an image of Pillow in this size.

    >>> from PIL import Image
    >>> _fitted(Image.new("L", (40, 20)), 8, 8).size, _fitted(Image.new("L", (10, 40)), 8, 6).size
    ((8, 8), (6, 8))
    """
    if image.size == (width, height):
        return image
    transforms = import_torchvision("torchvision.transforms")
    scale = max(height / image.height, width / image.width)
    covering = [max(height, round(image.height * scale)), max(width, round(image.width * scale))]
    size: int | list[int] = height if height == width else covering
    return transforms.CenterCrop([height, width])(transforms.Resize(size)(image))
