"""Progress callback of a driver."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import Event

logger = logging.getLogger(__name__)
LagReport: TypeAlias = Callable[[], list[str]]
"""Return a line for each exporter that lags."""


class ProgressCallback:
    """Progress callback that does nothing; ``orchestrator.cli.shared.live_display`` has those of the terminal."""

    def on_connect(self, address: str) -> None:
        """Run before the driver connects to Ray, or waits for what it has started: a Ray, or worker processes."""

    def on_joined(self, address: str, capacity: Capacity) -> None:
        """Run when the driver has joined a running cluster, whose GCS is at this address."""

    def on_measure(self) -> None:
        """Run before it is measured if trials train faster in batches, which takes some epochs."""

    def on_start(self, plan: SweepPlan, store: EventStore, lag_report: LagReport) -> None:
        """Run before the driver starts trials."""

    def on_event(self, event: Event) -> None:
        """Run after an event was logged and applied, in the thread that appended it: mostly that of Tune."""

    def on_end(self) -> None:
        """Run when the driver has left the sweep."""


def notify(hook: Callable[..., None], *arguments: object) -> None:
    """Call a hook of a progress callback; its errors are logged, and cannot stop a sweep."""
    try:
        hook(*arguments)
    except (Exception, SystemExit):  # a closed pipe is a SystemExit of rich: a display may close
        logger.warning("%s failed; the sweep continues", hook.__qualname__, exc_info=True)
