"""Waits that count the time in which this process runs.

A process that is stopped (SIGSTOP, a frozen container, a laptop that sleeps) has given what it waits for no chance to
come. Where it gives up after a timeout, it must not count that time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ["ends", "waited"]

SLICE_S = 0.5


def waited(is_done: Callable[[float], bool], timeout_s: float) -> bool:
    """Call ``is_done`` with a time to wait, again and again, and return True when it does; False after the timeout.

    The timeout is the sum of the times that were asked for: one of them may have lasted hours.

    >>> asked = []
    >>> waited(asked.append, 1.2), [round(seconds, 1) for seconds in asked]
    (False, [0.5, 0.5, 0.2])
    """
    num_slices = math.ceil(timeout_s / SLICE_S) or 1
    return any(is_done(min(SLICE_S, timeout_s - number * SLICE_S)) for number in range(num_slices))


def ends(thread: threading.Thread, timeout_s: float) -> bool:
    """Wait for the end of a thread; return False if it has not ended after the timeout."""

    def has_ended(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    return waited(has_ended, timeout_s)
