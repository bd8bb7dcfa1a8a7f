"""A rung's decision as the log has it: a function of the state and the plan alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.decisions.promotion import is_audited
from orchestrator.decisions.trial_views import trial_views_of

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState


def judge(state: SweepState, plan: SweepPlan, trial: str, level: int) -> dict[str, Any] | None:
    """The fields of ``RungDecided`` for a trial that has just measured a level; None where nothing is decided.

    A trial that is stopped for good may be drawn for the audit at once; one that waits, when the sweep is over.
    """
    views = trial_views_of(state, plan)
    decision = plan.rule.judge(views, trial, level)
    if decision is None:
        return None
    sign = 1 if plan.spec.objective.mode == "max" else -1
    return {
        "trial": trial,
        "rung": level,
        "value": sign * views.views[trial].values[level][0],
        "cutoff": None if decision.cutoff is None else sign * decision.cutoff[0],
        "competitors": decision.competitors,
        "kept": decision.kept,
        "rungs": decision.rungs,
        "audited": not decision.kept and not plan.pauses and is_audited(plan, trial),
    }
