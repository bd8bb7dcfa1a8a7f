"""Thread in which a sweep's trials are run, so that its driver can leave it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from orchestrator import timeouts
from orchestrator.state.event_store import SweepOver

if TYPE_CHECKING:
    from collections.abc import Callable


class StopLoop(Exception):
    """Raised between two events, so that the loop ends and releases its workers."""


class LoopThread(threading.Thread):
    """Thread of the loop that runs trials, which its driver can leave.

    Calls into Ray do not return while the GCS is dead or stopped, and take no signal outside the main thread. So the
    driver waits for this thread, or for a reason to leave it. Worker processes are run in the same way.

    Args:
        loop: Called with the ``before_step`` that it must call before each step; that raises to end it.
        on_end: Called with None or the error when ``loop`` has ended by itself.
    """

    def __init__(
        self, loop: Callable[[Callable[[], None]], None], *, on_end: Callable[[BaseException | None], None]
    ) -> None:
        super().__init__(name="ravel-trials", daemon=True)
        self._loop, self._on_end = loop, on_end
        self._leaving: BaseException | None = None
        self._has_left = threading.Event()

    def leave(self, *, releasing_workers: bool, timeout_s: float) -> None:
        """Have the loop end between two events; return when it has, or after the timeout."""
        self._leaving = StopLoop() if releasing_workers else SweepOver()
        timeouts.waited(self._has_left.wait, timeout_s)

    def run(self) -> None:
        """Run the loop."""
        error: BaseException | None = None
        try:
            self._loop(self._before_step)
        except (StopLoop, SweepOver):
            return
        except BaseException as raised:  # noqa: BLE001  the driver raises it
            error = raised
        finally:
            self._has_left.set()
        self._on_end(error)

    def _before_step(self) -> None:
        if self._leaving is not None:
            self._has_left.set()
            raise self._leaving
