"""Python, Ravel, and the libraries of its extras, read from the metadata of the installed packages alone."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.doctor.finding import Finding, fail, ok, skipped, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DISTRIBUTION = "ravel-sweeps"
OLDEST_PYTHON = (3, 11)
PURPOSES = {
    "train": "train and evaluate trials",
    "optuna": "the samplers of Optuna, such as the default tpe",
    "tune": "ravel launch and ravel resume",
    "track": "MLflow: runs, ravel ui, ravel register",
    "s3": "sweeps and data in S3",
    "postgres": "tracking in PostgreSQL",
    "evaluate": "figures of ravel evaluate",
    "export": "ravel export of parquet and of models",
    "server": "ravel serve for a team",
    "tensorboard": "ravel export tensorboard",
    "wandb": "ravel export wandb-offline",
    "lightning": "task: lightning:...",
}
"""Each extra, and what it is for."""
NOT_IN_ALL = frozenset({"lightning", "tensorboard", "wandb"})
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,.-]+\])?\s*\(?(?P<range>[^;)]*)\)?\s*(?:;(?P<marker>.*))?")
EXTRA = re.compile(r"extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


class Requirement(NamedTuple):
    """A library that an extra installs, with the range of its versions (``<3,>=2.13``)."""

    name: str
    range: str
    extra: str


def python_finding(version: tuple[int, ...] = sys.version_info[:3], *, executable: str = sys.executable) -> Finding:
    """Return the finding on this Python.

    >>> print(python_finding((3, 10, 1), executable="/usr/bin/python3"))
    FAIL python: 3.10.1 (/usr/bin/python3); install Python 3.11 or newer, and ravel-sweeps for it
    """
    text = f"{'.'.join(map(str, version))} ({executable})"
    if version[:2] < OLDEST_PYTHON:
        return fail("python", text, "install Python 3.11 or newer, and ravel-sweeps for it")
    return ok("python", text)


def package_findings() -> Iterator[Finding]:
    """Yield the findings on this Python, on Ravel and on each extra."""
    yield python_finding()
    try:
        number = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield fail(DISTRIBUTION, "runs from a folder that is not installed", f"pip install '{DISTRIBUTION}[all]'")
        return
    yield ok(DISTRIBUTION, f"{number} ({Path(__file__).parents[2]})")
    yield from extra_findings(requirements(metadata.requires(DISTRIBUTION) or ()), installed)


def installed(name: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements(lines: Iterable[str]) -> list[Requirement]:
    """Return the requirements of all extras; those for another system, and of Ravel's own extras, are left out.

    >>> requirements(["pydantic<3,>=2.12", "torch<3,>=2.13; extra == 'train'", "ravel-sweeps[s3]; extra == 'all'"])
    [Requirement(name='torch', range='<3,>=2.13', extra='train')]
    """
    kept = []
    for line in lines:
        match = REQUIREMENT.match(line)
        extra = EXTRA.search(match["marker"] or "") if match else None
        is_elsewhere = platform.system() == "Windows" and "win32" in line
        if match and extra and match["name"] != DISTRIBUTION and not is_elsewhere:
            kept.append(Requirement(match["name"], match["range"].strip(), extra["extra"]))
    return kept


def extra_findings(wanted: Iterable[Requirement], version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Yield one finding for each extra.

    Args:
        wanted: what the extras install.
        version_of: returns the installed version of a distribution, or None.

    Example:
        >>> wanted = [Requirement("boto3", "<2,>=1.40", "s3")]
        >>> print(*extra_findings(wanted, lambda name: None))
        warn extra s3: boto3 is not installed, so not: sweeps and data in S3; pip install 'ravel-sweeps[s3]'
        >>> print(*extra_findings(wanted, lambda name: "1.44"))
        ok extra s3: boto3 1.44
    """
    extras: dict[str, list[Requirement]] = {}
    for requirement in wanted:
        extras.setdefault(requirement.extra, []).append(requirement)
    for extra, libraries in extras.items():
        yield _extra_finding(extra, libraries, {library.name: version_of(library.name) for library in libraries})


def _extra_finding(extra: str, libraries: list[Requirement], versions: Mapping[str, str | None]) -> Finding:
    name, fix = f"extra {extra}", f"pip install '{DISTRIBUTION}[{extra}]'"
    missing = [library for library, version in versions.items() if version is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        text = f"{', '.join(missing)} {are} not installed, so not: {PURPOSES.get(extra, extra)}"
        return skipped(name, f"{text}; {fix}") if extra in NOT_IN_ALL else warn(name, text, fix)
    wrong = [
        f"{library.name} must be {library.range}, got {versions[library.name]}"
        for library in libraries
        if is_outside(versions[library.name] or "", library.range)
    ]
    if wrong:
        return fail(name, ", ".join(wrong), f"{fix} --upgrade")
    return ok(name, ", ".join(f"{library} {version}" for library, version in versions.items()))


def is_outside(version: str, allowed: str) -> bool:
    """Return True if a version is outside a range; False if that is not known.

    >>> is_outside("2.12.0", "<3,>=2.13"), is_outside("2.13.0+cpu", "<3,>=2.13"), is_outside("nonsense", ">=1")
    (True, False, False)
    """
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415  comes with every large library
        from packaging.version import InvalidVersion, Version  # noqa: PLC0415
    except ImportError:
        return False
    try:
        return not SpecifierSet(allowed).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False
