"""Wait for the answer to an order, which is an event of the sweep's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.state.events import OrderAccepted, OrderRefused
from orchestrator.state.log_following import follow_events

if TYPE_CHECKING:
    from orchestrator.state.sweep_folder import SweepFolder


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
    for event in follow_events(folder, start=start, timeout_s=timeout_s):
        if isinstance(event, OrderAccepted | OrderRefused) and event.order == order:
            return event
    return None
