"""Published data sets, read by torchvision's classes from the files of their authors.

>>> PUBLISHED["cifar100"].image_shape, PUBLISHED["cifar100"].num_classes
((3, 32, 32), 100)
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from trainables._torchvision import import_torchvision
from trainables.config.trial import DataConfig
from trainables.data.splits import Parts, Split, cut
from trainables.errors import DatasetDamaged, DatasetMissing

__all__ = ["PUBLISHED", "Published"]

# Errors that torchvision and its parsers raise on damaged files.
UNREADABLE = (RuntimeError, ValueError, AssertionError, TypeError, LookupError, EOFError, OSError, UnpicklingError)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """File format that several sets share, as torchvision's classes read it.

    `arguments` select the training or the test set, `split` converts the data set, and `damage` returns which
    file of a folder is damaged, or None if that is unknown.
    """

    arguments: Callable[[bool], Mapping[str, Any]]
    split: Callable[[Any], Split]
    damage: Callable[[Any, Path], str | None]


@dataclass(frozen=True, slots=True)
class Published:
    """Published set: torchvision's class, the folder below `data.root` that it reads, and the files in it."""

    name: str
    torchvision: str
    folder: str
    files: tuple[str, ...]
    file_format: FileFormat
    image_shape: tuple[int, int, int]
    num_classes: int
    embedded: bool = False

    def shape(self, config: DataConfig) -> tuple[tuple[int, int, int], int]:  # noqa: ARG002 - as published
        """Return the shape as published."""
        return self.image_shape, self.num_classes

    def require(self, config: DataConfig) -> None:
        """Require every file in its folder, unless the configuration permits a download."""
        if config.root is None:
            where = f"the folder that holds {self.folder}" if self.folder else f"that of {self.files[0]}"
            raise DatasetMissing(self.name, f"set data.root to {where}")
        missing = self._missing(config)
        if missing and not config.download:
            raise DatasetMissing(
                self.name, f"{self._folder(config)} lacks {', '.join(missing)}; {self._remedy(config)}"
            )

    def fetch(self, config: DataConfig) -> None:
        """Download with torchvision, which checks the files.

        Raises:
            DatasetMissing: the download failed.
        """
        if not config.download or not self._missing(config):
            return
        try:
            for train in (True, False):
                self._torchvision_class()(config.root, **self.file_format.arguments(train), download=True)
        except UNREADABLE as error:
            raise DatasetMissing(self.name, f"its download into {config.root} failed: {error}") from error

    def raw(self, config: DataConfig) -> Mapping[str, Path]:
        """Return the published files."""
        return {file: self._folder(config) / file for file in self.files}

    def recipe(self, config: DataConfig) -> str:  # noqa: ARG002
        """Return the name alone, as nothing but the files decides on the pixels."""
        return self.name

    def read(self, config: DataConfig) -> Parts:
        """Read the published training set, cut in two, and the published test set.

        Raises:
            DatasetDamaged: a file differs from the published one.
        """
        return cut(self._split(config, train=True), self._split(config, train=False))

    def _split(self, config: DataConfig, *, train: bool) -> Split:
        kind = self._torchvision_class()
        try:
            split = self.file_format.split(kind(config.root, **self.file_format.arguments(train), download=False))
            self._check(split)
        except UNREADABLE as error:
            folder = self._folder(config)
            reason = (
                self.file_format.damage(kind, folder) or f"{folder} cannot be read ({type(error).__name__}: {error})"
            )
            raise DatasetDamaged(self.name, reason, f"delete these files and {self._remedy(config)}") from error
        return split

    def _check(self, split: Split) -> None:
        if split.images_NCHW.shape[1:] != self.image_shape:
            raise ValueError(f"images are {tuple(split.images_NCHW.shape[1:])}, not {self.image_shape}")
        if not 0 <= split.labels_N.min() <= split.labels_N.max() < self.num_classes:
            raise ValueError(f"a label is outside 0..{self.num_classes - 1}")

    def _torchvision_class(self) -> Any:
        return getattr(import_torchvision("torchvision.datasets"), self.torchvision)

    def _folder(self, config: DataConfig) -> Path:
        return Path(str(config.root)) / self.folder

    def _missing(self, config: DataConfig) -> list[str]:
        return [file for file, path in self.raw(config).items() if not path.is_file()]

    def _remedy(self, config: DataConfig) -> str:
        folder = self._folder(config)
        packed = [f"{file}.gz" for file in self._missing(config) if (folder / f"{file}.gz").is_file()]
        if packed:
            return f"unpack {', '.join(packed)} in {folder}"
        return f"fetch it with data.download: true (torchvision.datasets.{self.torchvision} with download=True)"


