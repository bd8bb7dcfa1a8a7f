"""Provenance of a sweep's code: git commit, changes since, and installed packages."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = ("ravel-sweeps", "torch", "ray", "optuna", "mlflow", "numpy")
DIFF = ("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "--full-index")
"""The diff without the user's own settings for it."""


class Provenance(BaseModel):
    """Code version of a sweep; ``git_commit`` is null outside a git checkout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    git_commit: str | None
    git_dirty: bool
    git_diff: str | None = None
    """SHA-256 of the changes to tracked files, binary ones too: two sweeps of one commit and one digest ran the same
    tracked files. Untracked files are not in it. Null where nothing was changed, and in plans older than this field."""
    python: str
    libraries: dict[str, str]


def collect(folder: Path) -> Provenance:
    """Return the provenance of code that runs from ``folder``.

    Example:
        >>> import tempfile; from pathlib import Path
        >>> collect(Path(tempfile.mkdtemp())).git_commit is None
        True
    """
    changes = _git(folder, *DIFF)
    return Provenance(
        git_commit=_git(folder, "rev-parse", "HEAD"),
        git_dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
        git_diff=hashlib.sha256(changes.encode()).hexdigest() if changes else None,
        python=platform.python_version(),
        libraries={name: number for name in LIBRARIES if (number := _version(name))},
    )


@functools.cache
def installed() -> str:
    """Return every installed package and its version as lines of a requirements file."""
    packages = {(package.name or "", package.version) for package in distributions()}
    return "".join(f"{name}=={number}\n" for name, number in sorted(packages, key=lambda pair: pair[0].lower()) if name)


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, errors="replace", check=True)  # noqa: S603  fixed words, no shell
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
