"""Data sets of libraries, by name: `torchvision:STL10`, and Hugging Face's `datasets` on the disk."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trainables._torchvision import import_torchvision
from trainables.errors import ConfigError, DatasetMissing, Problem, suggestion

__all__ = ["TORCHVISION", "TORCHVISION_SPLITS", "Columns", "huggingface", "torchvision_class"]

TORCHVISION = "torchvision:"
# The values of `split` that are the training, maybe the validation, and the test images. A set that is published
# without test labels is tested on its validation images, as its users do. Sets with a flag `train` need no line.
TORCHVISION_SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("FER2013", "Food101", "GTSRB", "STL10", "SVHN", "StanfordCars"), ("train", "test")),
        **dict.fromkeys(
            ("CLEVRClassification", "DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"),
            ("train", "val", "test"),
        ),
        **dict.fromkeys(("ImageNet", "Imagenette"), ("train", "val")),
        "Country211": ("train", "valid", "test"),
        "OxfordIIITPet": ("trainval", "test"),
        "Places365": ("train-standard", "val"),
    }
)


def torchvision_class(name: str) -> Any:
    """Return the class of torchvision's data sets that `torchvision:NAME` names.

    Raises:
        ConfigError: there is none.

    >>> torchvision_class("torchvision:STL1O")
    Traceback (most recent call last):
    trainables.errors.ConfigError: data.name: torchvision has no data set 'STL1O'; did you mean 'STL10'?
    """
    module, wanted = import_torchvision("torchvision.datasets"), name.removeprefix(TORCHVISION)
    kinds = {known: getattr(module, known) for known in module.__all__}
    sets = {known for known, kind in kinds.items() if isinstance(kind, type) and known != "VisionDataset"}
    if wanted not in sets:
        raise ConfigError([Problem("data.name", f"torchvision has no data set {wanted!r}; {suggestion(wanted, sets)}")])
    return kinds[wanted]


@dataclass(frozen=True, slots=True)
class Columns:
    """Map-style set of two columns of a Hugging Face data set."""

    table: Any
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self.table[index]
        return row[self.image], row[self.label]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels, if the table has them."""
        return tuple(getattr(self.table.features[self.label], "names", None) or ())


def huggingface(
    root: str,
    *,
    image: str = "image",
    label: str = "label",
    train: str = "train",
    val: str | None = None,
    test: str = "test",
) -> Columns | dict[str, Columns]:
    """Read what `save_to_disk` wrote; the arguments are the names of the columns and of the splits.

    Raises:
        DatasetMissing: the library is not installed.
        ConfigError: no such column or split.
    """
    if find_spec("datasets") is None:
        raise DatasetMissing("huggingface", "pip install datasets")
    library = importlib.import_module("datasets")
    whole = library.load_from_disk(str(Path(root)))
    if not isinstance(whole, dict):
        return _columns(whole, image, label)
    if val is None and "validation" in whole and test != "validation":
        val = "validation"
    names = {"train": train, **({} if val is None else {"val": val}), "test": test}
    for part, name in names.items():
        if name not in whole:
            message = f"{root} has no split {name!r}; {suggestion(name, whole)}"
            raise ConfigError([Problem(f"data.args.{part}", message)])
    return {part: _columns(whole[name], image, label) for part, name in names.items()}


def _columns(table: Any, image: str, label: str) -> Columns:
    for argument, name in (("image", image), ("label", label)):
        if name not in table.column_names:
            message = f"the data set has no column {name!r}; {suggestion(name, table.column_names)}"
            raise ConfigError([Problem(f"data.args.{argument}", message)])
    return Columns(table, image, label)
