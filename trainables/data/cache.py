"""Cache of prepared data sets: memory-mapped arrays that all processes of a machine share.

An entry is a folder named for its source and the fingerprint of the raw files. It holds one .npy file
of images and one of labels for each split, and a manifest with their content hashes. It is written
to a temporary folder, flushed, and renamed under a lock, so an entry is never incomplete; every
hash is checked when a process opens it. Entries of raw files that have changed stay until you delete
their folder, which is safe whenever nothing runs.

    <cache>/mnist-<fingerprint>/manifest.json, train_images.npy, train_labels.npy, val_images.npy, ...
    <cache>/mnist-<fingerprint>.lock
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock

from trainables.config.values import Frozen
from trainables.data.splits import Parts, Split
from trainables.errors import ConfigError, Problem

__all__ = ["FORMAT", "CacheManifest", "fingerprint", "locked", "prepared", "read", "require_writable"]

logger = logging.getLogger(__name__)

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"


class CachedArray(Frozen):
    """File of an entry: the shape of its array, and the blake2b hash of its bytes."""

    shape: tuple[int, ...]
    blake2b: str


class CacheManifest(Frozen):
    """Content of an entry; `arrays` by file name. `classes` are the names of the labels, if the set names them."""

    format: Literal[1]
    source: str
    fingerprint: str
    arrays: Mapping[str, CachedArray]
    classes: tuple[str, ...] = ()


def fingerprint(recipe: str, files: Mapping[str, Path]) -> str:
    """Return the key of raw files, by their names within the set, for this recipe.

    It depends on names, sizes and modification times, not on contents: otherwise every process would read
    the raw files, maybe over a network, which the cache avoids. A file that changes has a new time. A copy
    with other times costs one more preparation, and never gives a wrong result.
    """
    lines = [f"format {FORMAT}", recipe]
    for name, path in sorted(files.items()):
        stat = path.stat()
        lines.append(f"{name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def prepared(folder: Path, *, source: str, fingerprint: str, prepare: Callable[[], Parts]) -> Path:
    """Return the intact entry of this source and fingerprint; call `prepare` to make a missing one.

    One process prepares, and all other processes wait for it. A damaged entry is logged and replaced.

    Raises:
        ConfigError: the folder cannot be written.
    """
    entry = folder / f"{source}-{fingerprint}"
    if _damage(entry) is None:
        return entry
    with locked(entry):
        damage = _damage(entry)  # another process may have made it under the lock
        if damage is None:
            return entry
        if entry.exists():
            logger.warning("%s: %s; preparing it from the raw files once more", entry, damage)
        parts = prepare()
        with _writing(folder):
            _replace(entry, parts, source=source, fingerprint=fingerprint)
    return entry


def read(entry: Path) -> Parts:
    """Map the splits of an intact entry into memory: pages are read at first use, and copied at first write.

    All processes of the machine share the pages. Writing to a tensor changes the copy of this process alone.
    """
    train, val, test = (Split(_mapped(entry / images), _mapped(entry / labels)) for images, labels in _files())
    manifest = CacheManifest.model_validate_json((entry / MANIFEST).read_bytes())
    return Parts(train, val, test, classes=manifest.classes)


def require_writable(folder: Path, *, source: str) -> None:
    """Return if the folder holds an entry of this source, or can hold one; the folder need not exist yet.

    Raises:
        ConfigError: it cannot.
    """
    if next(folder.glob(f"{source}-*/{MANIFEST}"), None) is not None:
        return
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"{nearest} is no folder that can be written")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file next to `path`; the system releases it when its holder dies.

    Raises:
        ConfigError: the folder of `path` cannot be written.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(folder, str(error)) from error


def _unwritable(folder: Path, reason: str) -> ConfigError:
    message = f"cannot write to {folder}: {reason}; name another folder here or in RAVEL_CACHE"
    return ConfigError([Problem("data.cache", message)])


def _files() -> tuple[tuple[str, str], ...]:
    return tuple((f"{part}_images.npy", f"{part}_labels.npy") for part in ("train", "val", "test"))


def _mapped(path: Path) -> torch.Tensor:
    # Copy on write, as a tensor cannot be read-only: a write then never reaches the file.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _damage(entry: Path) -> str | None:
    """Return the damage of an entry, or None if it is intact."""
    try:
        manifest = CacheManifest.model_validate_json((entry / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    if entry.name != f"{manifest.source}-{manifest.fingerprint}":
        return f"{MANIFEST} is that of {manifest.source}-{manifest.fingerprint}"
    if set(manifest.arrays) != {file for files in _files() for file in files}:
        return f"{MANIFEST} lists {', '.join(manifest.arrays) or 'no arrays'}"
    damages = (_array_damage(entry / file, array) for file, array in manifest.arrays.items())
    return next((damage for damage in damages if damage), None)


def _array_damage(path: Path, array: CachedArray) -> str | None:
    try:
        if _digest(path) != array.blake2b:
            return f"{path.name} is not what its hash in {MANIFEST} says"
        shape = np.load(path, mmap_mode="r").shape
    except (OSError, ValueError) as error:
        return f"{path.name} cannot be read: {error}"
    return None if shape == array.shape else f"{path.name} is {shape}, {MANIFEST} says {array.shape}"


def _replace(entry: Path, parts: Parts, *, source: str, fingerprint: str) -> None:
    """Write the entry to a temporary folder and rename it; under the caller's lock, leftovers of a crash are free."""
    unfinished = entry.with_name(f".{entry.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    arrays = {
        file: _write_array(unfinished / file, tensor)
        for files, split in zip(_files(), (parts.train, parts.val, parts.test), strict=True)
        for file, tensor in zip(files, (split.images_NCHW, split.labels_N), strict=True)
    }
    manifest = CacheManifest(
        format=FORMAT, source=source, fingerprint=fingerprint, arrays=arrays, classes=parts.classes
    )
    with (unfinished / MANIFEST).open("w") as file:
        file.write(manifest.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    _flush_folder(unfinished)
    shutil.rmtree(entry, ignore_errors=True)
    unfinished.rename(entry)
    _flush_folder(entry.parent)


def _write_array(path: Path, tensor: torch.Tensor) -> CachedArray:
    with path.open("wb") as file:
        np.save(file, tensor.numpy())
        file.flush()
        os.fsync(file.fileno())
    return CachedArray(shape=tuple(tensor.shape), blake2b=_digest(path))


def _flush_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename in it is durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
