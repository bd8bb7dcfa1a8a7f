"""Locations in S3: ``s3://bucket/prefix``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from orchestrator.errors import MAX_VALUE_LENGTH, WrongLocation, cut, quoted

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SCHEME", "Location", "is_remote"]

SCHEME = "s3://"
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
FORBIDDEN = re.compile(r"[?#\\\x00-\x1f\x7f]")
GRAMMAR = f"write {SCHEME}BUCKET/PREFIX"


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
