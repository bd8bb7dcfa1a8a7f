"""Retention of checkpoints in a driver: drop them in the log where Tune's loop begins a step, then delete them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from orchestrator.decisions.retention import RetentionIndex
from orchestrator.execution.checkpoints.deletion import Deleter, all_dropped, dropped_folders
from orchestrator.state.events import CheckpointsDropped
from orchestrator.state.sweep_folder import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.exporters import Exporter
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)


class CheckpointRetention:
    """Keeps what ``storage.keep_best`` says.

    Args:
        decisions: State of the sweep, with the plan in force.
        store: Event store to append to.
        folder: Files of the sweep.
        deleter: Deletes what was dropped.
        clock: Time of events.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        deleter: Deleter,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._store, self._folder, self._deleter = decisions, store, folder, deleter
        self._clock, self._index = clock, RetentionIndex(store.state)
        self._decided_at: tuple[int, int | None] | None = None
        self._has_failed = False

    @classmethod
    def of_driver(
        cls,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        *,
        exporters: Mapping[str, Exporter],
        is_lost: Callable[[], bool],
    ) -> CheckpointRetention:
        """Return the retention of a driver, which deletes what the log has on disk, or in S3 if the sweep is there."""

        def num_recorded() -> int:
            mirror = exporters.get("S3")
            return store.state.num_events - store.pending if mirror is None else mirror.num_sent

        return cls(decisions, store, folder, Deleter(folder, num_recorded=num_recorded, is_lost=is_lost))

    def open(self) -> None:
        """Have deleted what earlier drivers dropped and did not delete, then drop what is due."""
        state = self._store.state
        self._deleter.check(all_dropped(state, self._folder), after=state.num_events)
        self.serve()

    def serve(self) -> None:
        """Drop what is due after the events so far; never raises an ``Exception``."""
        try:
            self._serve()
        except Exception:
            if not self._has_failed:
                logger.exception("checkpoints cannot be dropped; the sweep continues and keeps them")
            self._has_failed = True

    def finish(self, *, timeout_s: float) -> None:
        """Wait for the deletion of what was dropped."""
        self._deleter.finish(timeout_s=timeout_s)

    def cancel(self) -> None:
        """Delete nothing more: another driver has the sweep."""
        self._deleter.cancel()

    def warn_of_rest(self) -> None:
        """Say what is dropped and not deleted."""
        if self._deleter.num_left:
            logger.warning(
                "dropped checkpoints of %d attempts are not deleted yet; the next driver does it: ravel resume %s",
                self._deleter.num_left,
                reference(self._folder),
            )

    def _serve(self) -> None:
        state, spec = self._store.state, self._decisions.plan.spec
        keep_best = spec.storage.keep_best
        if keep_best is None or (state.num_events, keep_best) == self._decided_at:
            return
        with self._store.lock:
            for name in self._index.droppable(spec.objective, keep_best=keep_best):
                self._store.append(CheckpointsDropped(time=self._clock(), trial=name, keep_best=keep_best))
                self._deleter.put(dropped_folders(state.trials[name], self._folder), after=state.num_events)
            self._decided_at = state.num_events, keep_best
