"""Check of a trial after an epoch: decide at the rungs that it has reached, from the state alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.decisions.rung import decide, stop_at
from orchestrator.decisions.trial_views import levels_after, values_at
from orchestrator.errors import OrchestratorError
from orchestrator.state.events import RungDecided
from orchestrator.state.ranking import is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import Trial


def continues_after(
    trial: Trial,
    epoch: int,
    *,
    decisions: DecisionState,
    store: EventStore,
    diverge: Callable[[str, str], None],
    clock: Callable[[], float],
) -> bool:
    """Append the decisions about a trial that has reported an epoch; return True if it continues.

    One decision for each (trial, rung), taken from the value measured at exactly that rung. ``diverge`` is called with
    a trial and the reason if its objective is not finite there.

    Raises:
        OrchestratorError: the epoch did not measure what the decision rests on.
    """
    plan, name = decisions.plan, trial.id
    rungs = plan.scheduler.rungs
    if (stop := stop_at(decisions, name, epoch)) is not None:
        store.append(RungDecided(time=clock(), **stop))
        return False
    for level in levels_after(trial, epoch, plan):
        if trial.blind_from is not None or (rungs is not None and level not in rungs):
            continue
        missing = [metric for metric in plan.spec.objective.metrics if metric not in trial.epochs[epoch]]
        if missing:
            raise OrchestratorError(
                f"{name}: epoch {epoch} did not measure {', '.join(missing)}, by which trials are compared at rung "
                f"{level}; it measured {', '.join(trial.epochs[epoch])}"
            )
        if not is_finite(values_at(trial, epoch, plan.spec)):
            diverge(name, f"{', '.join(plan.spec.objective.metrics)} not finite after epoch {epoch}")
            return False
        if level not in trial.rungs and (decision := decide(decisions, name, level)) is not None:
            store.append(RungDecided(time=clock(), **decision))
        if trial.rejected_at is not None:
            return False
    return True
