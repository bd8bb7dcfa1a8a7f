"""The data sets by name: what they look like, whether they are here, and how they are read.

Every source gives uint8 pixels over the full range 0..255, so `images / 255` is in [0, 1] for all of
them and one epsilon means the same everywhere. Where a test set is published it is the test split, and
the published training set is cut 5 to 1, by content, into training and validation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch

from trainables.config.trial import DataConfig
from trainables.data.folders import ImageFolder
from trainables.data.published import PUBLISHED
from trainables.data.splits import Parts, Split, partition
from trainables.errors import DatasetMissing

__all__ = ["SOURCES", "DatasetSource", "Digits"]

DIGITS_WHITE = 16


class DatasetSource(Protocol):
    """One data set; the configuration says where it is."""

    @property
    def embedded(self) -> bool:
        """Whether it comes with a library: there are no raw files, and nothing to prepare."""

    def shape(self, config: DataConfig) -> tuple[tuple[int, int, int], int]:
        """(C, H, W) and the number of classes, without reading the images."""

    def require(self, config: DataConfig) -> None:
        """Raise DatasetMissing or DatasetDamaged, with a remedy, unless `fetch` and `read` can be tried."""

    def fetch(self, config: DataConfig) -> None:
        """Download what is missing, if the configuration wants that."""

    def raw(self, config: DataConfig) -> Mapping[str, Path]:
        """The files that `read` reads, by their names within the set."""

    def recipe(self, config: DataConfig) -> str:
        """What else decides on the pixels: equal files and recipes give equal splits."""

    def read(self, config: DataConfig) -> Parts:
        """The training, validation and test splits."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The 1,797 handwritten digits that scikit-learn carries (UCI optdigits test set), 8 by 8 pixels.

    Its pixels count 0..16; they are stretched to 0..255 by rounding 255/16 times the count. The 17
    levels stay distinct and move by at most half a level of 255.
    """

    embedded: bool = True

    def shape(self, config: DataConfig) -> tuple[tuple[int, int, int], int]:  # noqa: ARG002 - there is one copy only
        """Always the same."""
        return (1, 8, 8), 10

    def require(self, config: DataConfig) -> None:  # noqa: ARG002
        """Only scikit-learn is needed."""
        if find_spec("sklearn") is None:
            raise DatasetMissing("digits", "install scikit-learn: pip install 'ravel-sweeps[train]'")

    def fetch(self, config: DataConfig) -> None:
        """Nothing is missing."""

    def raw(self, config: DataConfig) -> Mapping[str, Path]:  # noqa: ARG002
        """No files of ours."""
        return {}

    def recipe(self, config: DataConfig) -> str:  # noqa: ARG002
        """Always the same."""
        return "digits"

    def read(self, config: DataConfig) -> Parts:  # noqa: ARG002
        """60 / 20 / 20 %, cut by content."""
        from sklearn.datasets import load_digits  # noqa: PLC0415 - two seconds that MNIST must not pay

        bunch = load_digits()
        counts = torch.from_numpy(bunch.images)[:, None]
        images_NCHW = (counts * (255 / DIGITS_WHITE)).round().to(torch.uint8)
        return Parts(*partition(Split(images_NCHW, torch.from_numpy(bunch.target)), (0.6, 0.2)))


SOURCES: Mapping[str, DatasetSource] = MappingProxyType(
    {"digits": Digits(), **PUBLISHED, "image_folder": ImageFolder()}
)
