"""Decision at a rung as the log records it: a function of the plan and the events before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.decisions.promotion import is_audited

if TYPE_CHECKING:
    from orchestrator.decisions.trial_views import DecisionState


def decide(decisions: DecisionState, trial: str, level: int) -> dict[str, Any] | None:
    """Return the fields of ``RungDecided`` for a trial that has just measured a level; None if nothing is decided.

    A trial that is stopped for good may be sampled for the audit at once; one that is paused, when the sweep is over.
    """
    plan, views = decisions.plan, decisions.views
    decision = plan.scheduler.decide(views, trial, level)
    if decision is None:
        return None
    sign = 1 if plan.spec.objective.mode == "max" else -1
    return {
        "trial": trial,
        "rung": level,
        "value": sign * views[trial].values[level][0],
        "cutoff": None if decision.cutoff is None else sign * decision.cutoff[0],
        "competitors": decision.competitors,
        "kept": decision.kept,
        "rungs": decision.rungs,
        "audited": not decision.kept and not plan.pauses and is_audited(plan, trial),
    }
