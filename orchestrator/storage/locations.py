"""Locations of files: a folder, or ``s3://bucket/prefix``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from orchestrator.errors import MAX_VALUE_LENGTH, WrongLocation, cut, quoted

__all__ = ["SCHEME", "Location", "expanded", "is_remote", "variable_problem"]

SCHEME = "s3://"
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
FORBIDDEN = re.compile(r"[?#\\\x00-\x1f\x7f]")
GRAMMAR = f"write {SCHEME}BUCKET/PREFIX"
VARIABLE = re.compile(r"\$(\w+|\{[^}]*\}?)")
VARIABLE_REMEDY = "write its value, or name it after --set, where a shell does"


@dataclass(frozen=True)
class Location:
    """A location in S3: a bucket and a prefix without slashes at its ends, which may be empty.

    Raises:
        WrongLocation: the bucket's name or the prefix breaks the grammar.

    Example:
        >>> storage = Location.parse("s3://team/ravel/")
        >>> (storage / "digits-20260101-120000-ab12").uri
        's3://team/ravel/digits-20260101-120000-ab12'
    """

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if not BUCKET_NAME.fullmatch(self.bucket):
            rule = "a bucket's name must be 3 to 255 letters, digits, dots, dashes and underscores"
            place = cut(f"{SCHEME}{self.bucket}/{self.prefix}", MAX_VALUE_LENGTH)
            raise WrongLocation(f"{place}: {rule}, got {quoted(self.bucket)}; {GRAMMAR}")
        if self.prefix and not all(_is_plain(part) for part in self.prefix.split("/")):
            rule = "a prefix must have no empty part, no '.', '..', '?', '#', backslash or control character"
            raise WrongLocation(f"{cut(self.uri, MAX_VALUE_LENGTH)}: {rule}, got {quoted(self.prefix)}; {GRAMMAR}")

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Return the location of ``s3://bucket/prefix``; slashes at the end are ignored.

        Raises:
            WrongLocation: names the address, the requirement and the remedy; credentials are not repeated.
        """
        if not uri.startswith(SCHEME):
            raise WrongLocation(f"{cut(uri, MAX_VALUE_LENGTH)}: an address of S3 must start with {SCHEME}; {GRAMMAR}")
        bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
        if "@" in bucket:
            rule = "an address must not hold credentials, because it is logged and stored"
            raise WrongLocation(f"s3://...@...: {rule}; put them in the environment or a profile, and {GRAMMAR}")
        return cls(bucket, prefix.rstrip("/"))

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"{SCHEME}{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    def child(self, path: str) -> Location:
        """Return the location at a relative path below; an empty path is the location itself."""
        return Location(self.bucket, "/".join(part for part in (self.prefix, path) if part))

    def __truediv__(self, path: str) -> Location:
        return self.child(path)


def _is_plain(part: str) -> bool:
    return part not in {"", ".", ".."} and not FORBIDDEN.search(part)


def is_remote(storage: str | Path) -> bool:
    """Return True if an address is in S3."""
    return str(storage).startswith(SCHEME)


def variable_problem(place: str) -> str | None:
    """Return the problem of a path or an address with a variable, which nothing expands; None for any other.

    >>> variable_problem("$SCRATCH/ravel")
    'must have no variable, as nothing expands $SCRATCH: write its value, or name it after --set, where a shell does'
    >>> variable_problem("/data/us$")
    """
    variable = VARIABLE.search(place)
    if variable is None:
        return None
    name = cut(variable.group(), MAX_VALUE_LENGTH)
    return f"must have no variable, as nothing expands {name}: {VARIABLE_REMEDY}"


def cache_folder() -> Path:
    """Return the folder of this machine's caches.

    Raises:
        WrongLocation: ``RAVEL_CACHE`` begins with a ``~`` of a user that this machine does not have.
    """
    return expanded(os.environ.get("RAVEL_CACHE") or Path.home() / ".cache" / "ravel").absolute()


def expanded(place: str | Path) -> Path:
    """Return the path of a folder of this machine, a leading ``~`` expanded.

    Raises:
        WrongLocation: the ``~`` names a user that this machine does not have.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError:
        rule = "after ~ must come a / or a user of this machine; write the whole path"
        raise WrongLocation(f"{cut(str(place), MAX_VALUE_LENGTH)}: {rule}") from None
