"""Wait for the answer to an order, which is an event of the sweep's log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.state.event_log import read_events
from orchestrator.state.events import OrderAccepted, OrderRefused
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_lock import is_held

if TYPE_CHECKING:
    from orchestrator.state.sweep_folder import SweepFolder

POLL_S, POLL_S3_S = 0.25, 2.0


def wait_for_answer(
    folder: SweepFolder, order: str, *, start: int, timeout_s: float
) -> OrderAccepted | OrderRefused | None:
    """Return the answer to an order; None after the timeout, or if the driver ended without one.

    Args:
        folder: Files of the sweep.
        order: Id of the order.
        start: Offset in the log from which to look.
        timeout_s: Longest wait.
    """
    deadline, poll_s = time.monotonic() + timeout_s, POLL_S if folder.remote is None else POLL_S3_S
    while True:
        runs, is_late = is_held(folder), time.monotonic() >= deadline
        if folder.remote is not None:
            pull(folder)
        for event, end in read_events(folder.events, start):
            start = end
            if isinstance(event, OrderAccepted | OrderRefused) and event.order == order:
                return event
        if is_late or not runs:
            return None
        time.sleep(poll_s)
