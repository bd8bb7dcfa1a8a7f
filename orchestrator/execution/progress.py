"""Progress callback of a driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import Event

Copies: TypeAlias = Callable[[], list[str]]


class ProgressCallback:
    """Progress callback of a driver; this one does nothing. ``orchestrator.cli.live_display`` has the terminal's."""

    def on_connect(self, address: str) -> None:
        """Take note that the driver connects to Ray next; for ``local`` it starts one, which takes seconds."""

    def begin(self, plan: SweepPlan, store: EventStore, copies: Copies) -> None:
        """The driver is about to start trials; ``copies`` says which copies of the log are behind."""

    def see(self, event: Event) -> None:
        """An event was logged."""

    def end(self) -> None:
        """The driver has left the sweep."""
