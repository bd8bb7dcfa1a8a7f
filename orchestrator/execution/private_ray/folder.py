"""Folder of a private Ray: its sockets and logs, and who owns it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.storage.locations import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "ravel-ray-"
OWNER_FILE = "owner"
RAY_FOLDER = "r"
FOLDER_VARIABLE = "RAVEL_RAY_FOLDER"  # marks the processes of a private Ray
KEEPER_LOG = "keeper.log"
MAX_TEMPORARY_PATH = 22
KEPT_LOGS = 5


@contextmanager
def owned_folder() -> Iterator[Path]:
    """Make a folder that no other user can enter, and remove it at the end.

    Ray makes its own folder writable for everyone, so it lies inside this one. While this process lives, it holds
    a lock on a file of the folder: an unlocked one is a dead driver's.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    unnamed = folder / f".{OWNER_FILE}"
    try:
        with unnamed.open("wb") as owner:
            with suppress(OSError):  # without locks there, nothing is cleared there
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unnamed.rename(folder / OWNER_FILE)  # only now can another start look at it
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers() -> None:
    """Remove the folders of this user's dead drivers, and end what still runs in them."""
    for parent in {tempfile.gettempdir(), "/tmp"}:  # noqa: S108
        for folder in Path(parent).glob(f"{PREFIX}*"):
            with suppress(OSError):
                _clear(folder)


def keep_logs(folder: Path) -> Path | None:
    """Copy Ray's logs to the cache folder, which holds those of the last few failures; None if there are none."""
    kept = cache_folder() / "ray-logs"
    target = kept / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{folder.name.removeprefix(PREFIX)}"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copytree(logs_of(folder), target)
        with suppress(OSError):
            shutil.copy(folder / KEEPER_LOG, target)
    except OSError:
        return None
    for old in sorted(kept.iterdir())[:-KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def logs_of(folder: Path) -> Path:
    """Return the folder of Ray's logs."""
    return folder / RAY_FOLDER / "session_latest" / "logs"


def _parent() -> str | None:
    """Return None for the usual temporary folder, if the path of a socket in it stays below 107 characters."""
    return "/tmp" if len(tempfile.gettempdir()) > MAX_TEMPORARY_PATH else None  # noqa: S108


def _clear(folder: Path) -> None:
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return
    with (folder / OWNER_FILE).open("rb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its driver lives
        _end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_processes(folder: Path) -> None:
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415  comes with Ray

    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(FOLDER_VARIABLE) == str(folder):
            with suppress(psutil.Error):
                process.kill()
