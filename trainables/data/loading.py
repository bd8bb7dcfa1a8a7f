"""Loading of data sets, once per process and prepared once per machine.

Training, selection and preflight use `load_splits`. `load_test` is the only access to test images. Only the
final confirmation of chosen trials and the evaluation of finished runs may call it: do not select models by
test metrics.

Sets that do not come with a library are prepared in a cache: in `data.cache`, else in the folder of the
environment variable RAVEL_CACHE, else in ~/.cache/ravel.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainables.config.trial import DataConfig
from trainables.data import cache
from trainables.data.sources import SOURCES
from trainables.data.splits import Parts, Split, Splits

__all__ = ["available", "cache_folder", "digest_of", "load_splits", "load_test", "shape_of"]


def available(config: DataConfig) -> None:
    """Return if the data set can be read on this machine, without reading it.

    Raises:
        DatasetMissing: it cannot; the error names the remedy.
        DatasetDamaged: the files cannot be a data set.
        ConfigError: the cache cannot be written.
    """
    source = SOURCES[config.name]
    source.require(config)
    if not source.embedded:
        cache.require_writable(cache_folder(config), source=config.name)


def shape_of(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """Return the image shape (C, H, W) and the number of classes, without reading the images.

    For an image_folder, count the class folders and read the header of one image.

    Raises:
        DatasetMissing, DatasetDamaged: an image_folder is missing or damaged.

    >>> shape_of(DataConfig(name="mnist"))
    ((1, 28, 28), 10)
    """
    return SOURCES[config.name].shape(config)


def load_splits(config: DataConfig) -> Splits:
    """Return the training and validation splits.

    Raises:
        DatasetMissing, ConfigError: as `available`.
        DatasetDamaged: a file is damaged; the error names it.
    """
    parts = _load(config)
    return Splits(parts.train, parts.val, num_classes=shape_of(config)[1])


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
    return _digest_once(_source_of(config), cache_folder(config))


def cache_folder(config: DataConfig) -> Path:
    """Return the folder of this machine's prepared sets.

    >>> cache_folder(DataConfig(cache="/scratch/ravel")).as_posix()
    '/scratch/ravel'
    """
    named = config.cache or os.environ.get("RAVEL_CACHE")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "ravel"


def _load(config: DataConfig) -> Parts:
    return _load_once(_source_of(config), cache_folder(config))


def _source_of(config: DataConfig) -> DataConfig:
    """Return the parameters that select images; trials that differ only in augmentation share the loaded splits."""
    return DataConfig(**config.model_dump(include={"name", "root", "download", "image_size"}))


@lru_cache(maxsize=2)
def _digest_once(config: DataConfig, folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    parts = _load_once(config, folder)
    for split in (parts.train, parts.val):
        for tensor in (split.images_NCHW, split.labels_N):
            array = np.ascontiguousarray(tensor.numpy())
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(array.data)
    return digest.hexdigest()


@lru_cache(maxsize=2)
def _load_once(config: DataConfig, folder: Path) -> Parts:
    source = SOURCES[config.name]
    source.require(config)
    if source.embedded:
        return source.read(config)
    if config.download:
        with cache.locked(folder / f"{config.name}-download"):
            source.fetch(config)
    return cache.read(
        cache.prepared(
            folder,
            source=config.name,
            fingerprint=cache.fingerprint(source.recipe(config), source.raw(config)),
            prepare=lambda: source.read(config),
        )
    )
