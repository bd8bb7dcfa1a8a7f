"""Trial ids, and independent seeds derived from one."""

from __future__ import annotations

import hashlib


def trial_id(index: int) -> str:
    """The id of the ``index``-th trial of a sweep, 0 being the baseline.

    >>> trial_id(7)
    't007'
    """
    return f"t{index:03d}"


def derive_seed(seed: int, *path: str) -> int:
    """A 31-bit seed for one purpose, independent of all others and of the order of asking.

    >>> derive_seed(0, "trial", "t001") == derive_seed(0, "trial", "t001") != derive_seed(0, "trial", "t002")
    True
    """
    digest = hashlib.sha256("/".join((str(seed), *path)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
