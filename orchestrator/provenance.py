"""Which code a sweep runs: git commit, whether it was changed, and the versions of the libraries that matter."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = ("ravel-sweeps", "torch", "ray", "optuna", "mlflow", "numpy")


class Provenance(BaseModel):
    """Code version of a sweep; ``git_commit`` is null outside a git checkout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    git_commit: str | None
    git_dirty: bool
    python: str
    libraries: dict[str, str]


def collect(folder: Path) -> Provenance:
    """The provenance of code run from ``folder``.

    Example:
        >>> import tempfile; from pathlib import Path
        >>> collect(Path(tempfile.mkdtemp())).git_commit is None
        True
    """
    return Provenance(
        git_commit=_git(folder, "rev-parse", "HEAD"),
        git_dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
        python=platform.python_version(),
        libraries={name: found for name in LIBRARIES if (found := _version(name))},
    )


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603  fixed words, no shell
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
