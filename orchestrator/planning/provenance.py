"""Provenance of a sweep's code: git commit, changes since, and installed packages."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from trainables.import_paths import code_digest, find_in, is_import_path
from trainables.tasks.lightning.config import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SweepSpec

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
    code: dict[str, str] = {}
    """SHA-256 of the user's own modules in the folder of the launch, by path; empty where a sweep uses none."""


def collect(folder: Path, *, spec: SweepSpec | None = None) -> Provenance:
    """Return the provenance of code that runs from ``folder``, and of the user's own modules that a spec names.

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
        code=code_digest(folder) if spec is not None and uses_own_code(spec) else {},
    )


def uses_own_code(spec: SweepSpec) -> bool:
    """Return True if a trial of the spec, its sampler or its scheduler may be a user's own module."""
    return any(is_import_path(name) for name in (*names_of(spec), spec.search.sampler, spec.scheduler.name))


def names_of(spec: SweepSpec) -> Iterator[str]:
    """Yield every text that a trial of a spec may have as a value; of a LightningModule its path."""
    searched = (option for domain in spec.space.parameters.values() for option in getattr(domain, "options", ()))
    yield from (value.removeprefix(PREFIX) for value in (*spec.trial.values(), *searched) if isinstance(value, str))


def code_folder(launched_from: str | Path) -> Path:
    """Return the folder in which the modules of a sweep are looked up: that of the launch, while it exists here."""
    return Path(launched_from) if Path(launched_from).is_dir() else Path.cwd()


def find_code(launched_from: str | Path) -> Path:
    """Have a user's own modules be found in the folder for a sweep launched there, and return it."""
    folder = code_folder(launched_from)
    find_in(folder)
    return folder


def find_own_code(spec: SweepSpec, launched_from: str | Path) -> bool:
    """Have a user's own modules be found, if the spec names any; return True if it does."""
    is_own = uses_own_code(spec)
    if is_own:
        find_code(launched_from)
    return is_own


def changed_code(launched: Provenance, folder: Path) -> list[str]:
    """Return the user's own modules, already imported, whose files are no longer those of the launch."""
    before = launched.code
    now = code_digest(folder) if before else {}
    return sorted(name for name, digest in before.items() if name in now and now[name] != digest)


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
