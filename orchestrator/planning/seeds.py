"""Trial ids, and independent seeds derived from one."""

from __future__ import annotations

import hashlib


def trial_id(index: int) -> str:
    """Return the id of the ``index``-th trial of a sweep; 0 is the baseline.

    >>> trial_id(7)
    't007'
    """
    return f"t{index:03d}"


def derive_seed(seed: int, *path: str) -> int:
    """Return a 31-bit seed for one purpose, independent of every other one and of the order of calls.

    >>> derive_seed(0, "trial", "t001") == derive_seed(0, "trial", "t001") != derive_seed(0, "trial", "t002")
    True
    """
    digest = hashlib.sha256("/".join((str(seed), *path)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
