"""Data sets by name, with their shapes, their files and their reader.

Every source returns uint8 pixels over the full range 0..255, so `images / 255` is in [0, 1] for all of
them and one epsilon means the same everywhere. A published test set is the test split; the published
training set is cut 5 to 1, by content, into training and validation.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch

from trainables.config.trial import DataConfig
from trainables.data.folders import ImageFolder
from trainables.data.own import OwnData
from trainables.data.published import PUBLISHED
from trainables.data.splits import Parts, Split, partition
from trainables.errors import DatasetMissing

__all__ = ["SOURCES", "DatasetSource", "Digits", "source_of"]

DIGITS_FILE = Path("data", "digits.csv.gz")
DIGITS_WHITE = 16


class DatasetSource(Protocol):
    """Data set; the configuration names its folder."""

    @property
    def embedded(self) -> bool:
        """True if it comes with a library: it has no raw files, and needs no preparation."""

    def shape(self, config: DataConfig) -> tuple[tuple[int, int, int], int] | None:
        """Return (C, H, W) and the number of classes, without reading the images; None if only these have them."""

    def require(self, config: DataConfig) -> None:
        """Raise DatasetMissing or DatasetDamaged, with a remedy, unless `fetch` and `read` can be tried."""

    def fetch(self, config: DataConfig) -> None:
        """Download missing files, if the configuration permits it."""

    def raw(self, config: DataConfig) -> Mapping[str, Path]:
        """Return the files that `read` reads, by their names within the set."""

    def recipe(self, config: DataConfig) -> str:
        """Return everything else that decides on the pixels: equal files and recipes give equal splits."""

    def read(self, config: DataConfig) -> Parts:
        """Return the training, validation and test splits."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Set of 1,797 handwritten digits that scikit-learn includes (UCI optdigits test set), 8 by 8 pixels.

    Its pixels count 0..16; they are stretched to 0..255 by rounding 255/16 times the count. The 17
    levels stay distinct and move by at most half a level of 255.
    """

    embedded: bool = True

    def shape(self, config: DataConfig) -> tuple[tuple[int, int, int], int]:  # noqa: ARG002 - there is one copy only
        """Return the fixed shape."""
        return (1, 8, 8), 10

    def require(self, config: DataConfig) -> None:  # noqa: ARG002
        """Require scikit-learn."""
        if find_spec("sklearn") is None:
            raise DatasetMissing("digits", "install scikit-learn: pip install 'ravel-sweeps[train]'")

    def fetch(self, config: DataConfig) -> None:
        """Do nothing: the images come with scikit-learn."""

    def raw(self, config: DataConfig) -> Mapping[str, Path]:  # noqa: ARG002
        """Return no files: the images come with scikit-learn."""
        return {}

    def recipe(self, config: DataConfig) -> str:  # noqa: ARG002
        """Return a fixed text."""
        return "digits"

    def read(self, config: DataConfig) -> Parts:
        """Cut 60 / 20 / 20 % by content."""
        self.require(config)
        counts, labels_N = _digits()
        images_NCHW = (counts[:, None] * (255 / DIGITS_WHITE)).round().to(torch.uint8)
        train, val, test = partition(Split(images_NCHW, labels_N), (0.6, 0.2))
        return Parts(train, val, test)


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the counts (N, 8, 8) and labels of scikit-learn's digits.

    The import of scikit-learn takes each process a second, so its file is read without it where it is found: lines of
    64 counts and a label.
    """
    package = find_spec("sklearn")
    folder = None if package is None or package.origin is None else Path(package.origin).with_name("datasets")
    path = None if folder is None else folder / DIGITS_FILE
    if path is None or not path.is_file():
        from sklearn.datasets import load_digits  # noqa: PLC0415 - see above

        bunch = load_digits()
        return torch.from_numpy(bunch.images), torch.from_numpy(bunch.target)
    with gzip.open(path, "rt") as file:
        rows = torch.from_numpy(np.loadtxt(file, delimiter=","))
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].to(torch.int64)


SOURCES: Mapping[str, DatasetSource] = MappingProxyType(
    {
        "digits": Digits(),
        **PUBLISHED,
        "image_folder": ImageFolder(),
        "arrays": OwnData(),
        "huggingface": OwnData(),
    }
)


def source_of(name: str) -> DatasetSource:
    """Return the source of a known name, of an import path, or of a name that a package registers.

    >>> source_of("digits").embedded, source_of("torchvision:USPS").embedded
    (True, False)
    """
    return SOURCES.get(name, OwnData())
