"""Verification of a file by the etag of its object, whose form depends on how the object was written.

S3's own checksums cannot replace it yet: Swift 2.38 checks a CRC32 on PUT, but its HEAD, GET and listings return no
``x-amz-checksum-*``, and GetObjectAttributes fails with a 500 (``docs/decisions/021-etags-are-still-read.md``).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.storage.s3 import Bucket

__all__ = ["agrees", "etag_of"]

HASH_BYTES = 1 << 20
MD5 = re.compile(r"([0-9a-f]{32})(-\d+)?")


def agrees(path: Path, etag: str, bucket: Bucket, key: str) -> bool:
    """Return True if a file agrees with the etag of its object, or if that etag is no hash.

    The etag of an object written in one piece is its MD5; that of an object written in parts is made of their MD5s. It
    is no use as a hash if the parts are unequal, if the server does not report their size, or with a key of KMS.
    """
    form = MD5.fullmatch(etag)
    if form is None:
        return True
    part_size = bucket.part_size(key) if form[2] else None
    if form[2] and part_size is None:
        return True
    return etag_of(path, part_size=part_size) == etag or bucket.is_opaque(key)


def etag_of(path: Path, *, part_size: int | None = None) -> str:
    """Return the etag of a file written in parts of a size, or in one piece if no size is given."""
    if part_size is None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest()
    digests = list(_digests(path, part_size))
    return f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def _digests(path: Path, part_size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for start in range(0, path.stat().st_size, part_size):
            digest = _md5()
            while piece := file.read(min(HASH_BYTES, start + part_size - file.tell())):
                digest.update(piece)
            yield digest.digest()


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)
