"""Waits of tests: for as long as the busiest machine may need, since how long something takes is no claim of a test."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENT_S = 120.0


def until(
    is_so: Callable[[], T], *, said: Callable[[], object] = lambda: "it did not come", timeout_s: float = PATIENT_S
) -> T:
    """Wait for a true value of ``is_so()`` and return it.

    Raises:
        AssertionError: it did not come, with what ``said`` tells then.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := is_so()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)
    return value
