"""Trial ids, and independent seeds derived from one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGITS = 3


def trial_id(index: int, *, digits: int = DIGITS) -> str:
    """Return the id of the ``index``-th trial of a sweep; 0 is the baseline.

    >>> trial_id(7), trial_id(7, digits=4)
    ('t007', 't0007')
    """
    return f"t{index:0{digits}d}"


def trial_ids(num_trials: int) -> list[str]:
    """Return the ids of a sweep, all of one length: as text they sort by their numbers.

    >>> trial_ids(1001)[-2:]
    ['t0999', 't1000']
    """
    return [trial_id(index, digits=_digits_of(num_trials)) for index in range(num_trials)]


def next_trial_id(existing: Iterable[str], *, count: int, num_trials: int) -> str:
    """Return the id of the next trial of a sweep, as long as those of its ``count`` trials so far.

    Earlier versions gave sweeps of more than 1,000 trials ids of two lengths; such a sweep continues with them.

    >>> next_trial_id(["t0000"], count=1, num_trials=2000), next_trial_id(["t000"], count=1, num_trials=2000)
    ('t0001', 't001')
    """
    first = next(iter(existing), None)
    return trial_id(count, digits=_digits_of(num_trials) if first is None else len(first) - 1)


def _digits_of(num_trials: int) -> int:
    return max(DIGITS, len(str(num_trials - 1)))


def derive_seed(seed: int, *path: str) -> int:
    """Return a 31-bit seed for one purpose, independent of every other one and of the order of calls.

    >>> derive_seed(0, "trial", "t001") == derive_seed(0, "trial", "t001") != derive_seed(0, "trial", "t002")
    True
    """
    digest = hashlib.sha256("/".join((str(seed), *path)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
