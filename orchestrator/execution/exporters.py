"""Background exporters of the event log (MLflow, S3). An exporter may lag; it never blocks training."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Protocol

from orchestrator.redaction import one_line
from orchestrator.state.s3_mirror import Mirror
from orchestrator.storage.backoff import JITTER, pause_s
from orchestrator.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)
POLL_S = 0.5
MIRROR_S = 5.0
FAILING_S = 4.0
LONG_QUEUE = 100
MAX_BACKOFF_S = 30.0
MAX_SHARE = 0.03
"""Share of the time that an exporter may work during a sweep: its CPU time, and a local server's, is lost to trials."""
MAX_WAIT_S = 30.0
MAX_LAG_S = 60.0
"""Longest lag; after it, the exporter sends everything at once, whatever share of the time that takes."""


class ExportTarget(Protocol):
    """Target of an exporter: MLflow (``Tracker``) or S3 (``Mirror``)."""

    @property
    def num_sent(self) -> int:
        """Number of events that it has."""

    def advance(self) -> bool:
        """Send some of the new events; return True if it sent any. A failed call is repeated by the next one."""

    def catch_up(self) -> bool:
        """Send all new events; return True if it sent any. A failed call is repeated by the next one."""


class Exporter:
    """Thread that sends new events to a target, a few at a time, until it is stopped. It waits after work and failures.

    Args:
        target: Target of the events.
        name: Name of the target, for messages.
        poll_s: Shortest wait after a success.
        rng: Source of the jitter after failures.
    """

    def __init__(
        self, target: ExportTarget, *, name: str = "MLflow", poll_s: float = POLL_S, rng: Random = JITTER
    ) -> None:
        self._target, self._name, self._poll_s, self._rng = target, name, poll_s, rng
        self._stopping, self._deadline, self._caught_up = threading.Event(), math.inf, False
        self._thread = threading.Thread(target=self._run, name=f"ravel-{name}", daemon=True)
        self.error: str | None = None

    @property
    def num_sent(self) -> int:
        """Number of events that the target has."""
        return self._target.num_sent

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, timeout_s: float, progressing: bool = False) -> bool:
        """Send the remaining events and stop; return False if some are left after the timeout (see ``error``).

        Args:
            timeout_s: Timeout.
            progressing: Restart the timeout as long as the target makes progress within it.
        """
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        sent = None
        while self._thread.is_alive() and (sent is None or (progressing and sent != self._target.num_sent)):
            sent = self._target.num_sent
            self._deadline = time.monotonic() + timeout_s
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.error = self.error or f"{self._name} did not answer within {timeout_s:g} s"
        return self._caught_up

    def cancel(self) -> None:
        """Stop after the events that are being sent now."""
        self._deadline = -math.inf
        self._stopping.set()

    def _run(self) -> None:
        wait_s, failures, is_first, level_at = self._poll_s, 0, True, time.monotonic()
        while not self._stopping.wait(wait_s):
            began = time.monotonic()
            is_late = began - level_at > MAX_LAG_S
            has_sent = self._attempt(self._target.catch_up if is_late else self._target.advance)
            if has_sent is None:
                failures += 1
                wait_s = pause_s(failures, shortest_s=2 * self._poll_s, longest_s=MAX_BACKOFF_S, rng=self._rng)
                continue
            failures, now = 0, time.monotonic()
            if is_late or not has_sent:
                level_at = now
            busy_s = 0.0 if is_first else (now - began) * (1 / MAX_SHARE - 1)
            wait_s = max(self._poll_s, min(MAX_WAIT_S, busy_s))
            is_first = False  # which imports MLflow
        while time.monotonic() < self._deadline:
            self._caught_up = self._attempt(self._target.catch_up) is not None
            if self._caught_up:
                return
            time.sleep(POLL_S)

    def _attempt(self, send: Callable[[], bool]) -> bool | None:
        """Send once; return True if events were sent, and None after a failure."""
        try:
            has_sent = send()
        except Exception as error:  # noqa: BLE001  an outage of any kind
            reason = f"{type(error).__name__}: {one_line(error)}"
            if self.error is None:
                logger.warning("%s lags (%s); the event log has everything, retrying", self._name, reason)
            self.error = reason
            return None
        self.error = None
        return has_sent


def exporters_of(plan: SweepPlan, folder: SweepFolder) -> dict[str, Exporter]:
    """Return the exporters of a sweep. MLflow never gets an event before S3, from which other machines resume."""
    if folder.remote is None:
        return {"MLflow": Exporter(Tracker(plan, folder))}
    mirror = Mirror(folder, folder.remote)
    tracker = Tracker(plan, folder, until=lambda: mirror.sent_to)
    return {"S3": Exporter(mirror, name="S3", poll_s=MIRROR_S), "MLflow": Exporter(tracker)}


def flush(
    exporters: dict[str, Exporter], *, timeout_s: float, progressing: bool = False
) -> Iterator[tuple[str, str | None]]:
    """Stop every exporter within one timeout; yield the name and error of each that still lags.

    An exporter that is failing gets ``FAILING_S`` only: the log has all its events. If ``progressing``, one that lags
    gets more time as long as it makes progress.
    """
    deadline = time.monotonic() + timeout_s
    for name, exporter in exporters.items():
        fails = exporter.error is not None
        left = FAILING_S if fails else max(1.0, deadline - time.monotonic())
        if not exporter.stop(timeout_s=left, progressing=progressing and not fails):
            yield name, exporter.error


def lagging(exporters: dict[str, Exporter], num_events: int) -> list[str]:
    """Describe the lag of each exporter: its number of events to send, and the error if it fails."""
    lines = []
    for name, exporter in exporters.items():
        queue = num_events - exporter.num_sent
        if exporter.error is not None:
            lines.append(f"{name}: {queue} events to send, {exporter.error}")
        elif queue >= LONG_QUEUE:
            lines.append(f"{name}: {queue} events to send")
    return lines
