"""Exponential back-off with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015)."""

from __future__ import annotations

import random

MAX_DOUBLINGS = 60  # an outage of days counts thousands of failures, and a float ends at 2**1024
JITTER = random.SystemRandom()
"""Source of jitter without a state, so that forked processes and threads share none."""


def pause_s(failures: int, *, shortest_s: float, longest_s: float, rng: random.Random = JITTER) -> float:
    """Draw the pause before the next attempt, uniform up to a limit that doubles with each failure in a row.

    Args:
        failures: Number of failures in a row, at least 1.
        shortest_s: Limit after the first failure.
        longest_s: Limit that is never exceeded.
        rng: Source of the jitter.

    Example:
        >>> pauses = [pause_s(n, shortest_s=1, longest_s=5, rng=random.Random(0)) for n in (1, 2, 3, 4)]
        >>> [round(pause, 2) for pause in pauses]
        [0.84, 1.69, 3.38, 4.22]
    """
    return rng.uniform(0.0, min(longest_s, shortest_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS)))
