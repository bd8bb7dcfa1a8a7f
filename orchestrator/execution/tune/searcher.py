"""Adapter of Tune's searcher: hand out the trials of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from orchestrator.execution.trials.trial_queue import TrialQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.state.event_store import EventStore


class LogSearcher(TrialQueue, Searcher):
    """Searcher for Tune: a queue of trials.

    Args of note: ``wait`` is called while no trial is live, as Tune then asks in a loop of its own, and may raise to
    leave it.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        *,
        wait: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> None:
        Searcher.__init__(self, metric=None, mode=None)
        TrialQueue.__init__(self, decisions, store, **settings)
        self._wait = wait

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # noqa: ARG002  Tune's id; ours is in the config
        """Return the whole configuration of the next trial, ``FINISHED``, or None while every slot is taken."""
        if not self.num_live:
            self._wait()
        config = self.next_config()
        return str(Searcher.FINISHED) if config is None and self.is_finished else config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002  Tune's signature
        """Do nothing: the recorder appends the result to the event log."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the event log is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the event log is the state."""

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles its searcher into a file that is never read."""
        return {}
