"""The thread that keeps a copy of the log up to date beside a sweep: it can be late, it cannot hurt training."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Protocol

from orchestrator.backoff import JITTER, pause_s
from orchestrator.redaction import one_line
from orchestrator.state.s3_mirror import Mirror
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
"""Of the time, that a copy may be busy while the sweep runs: what it and a server beside it take, trials lack."""
MAX_WAIT_S = 30.0
MAX_LAG_S = 60.0
"""For so long a copy may lack something; then it takes everything at once, whatever share of the time that is."""


class ExportTarget(Protocol):
    """What follows the event log: MLflow, by a ``Tracker``, or S3, by a ``Mirror``."""

    @property
    def num_sent(self) -> int:
        """How many events it holds."""

    def advance(self) -> bool:
        """Send some of what is new; True when there was something. What fails is sent again by the next call."""

    def catch_up(self) -> bool:
        """Send all that is new; True when there was something. What fails is sent again by the next call."""


class Exporter:
    """Brings a copy forward until it is stopped, a little at a time, waiting longer after work and after failures.

    Args of note: ``name`` is that of the copy, for messages; ``poll_s`` how long to wait after a success.
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
        """How many events the copy holds."""
        return self._target.num_sent

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self, *, timeout_s: float, progressing: bool = False) -> bool:
        """Send what is left and stop; False when it did not take everything in time (see ``error``).

        Args:
            timeout_s: how long to wait.
            progressing: wait on while the copy comes further within each such time.
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
        """StopSignals, and send nothing more than what is being sent."""
        self._deadline = -math.inf
        self._stopping.set()

    def _run(self) -> None:
        wait_s, failures, is_first, level_at = self._poll_s, 0, True, time.monotonic()
        while not self._stopping.wait(wait_s):
            began = time.monotonic()
            is_late = began - level_at > MAX_LAG_S
            found_any = self._attempt(self._target.catch_up if is_late else self._target.advance)
            if found_any is None:
                failures += 1
                wait_s = pause_s(failures, shortest_s=2 * self._poll_s, longest_s=MAX_BACKOFF_S, rng=self._rng)
                continue
            failures, now = 0, time.monotonic()
            if is_late or not found_any:
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
        """One round: whether there was anything to send; None when it failed."""
        try:
            found_any = send()
        except Exception as error:  # noqa: BLE001  an outage of any kind is waited out
            told = f"{type(error).__name__}: {one_line(error)}"
            if self.error is None:
                logger.warning("%s is behind (%s); the event log has everything, trying again", self._name, told)
            self.error = told
            return None
        self.error = None
        return found_any


def exporters_of(plan: SweepPlan, folder: SweepFolder) -> dict[str, Exporter]:
    """What follows the log beside the training; the copy that others go on from is brought up to date first."""
    if folder.remote is None:
        return {"MLflow": Exporter(Tracker(plan, folder))}
    mirror = Mirror(folder, folder.remote)
    tracker = Tracker(plan, folder, until=lambda: mirror.sent_to)
    return {"S3": Exporter(mirror, name="S3", poll_s=MIRROR_S), "MLflow": Exporter(tracker)}


def flush(
    exporters: dict[str, Exporter], *, timeout_s: float, progressing: bool = False
) -> Iterator[tuple[str, str | None]]:
    """Have every copy take what is left, all within one time; those that did not, and why.

    One that fails already is hardly waited for: everything it lacks is in the log. One that is only behind is waited
    for while it comes further, where ``progressing``.
    """
    deadline = time.monotonic() + timeout_s
    for name, exporter in exporters.items():
        fails = exporter.error is not None
        left = FAILING_S if fails else max(1.0, deadline - time.monotonic())
        if not exporter.stop(timeout_s=left, progressing=progressing and not fails):
            yield name, exporter.error


def lagging(exporters: dict[str, Exporter], num_events: int) -> list[str]:
    """What to tell of the copies of the log: how many events each has yet to take, and why where it fails."""
    told = []
    for name, exporter in exporters.items():
        queue = num_events - exporter.num_sent
        if exporter.error is not None:
            told.append(f"{name}: {queue} events to send, {exporter.error}")
        elif queue >= LONG_QUEUE:
            told.append(f"{name}: {queue} events to send")
    return told
