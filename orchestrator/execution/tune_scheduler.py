"""Tune's door to the rules: records what a trial reported, then decides from the state alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.decisions.rung import judge
from orchestrator.decisions.trial_views import levels_after, values_at
from orchestrator.errors import OrchestratorError
from orchestrator.state.events import RungDecided
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import Trial


class Clerk(Protocol):
    """Who writes down what trials do, and how they end."""

    def record(self, trial: TuneTrial, result: dict[str, Any]) -> Trial:
        """Write down one result, once, and return the trial as the state has it."""

    def diverge(self, trial: str, reason: str) -> None:
        """Have the trial end as diverged when it leaves its worker."""


class LogScheduler(FIFOScheduler):
    """Starts trials in order, and stops those that a rung rejects; whether they wait there is the plan's to say.

    One decision for each (trial, rung), taken from the value measured exactly there. Tune asks its scheduler before it
    tells its callbacks, and no decision may rest on something the log does not hold: hence the ``clerk``.
    """

    def __init__(
        self, plan: SweepPlan, store: EventStore, clerk: Clerk, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._plan, self._store, self._clerk, self._clock = plan, store, clerk, clock

    def on_trial_result(self, tune_controller: object, trial: TuneTrial, result: dict[str, Any]) -> str:  # noqa: ARG002  Tune's signature
        """CONTINUE, or STOP where a rung rejects the trial.

        Raises:
            OrchestratorError: the epoch did not measure what the decision rests on.
        """
        goes_on = self._goes_on(self._clerk.record(trial, result), int(result["epoch"]))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _goes_on(self, trial: Trial, epoch: int) -> bool:
        plan, name = self._plan, trial.id
        for level in levels_after(trial, epoch, plan):
            if trial.blind_from is not None or (plan.rule.rungs is not None and level not in plan.rule.rungs):
                continue
            missing = [metric for metric in plan.spec.objective.metrics if metric not in trial.epochs[epoch]]
            if missing:
                raise OrchestratorError(
                    f"{name}: epoch {epoch} did not measure {', '.join(missing)}, by which trials are compared at rung "
                    f"{level}; it measured {', '.join(trial.epochs[epoch])}"
                )
            if not is_finite(values_at(trial, epoch, plan.spec)):
                self._clerk.diverge(name, f"{', '.join(plan.spec.objective.metrics)} not finite after epoch {epoch}")
                return False
            if level not in trial.rungs and (decision := judge(self._store.state, plan, name, level)) is not None:
                self._store.append(RungDecided(time=self._clock(), **decision))
            if trial.rejected_at is not None:
                return False
        return True
