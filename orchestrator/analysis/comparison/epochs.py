"""Epoch at which the trials of a sweep are compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError
from orchestrator.planning.seeds import searched_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState

LEAST_TRIALS = 12
"""Trials that an epoch needs, to be the one at which trials are compared by default."""


def comparable_epoch(plan: SweepPlan, state: SweepState, *, metrics: Sequence[str] = ()) -> int:
    """Return the highest epoch at which at least 12 trials measured the objective, or all of these metrics.

    If fewer than 12 trials have measured it at all, half of them are enough. If no epoch has as many, it is the one
    that most trials measured, the highest of equal ones.

    Raises:
        OrchestratorError: no trial has measured them yet.
    """
    return comparable_epochs(plan, state, metrics=metrics)[-1]


def comparable_epochs(plan: SweepPlan, state: SweepState, *, metrics: Sequence[str] = ()) -> list[int]:
    """Return all epochs that enough trials measured, in order; ``comparable_epoch`` is the last.

    Raises:
        OrchestratorError: no trial has measured them yet.
    """
    names = tuple(metrics) or (plan.spec.objective.metric,)
    trials = searched_state(plan, state).trials.values()
    epochs = [set.intersection(*(set(trial.values(name)) for name in names)) for trial in trials]
    counts = Counter(epoch for measured in epochs for epoch in measured)
    if not counts:
        what = " and ".join(names)
        raise OrchestratorError(f"{plan.sweep}: no trial has measured {what} yet; see `ravel logs {plan.sweep}`")
    num_measured = sum(bool(measured) for measured in epochs)
    enough = LEAST_TRIALS if num_measured >= LEAST_TRIALS else (num_measured + 1) // 2
    needed = min(enough, max(counts.values()))
    return sorted(epoch for epoch, count in counts.items() if count >= needed)


def epoch_of_best(plan: SweepPlan, state: SweepState) -> int:
    """Return the epoch at which the best trial is compared with others: its last, if it ran its full budget.

    Before any trial has, it is that of ``comparable_epoch``.

    Raises:
        OrchestratorError: no trial has measured the objective yet.
    """
    objective = plan.spec.objective
    best = searched_state(plan, state).best(objective)
    if best is None or best.status != "completed":
        return comparable_epoch(plan, state)
    return max(best.values(objective.metric))
