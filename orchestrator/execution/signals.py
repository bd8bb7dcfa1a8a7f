"""Signals that stop a sweep."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
REPEATED_S = 1.0
"""A signal that comes sooner after the first is the same request: `timeout` and Slurm send it twice."""
HELD_S = 15.0
"""A signal that comes later after the first, while Ray starts, no longer waits: Ray hangs."""


@dataclass(frozen=True)
class Leave:
    """Reason for which a driver leaves its sweep before the trials are over."""

    cause: Literal["signal", "lock", "ray", "order"]
    reason: str


@dataclass(frozen=True)
class Ended:
    """Message that Tune is done, or broke."""

    error: BaseException | None = None


class StopSignals:
    """Handlers of SIGINT (Ctrl-C), SIGTERM (Kubernetes, Slurm) and SIGHUP (a terminal that closes).

    Before the sweep is open, a signal raises ``KeyboardInterrupt``; while Ray starts, once that is over. From ``defer``
    on, it is a request: the first goes to the ``inbox`` of the driver, which records the end of the sweep within a
    second. A later one, or one while the driver closes the sweep, ends only what is ``skippable``. SIGHUP stays ignored
    if it was, as by ``nohup``. Inside ``last_words`` the handlers of a sweep that a signal has stopped stay for good.
    """

    def __init__(self) -> None:
        self.inbox: SimpleQueue[Leave | Ended] = SimpleQueue()  # the one queue that a signal handler may put into
        self._first: float | None = None
        self._handled: list[signal.Signals] = []
        self._is_deferred = self._is_skippable = self._is_held = False

    @property
    def requested(self) -> bool:
        """True if a signal came since ``defer``, or while Ray started."""
        return self._first is not None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside; outside the main thread, which alone can, nothing changes."""
        if not _in_main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        kept = {number for number in previous if number.name == "SIGHUP" and previous[number] == signal.SIG_IGN}
        self._handled = [number for number in STOP_SIGNALS if number not in kept]
        self.install()
        try:
            yield
        finally:
            if not (self.requested and _ends_with_its_sweep):
                for number in self._handled:
                    signal.signal(number, previous[number] or signal.SIG_DFL)

    def install(self) -> None:
        """Install the handlers; outside the main thread, which alone can, do nothing."""
        if _in_main_thread():
            for number in self._handled:
                signal.signal(number, self._handle)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raise ``KeyboardInterrupt`` at the end if a signal comes inside; no later signal interrupts the clean-up.

        For the start of Ray, whose native code may crash the process if an exception leaves it half-way.
        """
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self.install()  # Ray replaces the handler of SIGTERM
        if self.requested:
            self.defer()
            raise KeyboardInterrupt

    def defer(self) -> None:
        """Take signals as requests from here on, to the end: nothing may interrupt the driver's clean-up."""
        self._is_deferred = True

    @contextmanager
    def skippable(self) -> Iterator[None]:
        """Raise ``KeyboardInterrupt`` inside if the user asks once more, or asks while nothing is left but this."""
        self._is_skippable = True
        try:
            yield
        finally:
            self._is_skippable = False

    def _handle(self, number: int, frame: object) -> None:  # noqa: ARG002
        if not (self._is_deferred or self._is_held):
            raise KeyboardInterrupt
        now, is_first = time.monotonic(), self._first is None
        if self._first is None:
            self._first = now
            self.inbox.put(Leave("signal", f"the driver was stopped ({signal.Signals(number).name})"))
        if self._is_held and now - self._first > HELD_S:
            raise KeyboardInterrupt
        is_repeated = not is_first and now - self._first < REPEATED_S
        if self._is_skippable and not is_repeated:
            self._is_skippable = False
            raise KeyboardInterrupt


_ends_with_its_sweep = False


@contextmanager
def last_words() -> Iterator[None]:
    """Let no later signal cut short what a command says of a sweep that a signal has stopped, as how to resume it."""
    global _ends_with_its_sweep  # noqa: PLW0603  signal handlers belong to the process, too
    _ends_with_its_sweep = True
    try:
        yield
    finally:
        _ends_with_its_sweep = False


def ignore() -> None:
    """Ignore the signals to the end of this process: its sweep is over, and nothing is left to stop."""
    if _in_main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
