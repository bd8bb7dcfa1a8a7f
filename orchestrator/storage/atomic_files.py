"""Atomic file creation and replacement on a file system, which may lack hard links."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

UNSUPPORTED = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of a file system that lacks an operation: exFAT, Google Drive, gcsfuse and other FUSE file systems."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: a reader gets the old content or the new, never a part.

    Raises:
        OSError: the path is a folder, a device, a pipe or a socket, which stays; or the file system refused.
    """
    _refuse_other_than_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        _write(temporary, content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_exclusively(path: Path, content: bytes, *, mode: int | None = None) -> bool:
    """Create a file that is on disk when this returns; return False if it exists.

    Args of note: ``mode`` are its permissions, by default those of the process's umask.

    With hard links the file appears with its content. On a file system without them it is created empty, by one
    process only, and filled: a reader must take an empty file for one that is being written.

    Raises:
        OSError: the file system refused; the file was not created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}.draft")  # processes of two machines may have the same number
    try:
        _write(draft, content)
        if mode is not None:
            draft.chmod(mode)
        is_created = _link(draft, path, content)
    finally:
        draft.unlink(missing_ok=True)
    flush_folder(path.parent)
    return is_created


def flush_folder(folder: Path) -> None:
    """Flush a folder: a new file is safe only when its folder is on disk too. Some file systems cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EINVAL}:
            raise
    finally:
        os.close(descriptor)


def _refuse_other_than_file(path: Path) -> None:
    """Refuse what a rename would destroy: to root, replacing ``/dev/null`` takes it from the whole machine."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder cannot be replaced by a file; add a name to it", str(path))
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise FileExistsError(errno.EEXIST, "a device, pipe or socket is not replaced; name a file", str(path))


def _link(draft: Path, path: Path, content: bytes) -> bool:
    """Give the draft its name, or create the file where links are unsupported; return False if the file exists."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return _create(path, content)
    return True


def _create(path: Path, content: bytes) -> bool:
    """Create a file if no process has (``O_EXCL``), and fill it; return False if one has."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.close(descriptor)
        _write(path, content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
