"""Event store: append to the write-ahead log, then apply to the in-memory folds that decisions rest on."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import LogIncomplete
from orchestrator.state.events import SweepEnded, SweepStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.state.event_log import EventLog
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import SweepState

logger = logging.getLogger(__name__)


class SweepOver(BaseException):
    """Raised in a thread that goes on after its sweep has ended: what it appends is not part of the sweep any more.

    No ``Exception``, so that the thread ends whatever it is in: Tune, and the guards of our callbacks.
    """


class Fold(Protocol):
    """State that is computed from events, one after the other."""

    def apply(self, event: Event) -> None:
        """Take one event in."""


class EventStore:
    """Append events to the log, and keep the sweep state and further folds in step.

    A full disk must not kill a sweep that still trains: events that could not be written are queued in memory, in
    order, and written before the next one. ``pending`` is the length of that queue.

    Args of note: ``folds`` take in each event after the sweep state has, under the same lock; ``listeners`` are called
    with each event after that; one that raises is removed.
    """

    def __init__(
        self,
        log: EventLog,
        state: SweepState,
        *,
        folds: tuple[Fold, ...] = (),
        listeners: tuple[Callable[[Event], None], ...] = (),
    ) -> None:
        self.state = state
        self.lock = threading.RLock()
        self._log = log
        self._folds = (state, *folds)
        self._listeners = list(listeners)
        self._is_over = False
        self._pending: deque[tuple[Event, bytes | None]] = deque()

    @property
    def pending(self) -> int:
        """Number of events that are not on disk yet."""
        return len(self._pending)

    def append(self, event: Event, body: bytes | None = None) -> None:
        """Write one event, then apply it; ``body`` is the event as JSON, if it was encoded already.

        Raises:
            SweepOver: the end of the sweep was appended, or the store closed.
        """
        with self.lock:
            if self._is_over and not isinstance(event, SweepStarted):
                raise SweepOver
            try:
                if self._pending:
                    self._flush()
                self._log.append(event, body)
            except OSError as error:
                self._pending.append((event, body))
                self._warn(error)
            for fold in self._folds:
                fold.apply(event)
            self._is_over = isinstance(event, SweepEnded)
        if self._listeners:
            self._notify(event)

    def retry(self) -> None:
        """Write the queued events, as far as the disk takes them."""
        with self.lock, suppress(OSError):
            self._flush()

    def close(self) -> None:
        """Write the queued events and release the log.

        Raises:
            LogIncomplete: events could not be written; they are lost with this process.
        """
        with self.lock:
            self._is_over = True
            try:
                self._flush()
            except OSError as error:
                self._warn(error)
            self._log.close()
        if self._pending:
            raise LogIncomplete(
                f"{self._log.path}: the last {self.pending} events could not be written; free some space"
            )

    def _notify(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except (Exception, SystemExit):  # a closed pipe is a SystemExit of rich: a display may close
                logger.warning("stopped notifying %r of events", listener, exc_info=True)
                self._listeners.remove(listener)

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles whatever holds a store into a file that is never read; the log is the store."""
        return {}

    def _flush(self) -> None:
        while self._pending:
            self._log.append(*self._pending[0])
            self._pending.popleft()

    def _warn(self, error: OSError) -> None:
        logger.warning("event log: %s; %d events are queued in memory, free some space", error, len(self._pending))
