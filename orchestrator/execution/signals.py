"""Signals that stop a sweep."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Handlers of SIGINT (Ctrl-C) and SIGTERM (Kubernetes, Slurm), which both ask the driver to stop.

    The first signal leaves Tune's loop and records the end, within seconds; the second is ignored; the third raises
    ``KeyboardInterrupt``. Inside ``deferred``, where a driver opens or closes its sweep, the first only sets
    ``requested``, which the driver checks at the end.
    """

    def __init__(self) -> None:
        self.requested = False
        self._count = 0
        self._tune_listens = False
        self._is_deferred = False

    def request(self) -> None:
        """Stop as if the user had sent a signal; from any thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside; outside the main thread, which alone can, nothing changes."""
        if not _in_main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGUSR1)}
        self.install()
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers; needed once more after Ray was connected, which replaces that of SIGTERM."""
        if _in_main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Finish the work inside before stopping, except inside ``forwarded_to_tune``."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    @contextmanager
    def forwarded_to_tune(self) -> Iterator[None]:
        """Notify Tune by SIGUSR1, which it always handles: it leaves its loop between two events."""
        self._tune_listens, self._is_deferred = _in_main_thread(), False
        try:
            yield
        finally:
            self._tune_listens, self._is_deferred = False, True

    def _handle(self, number: int, frame: object) -> None:  # noqa: ARG002
        self.requested = True
        self._count += 1
        if self._count == 2 or (self._count == 1 and self._is_deferred):
            return
        if self._count == 1 and self._tune_listens and callable(signal.getsignal(signal.SIGUSR1)):
            signal.raise_signal(signal.SIGUSR1)
        else:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