def _by_flag(train: bool) -> Mapping[str, Any]:  # noqa: FBT001 - the value of torchvision's own flag
    return {"train": train}


def _by_name(train: bool) -> Mapping[str, Any]:  # noqa: FBT001
    return {"split": "train" if train else "test"}


def _mnist_split(data: Any) -> Split:
    # torchvision below 0.9 left converted copies, which newer versions read in place of the raw files.
    if any(Path(data.processed_folder).glob("*.pt")):
        raise ValueError(f"torchvision reads the old copies in {data.processed_folder} instead: delete these")
    return Split(data.data[:, None], data.targets)


def _cifar_split(data: Any) -> Split:
    images_NHWC = torch.from_numpy(data.data)
    return Split(images_NHWC.permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets))


def _svhn_split(data: Any) -> Split:
    return Split(torch.from_numpy(np.ascontiguousarray(data.data)), torch.from_numpy(data.labels))


def _idx_damage(_: Any, folder: Path) -> str | None:
    """Return the file whose length contradicts its header: torchvision has checksums for the packed files only."""
    return next((f"{folder / file} {reason}" for file in IDX_FILES if (reason := _idx_reason(folder / file))), None)


def _idx_reason(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(16)
    dimensions = 3 if "idx3" in path.name else 1
    start = 4 + 4 * dimensions
    if len(head) < start or head[:4] != bytes((0, 0, IDX_UINT8, dimensions)):
        return f"does not begin like idx{dimensions}-ubyte data"
    expected = start + math.prod(struct.unpack(f">{dimensions}I", head[4:start]))
    size = path.stat().st_size
    return None if size == expected else f"has {size} bytes, its header says {expected}"


def _cifar_damage(kind: Any, folder: Path) -> str | None:
    checksums = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return _checksum_damage((folder / file, md5) for file, md5 in checksums)


def _svhn_damage(kind: Any, folder: Path) -> str | None:
    return _checksum_damage(
        (folder / file, md5) for _, file, md5 in (kind.split_list["train"], kind.split_list["test"])
    )


def _checksum_damage(checksums: Iterable[tuple[Path, str]]) -> str | None:
    intact = import_torchvision("torchvision.datasets.utils").check_integrity
    return next(
        (f"{path} has not the published checksum {md5}" for path, md5 in checksums if not intact(path, md5)), None
    )


IDX_UINT8 = 8
IDX_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
CIFAR10_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")

IDX = FileFormat(arguments=_by_flag, split=_mnist_split, damage=_idx_damage)
CIFAR = FileFormat(arguments=_by_flag, split=_cifar_split, damage=_cifar_damage)
MAT = FileFormat(arguments=_by_name, split=_svhn_split, damage=_svhn_damage)

GREY, COLOUR = (1, 28, 28), (3, 32, 32)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Published("mnist", "MNIST", "MNIST/raw", IDX_FILES, IDX, GREY, 10),
            Published("fashion_mnist", "FashionMNIST", "FashionMNIST/raw", IDX_FILES, IDX, GREY, 10),
            Published("kmnist", "KMNIST", "KMNIST/raw", IDX_FILES, IDX, GREY, 10),
            Published("cifar10", "CIFAR10", "cifar-10-batches-py", CIFAR10_FILES, CIFAR, COLOUR, 10),
            Published("cifar100", "CIFAR100", "cifar-100-python", ("train", "test", "meta"), CIFAR, COLOUR, 100),
            Published("svhn", "SVHN", "", ("train_32x32.mat", "test_32x32.mat"), MAT, COLOUR, 10),
        )
    }
)
