"""Training functions of the sweeps that `scale.py` measures: one reports at once, one as often as it is asked to."""

import random
import time
from collections.abc import Iterator
from typing import Any


def at_once(context: Any, *, a: float, b: float, c: float, d: float, e: float, f: float) -> Iterator[dict[str, float]]:
    """Report each epoch at once."""
    for epoch in range(context.epoch, context.epochs):
        yield {"score": (a + b + c + d + e + f) / 6 + epoch, "loss": 1 / (1 + epoch)}


def steady(context: Any, a: float, period_s: float) -> Iterator[dict[str, float]]:
    """Report an epoch each `period_s`, with the time that the driver took to ask for it.

    That is the time from the report of the epoch before to the next request: the worker writes a message, the driver
    reads, logs and decides, and the worker reads its answer.
    """
    waited_s, due = 0.0, time.monotonic() + random.random() * period_s
    for epoch in range(context.epoch, context.epochs):
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + period_s, time.monotonic())
        asked = time.monotonic()
        yield {"score": a + epoch, "waited_s": waited_s}
        waited_s = time.monotonic() - asked
