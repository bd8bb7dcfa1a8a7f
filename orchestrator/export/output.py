"""Place of an export: a file or a folder that appears whole, and replaces nothing without ``--force``.

A folder is written next to its place under a hidden name, and then renamed. It has ``export.json``, which says what it
is; a folder without one was written by other hands, and is never replaced.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.storage.atomic_files import write_atomically
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "export.json"
FORMAT = 1
DISTRIBUTION = "ravel-sweeps"


@dataclass(frozen=True)
class Output:
    """Place that an export will have, already checked; ``kind`` and ``sweep`` are noted in a folder."""

    path: Path
    kind: str
    sweep: str

    def mark(self) -> str:
        """Return the content of ``export.json``."""
        return json.dumps(
            {"format": FORMAT, "export": self.kind, "sweep": self.sweep, "ravel": version(DISTRIBUTION)}, indent=1
        )

    def write_file(self, content: bytes) -> Path:
        """Write the export as one file, in one step."""
        write_atomically(self.path, content)
        return self.path

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a new folder to fill; at the end of the block it takes its place, after an error it is removed."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.mkdir(parents=True)
        try:
            yield draft
            (draft / MARK).write_text(self.mark() + "\n")
            _put(draft, self.path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def checked(path: Path, *, kind: str, sweep: str, is_folder: bool, force: bool) -> Output:
    """Return the place of an export, if it can be written.

    Raises:
        SpecError: it exists and ``force`` is not set, or it is no earlier export.
        OrchestratorError: it cannot be written.
    """
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  a link stays, to be replaced itself
    if os.path.lexists(path):
        _refuse_to_replace(path, is_folder=is_folder, force=force)
    parent = next(folder for folder in path.parents if os.path.lexists(folder))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OrchestratorError(f"{parent}: must be a folder that this user can write; name another place with --out")
    return Output(path, kind, sweep)


def _refuse_to_replace(path: Path, *, is_folder: bool, force: bool) -> None:
    if not is_folder and path.is_dir():
        raise SpecError([Problem("--out", f"must be the name of a file, got the folder {path}; add a name to it")])
    if is_folder and not (path / MARK).is_file():
        what = "a folder that holds no export" if path.is_dir() else "a file"
        raise SpecError(
            [Problem("--out", f"must be a new folder or an earlier export, got {what}: {path}; name another")]
        )
    if not force:
        raise SpecError([Problem("--out", f"{path} exists; name another place, or replace it with --force")])


def _put(draft: Path, place: Path) -> None:
    """Give a folder its place; an earlier one stands aside until then, and is put back if that fails."""
    if not place.exists():
        draft.rename(place)
        return
    aside = place.with_name(f".{place.name}.{os.getpid()}.old")
    place.rename(aside)
    try:
        draft.rename(place)
    except OSError:
        aside.rename(place)
        raise
    if aside.is_symlink():
        aside.unlink()  # what it points to is left alone
    else:
        shutil.rmtree(aside)
