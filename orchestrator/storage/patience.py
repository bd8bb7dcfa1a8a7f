"""Patience with a storage that is away or full: retry with growing pauses, up to ten minutes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import ObjectMissing, StorageError
from orchestrator.storage.backoff import JITTER, pause_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

T = TypeVar("T")
logger = logging.getLogger(__name__)
PATIENCE_S = 600.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 30.0


def patiently(
    fetch: Callable[[], T],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rng: Random = JITTER,
) -> T:
    """Return the result of ``fetch``, retried with growing pauses while S3 is away, or a disk full.

    Args:
        fetch: must allow another call after a failure.
        clock: seconds that never go back.
        sleep: waits so many of them.
        rng: source of the jitter of the pauses.

    Raises:
        ObjectMissing: at once, since waiting brings nothing back.
        StorageError: S3 was away for longer than ``PATIENCE_S``.
    """
    deadline, failures = clock() + PATIENCE_S, 0
    while True:
        try:
            return fetch()
        except ObjectMissing:
            raise
        except StorageError as error:
            left_s = deadline - clock()
            if left_s <= 0:
                raise
            failures += 1
            if failures == 1:
                logger.warning("%s; waiting, for up to %.0f s", error, PATIENCE_S)
        sleep(min(left_s, pause_s(failures, shortest_s=SHORTEST_PAUSE_S, longest_s=LONGEST_PAUSE_S, rng=rng)))
