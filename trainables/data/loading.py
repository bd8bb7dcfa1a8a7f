"""Loading of data sets, once per process and prepared once per machine.

Training, selection and preflight use `load_splits`. `load_test` is the only access to test images. Only the
final confirmation of chosen trials and the evaluation of finished runs may call it: do not select models by
test metrics.

Sets that do not come with a library are prepared in a cache: in `data.cache`, else in the folder of the
environment variable RAVEL_CACHE, else in ~/.cache/ravel.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.config.trial import DataConfig
from trainables.data import cache
from trainables.data.own import OwnData
from trainables.data.sources import DatasetSource, source_of
from trainables.data.splits import Parts, Split, Splits
from trainables.data.subsets import subset
from trainables.errors import ConfigError, Problem

__all__ = ["available", "cache_folder", "digest_of", "load_classes", "load_splits", "load_test", "shape_of"]

# Parameters that select a set, and those that select its images: trials that differ in other ones share the images.
SOURCE = ("name", "root", "download", "args", "image_size")
SELECTION = (*SOURCE, "fraction", "part")


def available(config: DataConfig) -> None:
    """Return if the data set can be read on this machine, without reading it.

    Raises:
        DatasetMissing: it cannot; the error names the remedy.
        DatasetDamaged: the files cannot be a data set.
        ConfigError: the cache cannot be written.
    """
    source = _required(config)
    if not source.embedded:
        cache.require_writable(cache_folder(config), source=_entry_name(config))


def shape_of(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """Return the image shape (C, H, W) and the number of classes, without reading the images if their names have them.

    For an image_folder, count the class folders and read the header of one image. A user's own set is prepared, if
    that has not been done.

    Raises:
        DatasetMissing, DatasetDamaged: an image_folder is missing or damaged.
        ConfigError: a user's own set breaks a requirement.

    >>> shape_of(DataConfig(name="mnist"))
    ((1, 28, 28), 10)
    """
    known = source_of(config.name).shape(config)
    if known is not None:
        return known
    parts = _load(config)
    channels, height, width = parts.train.images_NCHW.shape[1:]
    return (channels, height, width), len(parts.classes)


def load_splits(config: DataConfig) -> Splits:
    """Return the training and validation splits; of the training split, the configuration's part and fraction.

    Raises:
        DatasetMissing, ConfigError: as `available`; a part or fraction without images of a class.
        DatasetDamaged: a file is damaged; the error names it.
    """
    return Splits(_train(config), _load(config).val, num_classes=shape_of(config)[1])


def load_classes(config: DataConfig) -> tuple[str, ...]:
    """Return the names of the classes, in the order of their labels; none if the set has no names for them.

    Raises:
        DatasetMissing, DatasetDamaged, ConfigError: as `load_splits`.

    >>> load_classes(DataConfig(name="digits"))
    ()
    """
    return _load(config).classes


def load_test(config: DataConfig) -> Split:
    """Return the test split; the module's docstring says for which purposes.

    Raises:
        DatasetMissing, DatasetDamaged, ConfigError: as `load_splits`.
    """
    return _load(config).test


def digest_of(config: DataConfig) -> str:
    """Return a digest of the training and validation splits, 32 hexadecimal digits: equal for equal splits.

    Raises:
        DatasetMissing, DatasetDamaged, ConfigError: as `load_splits`.

    >>> digest_of(DataConfig(name="digits")) == digest_of(DataConfig(name="digits"))
    True
    """
    return _digest_once(_text(config, SELECTION), cache_folder(config))


def cache_folder(config: DataConfig) -> Path:
    """Return the folder of this machine's prepared sets.

    >>> cache_folder(DataConfig(cache="/scratch/ravel")).as_posix()
    '/scratch/ravel'
    """
    named = config.cache or os.environ.get("RAVEL_CACHE")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "ravel"


def _load(config: DataConfig) -> Parts:
    return _load_once(_text(config, SOURCE), cache_folder(config))


def _train(config: DataConfig) -> Split:
    if config.fraction == 1 and config.part is None:
        return _load(config).train
    return _subset_once(_text(config, SELECTION), cache_folder(config))


def _text(config: DataConfig, names: Iterable[str]) -> str:
    """Return some of the parameters as JSON, a key that keeps arguments 1 and true apart."""
    return config.model_dump_json(include=set(names))


def _entry_name(config: DataConfig) -> str:
    """Return the name of a set as that of a file."""
    return re.sub(r"[^\w.-]", "_", config.name)


def _required(config: DataConfig) -> DatasetSource:
    """Return the source, if it can be read with these settings."""
    source = source_of(config.name)
    if not isinstance(source, OwnData) and config.args.by_name:
        message = f"the set {config.name!r} takes no arguments; remove it, or name the set that takes it in data.name"
        raise ConfigError([Problem(f"data.args.{name}", message) for name in config.args.by_name])
    source.require(config)
    return source


@lru_cache(maxsize=2)
def _subset_once(selection: str, folder: Path) -> Split:
    config = _at(selection, folder)
    return subset(_load(config).train, fraction=config.fraction, part=config.part)


@lru_cache(maxsize=2)
def _digest_once(selection: str, folder: Path) -> str:
    digest, config = hashlib.blake2b(digest_size=16), _at(selection, folder)
    for split in (_train(config), _load(config).val):
        for tensor in (split.images_NCHW, split.labels_N):
            array = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _at(text: str, folder: Path) -> DataConfig:
    return DataConfig.model_validate_json(text).model_copy(update={"cache": str(folder)})


@lru_cache(maxsize=2)
def _load_once(source_text: str, folder: Path) -> Parts:
    config = _at(source_text, folder)
    source, entry = _required(config), _entry_name(config)
    if source.embedded:
        return source.read(config)
    if config.download:
        with cache.locked(folder / f"{entry}-download"):
            source.fetch(config)
    # A cache below data.root is no part of the set.
    files = {name: path for name, path in source.raw(config).items() if not path.absolute().is_relative_to(folder)}
    return cache.read(
        cache.prepared(
            folder,
            source=entry,
            fingerprint=cache.fingerprint(source.recipe(config), files),
            prepare=lambda: source.read(config),
        )
    )
