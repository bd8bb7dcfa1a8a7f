"""Arrays of images and labels in one .npz file, as `numpy.savez` writes it.

The file has `images` (or `x`) and `labels` (or `y`), for one set that is cut by content; or these names with `_train`
and `_test`, and maybe `_val`, at their end (or `train_`, ... in front).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trainables.errors import ConfigError, DatasetDamaged, Problem, shortened

__all__ = ["Pairs", "arrays", "npz_file"]

IMAGES, LABELS = ("images", "x"), ("labels", "y")
NAMES = "images and labels (or x and y), or these with _train, _val and _test"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Map-style set of rows of two arrays."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.images[index], self.labels[index]


def arrays(root: str, images: str | None = None, labels: str | None = None) -> Pairs | dict[str, Pairs]:
    """Read the set of a file, or of a folder with one; `images` and `labels` are other names of the arrays.

    Raises:
        ConfigError: no such arrays, or arrays that are no pairs.
        DatasetDamaged: the file cannot be read.
    """
    path = npz_file(Path(root))
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return _parts(file, path, IMAGES if images is None else (images,), LABELS if labels is None else (labels,))
    except (OSError, EOFError, ValueError, BadZipFile, AttributeError) as error:
        reason = f"{path.name} cannot be read as .npz ({shortened(str(error))})"
        raise DatasetDamaged("arrays", reason, "write numbers and text with numpy.savez, no objects") from error


def npz_file(root: Path) -> Path:
    """Return the file: `root` itself, or the only .npz file in that folder.

    Raises:
        ConfigError: the folder has none, or several.
    """
    if not root.is_dir():
        return root
    files = sorted(root.glob("*.npz"))
    if len(files) == 1:
        return files[0]
    names = shortened(", ".join(file.name for file in files)) or "none"
    raise ConfigError([Problem("data.root", f"{root} must hold one .npz file, got {names}; name the file itself")])


def _parts(
    file: Mapping[str, np.ndarray], path: Path, images: tuple[str, ...], labels: tuple[str, ...]
) -> Pairs | dict[str, Pairs]:
    parts = {}
    for part in ("", "train", "val", "test"):
        names = [_present(file, keys, part) for keys in (images, labels)]
        if None not in names:
            parts[part] = _pairs(file, path, str(names[0]), str(names[1]))
    if "" in parts:
        return parts[""]
    if {"train", "test"} <= parts.keys():
        return parts
    present = shortened(", ".join(file) or "none")
    message = (
        f"{path} must hold {NAMES}, got {present}; rename or add them, or name them in data.args.images and .labels"
    )
    raise ConfigError([Problem("data.root", message)])


def _present(file: Mapping[str, np.ndarray], keys: tuple[str, ...], part: str) -> str | None:
    names = [name for key in keys for name in ([f"{key}_{part}", f"{part}_{key}"] if part else [key])]
    return next((name for name in names if name in file), None)


def _pairs(file: Mapping[str, np.ndarray], path: Path, images: str, labels: str) -> Pairs:
    pair = Pairs(file[images], file[labels])
    if not pair.images.ndim or not pair.labels.ndim or len(pair.images) != len(pair.labels):
        sizes = " and ".join(f"{name} {array.shape}" for name, array in ((images, pair.images), (labels, pair.labels)))
        message = f"{path}: arrays must have one label for each image, got {sizes}; write them once more"
        raise ConfigError([Problem("data.root", message)])
    return pair
