"""Decision at a rung as the log records it: a function of the plan and the events before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.decisions.promotion import is_audited
from orchestrator.decisions.seeds import decide_seed, is_out
from orchestrator.decisions.trial_views import levels_after

if TYPE_CHECKING:
    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.state.sweep_state import Trial


def decide(decisions: DecisionState, trial: str, level: int) -> dict[str, Any] | None:
    """Return the fields of ``RungDecided`` for a trial that has just measured a level; None if nothing is decided.

    A trial that is stopped for good may be sampled for the audit at once; one that is paused, when the sweep is over.
    """
    if decisions.is_seeded:
        return decide_seed(decisions, trial, level)
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
        "outcome": None,
        "mean": None,
        "reason": None,
    }


def stop_at(decisions: DecisionState, trial: str, epoch: int) -> dict[str, Any] | None:
    """Return the fields of ``RungDecided`` for a trial that stops after an epoch, whatever it has measured, or None.

    It is a seed of a configuration that racing has dropped, or that lost another seed.
    """
    if not is_out(decisions, trial) or epoch in decisions.state.trials[trial].rungs:
        return None
    return decide_seed(decisions, trial, epoch)


def late_decision(decisions: DecisionState, trial: Trial) -> dict[str, Any] | None:
    """Return the fields of the next decision about a trial whose last epoch was its end until an order extended it.

    Tune shows its scheduler every epoch but the last one, and a trial that ended has no other to show. None if the plan
    has as many epochs as at the launch, or nothing is left to decide.
    """
    plan = decisions.plan
    if plan.max_epochs == plan.launched.max_epochs or not trial.epoch or trial.epoch >= trial.budget:
        return None
    if trial.blind_from is not None or trial.rejected_at is not None:
        return None
    rungs = plan.scheduler.rungs
    levels = levels_after(trial, trial.epoch, plan)
    open_levels = [level for level in levels if level not in trial.rungs and (rungs is None or level in rungs)]
    made = (decide(decisions, trial.id, level) for level in open_levels)
    return next((fields for fields in made if fields is not None), None)
