"""Workers of Tune, as far as orders reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
from ray.tune.experiment import Trial as TuneTrial

from orchestrator.execution.tune.placement import trial_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.execution.tune.searcher import LogSearcher


class TuneWorkers:
    """Ends and queues trials of a running Tune, between two steps of its loop.

    Args:
        searcher: Searcher that hands out the trials.
        controller_of: Returns Tune's controller, or None before there is one.
    """

    def __init__(self, searcher: LogSearcher, *, controller_of: Callable[[], Any]) -> None:
        self._searcher, self._controller_of = searcher, controller_of
        self._stopping: set[str] = set()

    def stop(self, trial: str) -> bool:
        """Kill the worker of a trial, so that its slot is free at once; return False if Tune does not have the trial.

        A worker in the middle of an epoch would answer only after it. Tune reports a killed one as lost, and the
        recorder then logs the end that was ordered.
        """
        live = self._live(trial)
        if live is None:
            self._searcher.dequeue(trial)
            return False
        if live.trial_id not in self._stopping:
            actor = live.temporary_state.ray_actor
            if live.status == TuneTrial.RUNNING and actor is not None:
                self._stopping.add(live.trial_id)
                ray.kill(actor)
            elif live.status == TuneTrial.PENDING and actor is None:
                self._stopping.add(live.trial_id)
                self._controller_of().request_stop_trial(live)
        return True

    def enqueue(self, trial: str) -> None:
        """Have a free worker continue a trial."""
        self._searcher.enqueue(trial)

    def _live(self, trial: str) -> TuneTrial | None:
        controller = self._controller_of()
        live = () if controller is None else controller.get_live_trials()
        return next((candidate for candidate in live if trial_name(candidate) == trial), None)
