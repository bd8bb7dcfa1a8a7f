"""Event log of a running sweep, read as it grows."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from orchestrator.state.event_log import read_events
from orchestrator.state.events import SweepEnded
from orchestrator.state.s3_mirror import pull
from orchestrator.state.sweep_lock import is_held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.state.events import Event
    from orchestrator.state.sweep_folder import SweepFolder

POLL_S, POLL_S3_S = 0.25, 2.0


def follow_events(folder: SweepFolder, *, start: int = 0, timeout_s: float = math.inf) -> Iterator[Event]:
    """Yield the events of a log, and those that its driver appends until the sweep ends.

    Nothing is waited for where no driver runs the sweep: the log is yielded as it is.

    Args:
        folder: Files of the sweep.
        start: Offset in the log from which to read.
        timeout_s: Longest time to follow.

    Raises:
        LogDamaged: see ``read_events``.
        StorageError: the sweep is in S3, which does not answer.
    """
    deadline, poll_s = time.monotonic() + timeout_s, POLL_S if folder.remote is None else POLL_S3_S
    last: Event | None = None
    while True:
        runs, is_late = is_held(folder), time.monotonic() >= deadline  # before reading: what it wrote last is read
        if folder.remote is not None:
            pull(folder)
        for event, end in read_events(folder.events, start):
            last, start = event, end
            yield event
        if not runs or is_late or isinstance(last, SweepEnded):
            return
        time.sleep(poll_s)
