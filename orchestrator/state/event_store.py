"""The one writer of a running sweep: an event goes to the log first, then into the state decisions rest on."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from orchestrator.errors import LogIncomplete

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.state.event_log import EventLog
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import SweepState

logger = logging.getLogger(__name__)


class EventStore:
    """Appends events and keeps the state in step.

    A full disk must not kill a sweep that still trains: events that could not be written wait in memory, in order, and
    are written before the next one. ``pending`` says how many wait.

    Args of note: ``listeners`` are told of each event after it was applied; one that raises is told no more.
    """

    def __init__(
        self, log: EventLog, state: SweepState, *, listeners: tuple[Callable[[Event], None], ...] = ()
    ) -> None:
        self.state = state
        self.lock = threading.RLock()
        self._log = log
        self._listeners = list(listeners)
        self._pending: deque[tuple[Event, bytes | None]] = deque()

    @property
    def pending(self) -> int:
        """Events that are not on disk yet."""
        return len(self._pending)

    def append(self, event: Event, line: bytes | None = None) -> None:
        """Write one event, then apply it; ``line`` is the event as a line of the log, if there is one already."""
        with self.lock:
            try:
                if self._pending:
                    self._flush()
                self._log.append(event, line)
            except OSError as error:
                self._pending.append((event, line))
                self._warn(error)
            self.state.apply(event)
        if self._listeners:
            self._tell(event)

    def close(self) -> None:
        """Write what waits and release the log.

        Raises:
            LogIncomplete: events could not be written; what they held is lost with this process.
        """
        with self.lock:
            try:
                self._flush()
            except OSError as error:
                self._warn(error)
            self._log.close()
        if self._pending:
            raise LogIncomplete(
                f"{self._log.path}: the last {self.pending} events could not be written; free some space"
            )

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except (Exception, SystemExit):  # a closed pipe is a SystemExit of rich: whoever looks on may go
                logger.warning("stopped telling %r what happens", listener, exc_info=True)
                self._listeners.remove(listener)

    def __getstate__(self) -> dict[str, object]:
        """Empty: Tune pickles whatever holds a store into a file that nobody reads; the store itself is the log."""
        return {}

    def _flush(self) -> None:
        while self._pending:
            self._log.append(*self._pending[0])
            self._pending.popleft()

    def _warn(self, error: OSError) -> None:
        logger.warning("event log: %s; %d events wait in memory, free some space", error, len(self._pending))
