"""Loading, once per process and prepared once per machine.

`load_splits` is what training, selection and preflight use. `load_test` is the only access to test
images, and only the final confirmation of chosen trials and the evaluation of finished runs may call
it: whoever selects with it has spent it.

Sets that do not come with a library are prepared in a cache: in `data.cache`, else in the folder that
the environment variable RAVEL_CACHE names, else in ~/.cache/ravel.
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
        DatasetMissing: it cannot; the error says how to get it.
        DatasetDamaged: what is there cannot be a data set.
        ConfigError: the cache cannot be written.
    """
    source = SOURCES[config.name]
    source.require(config)
    if not source.embedded:
        cache.require_writable(cache_folder(config), source=config.name)


def shape_of(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """Image shape (C, H, W) and number of classes, without reading the images.

    They are known but for an image_folder, where folder names are counted and one image's header is read.

    Raises:
        DatasetMissing, DatasetDamaged: an image_folder is not there, or not as it should be.

    >>> shape_of(DataConfig(name="mnist"))
    ((1, 28, 28), 10)
    """
    return SOURCES[config.name].shape(config)


def load_splits(config: DataConfig) -> Splits:
    """The training and validation splits.

    Raises:
        DatasetMissing, ConfigError: as `available`.
        DatasetDamaged: a file is not what it should be; the error names it.
    """
    parts = _load(config)
    return Splits(parts.train, parts.val, num_classes=shape_of(config)[1])


def load_test(config: DataConfig) -> Split:
    """The test split; see above for who may call this.

    Raises:
        DatasetMissing, DatasetDamaged, ConfigError: as `load_splits`.
    """
    return _load(config).test


def digest_of(config: DataConfig) -> str:
    """A digest of the training and validation splits, 32 hexadecimal digits: equal images and cuts, equal digests.

    Raises:
        DatasetMissing, DatasetDamaged, ConfigError: as `load_splits`.

    >>> digest_of(DataConfig(name="digits")) == digest_of(DataConfig(name="digits"))
    True
    """
    return _digest_once(_source_of(config), cache_folder(config))


def cache_folder(config: DataConfig) -> Path:
    """Where this machine's prepared sets are.

    >>> cache_folder(DataConfig(cache="/scratch/ravel")).as_posix()
    '/scratch/ravel'
    """
    named = config.cache or os.environ.get("RAVEL_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "ravel"


def _load(config: DataConfig) -> Parts:
    return _load_once(_source_of(config), cache_folder(config))


def _source_of(config: DataConfig) -> DataConfig:
    """What decides which images there are: trials that differ in how these are varied share what is loaded."""
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
