"""Order desk of a driver: read orders in a thread, answer them and carry them out where Tune's loop begins a step."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from orchestrator.errors import StorageError
from orchestrator.execution.signals import Leave
from orchestrator.orders.acts import NoWorkers, carry_out, settle_unfinished
from orchestrator.orders.answers import answer, refusal
from orchestrator.orders.book import Unreadable, book_of, unanswered
from orchestrator.redaction import one_line
from orchestrator.state.events import OrderAccepted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.orders.acts import Workers
    from orchestrator.orders.order import Order
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import OrderRefused
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial

logger = logging.getLogger(__name__)
POLL_S, POLL_S3_S = 1.0, 10.0
LEAVE_S = 1.0


class OrderDesk:
    """Answers the orders of one driver: the answer is in the log before anything is done.

    Args:
        folder: Files of the sweep.
        decisions: State of the sweep.
        store: Event store to append to.
        leave: Called with the reason if an order ends the sweep.
        clock: Time of events.
    """

    def __init__(
        self,
        folder: SweepFolder,
        decisions: DecisionState,
        store: EventStore,
        *,
        leave: Callable[[Leave], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._decisions, self._store = folder, decisions, store
        self._leave, self._clock = leave, clock
        self._book = book_of(folder)
        self._queue: SimpleQueue[Order | Unreadable] = SimpleQueue()
        self._queued: set[str] = set()
        self._has_failed = self._cannot_read = False

    def open(self) -> None:
        """Carry out what an earlier driver accepted, then answer the orders that none has; no trial runs yet."""
        settle_unfinished(self._store, self._decisions, clock=self._clock)
        carry_out(self._store, self._decisions, NoWorkers(), clock=self._clock)
        self._try_to_read()
        self.serve(NoWorkers())

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the order book during the work, in a thread of its own: a disk or S3 may hang."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_reading, args=(ended,), name="ravel-orders", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(LEAVE_S)

    def serve(self, workers: Workers) -> None:
        """Answer the orders that were read, and carry out what is due; never raises an ``Exception``."""
        try:
            self._serve(workers)
        except Exception:
            if not self._has_failed:
                logger.exception("orders cannot be carried out; the sweep continues")
            self._has_failed = True

    def _serve(self, workers: Workers) -> None:
        state = self._store.state
        if state.to_stop or state.to_reopen:
            carry_out(self._store, self._decisions, workers, clock=self._clock)
        while True:
            try:
                order = self._queue.get_nowait()
            except Empty:
                return
            if order.id in state.orders:
                continue
            event = self._answer(order)
            self._store.append(event)
            if isinstance(event, OrderAccepted):
                if event.action == "stop" and not event.trials:
                    self._leave(Leave("order", f"stopped by order of {event.author}"))
                carry_out(self._store, self._decisions, workers, clock=self._clock)

    def _answer(self, order: Order | Unreadable) -> OrderAccepted | OrderRefused:
        try:
            return answer(order, self._decisions, has_checkpoint=self._has_checkpoint, now=self._clock())
        except Exception as error:
            logger.exception("order %s cannot be answered", order.id)
            if isinstance(order, Unreadable):
                raise
            return refusal(order, [f"order: {type(error).__name__}: {one_line(error)}"], now=self._clock())

    def _has_checkpoint(self, trial: Trial) -> bool:
        last = next((saved for saved in reversed(trial.checkpoints) if saved.epoch == trial.epoch), None)
        if last is None:
            return False
        if self._folder.remote is not None:
            return next(iter(self._folder.remote.child(last.path).list()), None) is not None
        return (self._folder.path / last.path).is_dir()

    def _keep_reading(self, ended: threading.Event) -> None:
        poll_s = POLL_S if self._folder.remote is None else POLL_S3_S
        while not ended.wait(poll_s):
            self._try_to_read()

    def _try_to_read(self) -> None:
        """Read the order book, or warn once that it cannot be read: trials continue without orders."""
        try:
            self._read()
        except StorageError as error:
            if not self._cannot_read:
                logger.warning("orders cannot be read (%s); retrying", one_line(error))
            self._cannot_read = True
        else:
            self._cannot_read = False

    def _read(self) -> None:
        """Queue the orders that are new."""
        for order in unanswered(self._book, {*self._store.state.orders, *self._queued}):
            self._queued.add(order.id)
            self._queue.put(order)
