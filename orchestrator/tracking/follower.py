"""The thread that keeps MLflow up to date beside a sweep: it can be late, it can fail, it cannot hurt training."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from orchestrator.tracking.addresses import one_line

if TYPE_CHECKING:
    from orchestrator.tracking.tracker import Tracker

logger = logging.getLogger(__name__)
POLL_S = 0.5
MAX_BACKOFF_S = 30.0


class Follower:
    """Calls ``Tracker.catch_up`` until it is stopped, waiting longer after each failure."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ravel-tracking", daemon=True)
        self.error: str | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> bool:
        """Send what is left and stop; False when MLflow did not take everything in time (see ``error``)."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.error = self.error or f"MLflow did not answer within {timeout_s:g} s"
            return False
        while not self._attempt():
            if time.monotonic() + POLL_S >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _run(self) -> None:
        wait_s = POLL_S
        while not self._stopping.wait(wait_s):
            wait_s = POLL_S if self._attempt() else min(MAX_BACKOFF_S, 2 * wait_s)

    def _attempt(self) -> bool:
        """One round; False when it failed."""
        try:
            self._tracker.catch_up()
        except Exception as error:  # noqa: BLE001  an outage of any kind is waited out
            told = f"{type(error).__name__}: {one_line(error)}"
            if self.error is None:
                logger.warning("MLflow is behind (%s); the event log has everything, trying again", told)
            self.error = told
            return False
        self.error = None
        return True
