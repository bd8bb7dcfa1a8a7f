"""Signals that stop a sweep."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """The user's wish to stop: SIGINT (Ctrl-C) and SIGTERM, which Kubernetes and Slurm send, mean the same.

    The first leaves Tune's loop and writes everything down, within seconds; the second is patience, the third gives up.
    Where a driver opens or closes its sweep, the first is only noted: it looks at ``asked`` when it is done.
    """

    def __init__(self) -> None:
        self.asked = False
        self._times = 0
        self._tune_listens = False
        self._waits = False

    def ask(self) -> None:
        """StopSignals as if the user had asked; from any thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over; only a main thread can, elsewhere they stay as they are."""
        if not _in_main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*ASKING, signal.SIGUSR1)}
        self.listen_again()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen_again(self) -> None:
        """Take them back: connecting to Ray puts a handler of its own on SIGTERM."""
        if _in_main_thread():
            for number in ASKING:
                signal.signal(number, self._handle)

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """What is begun inside is finished, but for what ``passed_to_tune`` surrounds."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    @contextmanager
    def passed_to_tune(self) -> Iterator[None]:
        """While Tune runs, it is told by the signal it always listens to, and leaves its loop between two events."""
        self._tune_listens, self._waits = _in_main_thread(), False
        try:
            yield
        finally:
            self._tune_listens, self._waits = False, True

    def _handle(self, number: int, frame: object) -> None:  # noqa: ARG002
        self.asked = True
        self._times += 1
        if self._times == 2 or (self._times == 1 and self._waits):
            return
        if self._times == 1 and self._tune_listens and callable(signal.getsignal(signal.SIGUSR1)):
            signal.raise_signal(signal.SIGUSR1)
        else:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
