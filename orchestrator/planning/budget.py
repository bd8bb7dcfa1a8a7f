"""The budget of a sweep: when no further trial is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState


def is_spent(plan: SweepPlan, state: SweepState, *, now: float) -> bool:
    """Whether the budget is used up, so that no further trial is started (those that run go on to their end)."""
    budget = plan.spec.budget
    return (
        _is_reached(budget.wall_clock_s, lambda: 0.0 if state.started_at is None else now - state.started_at)
        or _is_reached(budget.gpu_s, lambda: state.total("cost/gpu_s"))
        or (budget.target is not None and _is_on_target(plan, state, budget.target))
    )


def _is_reached(limit: float | None, used: Callable[[], float]) -> bool:
    return limit is not None and used() >= limit


def _is_on_target(plan: SweepPlan, state: SweepState, target: float) -> bool:
    """Whether any trial's last value of the objective is as good as the target."""
    objective = plan.spec.objective
    scores = (trial.score(objective) for trial in state.trials.values())
    return any(score is not None and not objective.is_better(target, score) for score in scores)


def unstarted(plan: SweepPlan, state: SweepState, *, now: float) -> int:
    """How many new trials may yet be started."""
    return 0 if is_spent(plan, state, now=now) else max(0, plan.spec.search.num_trials - len(state.trials))
