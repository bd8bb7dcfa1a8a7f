"""The data sets by name: what they look like, whether they are here, and how they are read.

Every source gives uint8 pixels over the full range 0..255, so `images / 255` is in [0, 1] for all of
them and one epsilon means the same everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch

from trainables._torchvision import import_torchvision
from trainables.data.splits import Split, partition
from trainables.errors import DatasetMissing

__all__ = ["SOURCES", "Digits", "Mnist", "Source"]

DIGITS_WHITE = 16


class Source(Protocol):
    """One data set; `root` is `data.root` of the trial."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def num_classes(self) -> int:
        """How many labels there are, counted from 0."""

    def require(self, root: str | None) -> None:
        """Raise DatasetMissing, with its remedy, unless `read` can succeed."""

    def read(self, root: str | None) -> tuple[Split, Split, Split]:
        """The training, validation and test splits."""


@dataclass(frozen=True)
class Digits:
    """The 1,797 handwritten digits that scikit-learn carries (UCI optdigits test set), 8 by 8 pixels.

    Its pixels count 0..16; they are stretched to 0..255 by rounding 255/16 times the count. The 17
    levels stay distinct and move by at most half a level of 255.
    """

    image_shape: tuple[int, int, int] = (1, 8, 8)
    num_classes: int = 10

    def require(self, root: str | None) -> None:  # noqa: ARG002 - the digits need no root
        """Only scikit-learn is needed."""
        if find_spec("sklearn") is None:
            raise DatasetMissing("digits", "install scikit-learn: pip install 'ravel-sweeps[train]'")

    def read(self, root: str | None) -> tuple[Split, Split, Split]:  # noqa: ARG002
        """60 / 20 / 20 %, cut by content."""
        from sklearn.datasets import load_digits  # noqa: PLC0415 - two seconds that MNIST must not pay

        bunch = load_digits()
        counts = torch.from_numpy(bunch.images)[:, None]
        images_NCHW = (counts * (255 / DIGITS_WHITE)).round().to(torch.uint8)
        train, val, test = partition(Split(images_NCHW, torch.from_numpy(bunch.target)), (0.6, 0.2))
        return train, val, test


@dataclass(frozen=True)
class Mnist:
    """MNIST from the folder of torchvision: 50,000 / 10,000 images, and its own 10,000 test images."""

    image_shape: tuple[int, int, int] = (1, 28, 28)
    num_classes: int = 10

    def require(self, root: str | None) -> None:
        """The four files must lie under <root>/MNIST/raw."""
        if root is None:
            raise DatasetMissing("mnist", "set data.root to the folder that holds MNIST/raw")
        folder = Path(root) / "MNIST" / "raw"
        files = [
            folder / f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
        ]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise DatasetMissing(
                "mnist",
                f"{folder} lacks {', '.join(missing)}; fetch it with "
                f"torchvision.datasets.MNIST({root!r}, download=True)",
            )

    def read(self, root: str | None) -> tuple[Split, Split, Split]:
        """The published training set cut 5 to 1 by content, and the published test set."""
        self.require(root)
        train, val = partition(self._published(root, train=True), (5 / 6,))
        return train, val, self._published(root, train=False)

    @staticmethod
    def _published(root: str | None, *, train: bool) -> Split:
        mnist = import_torchvision("torchvision.datasets").MNIST(root, train=train, download=False)
        return Split(mnist.data[:, None], mnist.targets)


SOURCES: Mapping[str, Source] = MappingProxyType({"digits": Digits(), "mnist": Mnist()})
