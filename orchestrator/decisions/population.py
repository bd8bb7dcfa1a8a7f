"""Next steps of a population: a paused member resumes, or a perturbed copy of a better one takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.decisions.steps import Descendant, Promotion
from orchestrator.planning.seeds import derive_seed, next_trial_id
from orchestrator.planning.trial_configs import trial_config
from orchestrator.scheduling.population import Pbt
from orchestrator.state.events import Descent, TrialCreated
from orchestrator.state.trial import OVER

if TYPE_CHECKING:
    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.state.sweep_state import Trial


def next_member_step(decisions: DecisionState, *, now: float) -> Promotion | Descendant | None:
    """Choose the member of a population that a free worker resumes or replaces; None before all have started.

    A function of the spec, the state and the seed of the search: which of the best is copied, and how it is perturbed,
    follows from the id of the member that is replaced and its rung.
    """
    plan, views, state = decisions.plan, decisions.views, decisions.state
    scheduler = plan.scheduler
    assert isinstance(scheduler, Pbt), "asked of a population alone"  # noqa: S101  our own bookkeeping
    if decisions.budget.is_spent(now=now):
        return None
    member = scheduler.promote(views, unstarted=decisions.budget.unstarted(now=now))
    if member is None:
        return None
    rung = views[member].level
    best = [state.trials[name] for name in scheduler.parents(views, member)]
    parents = [trial.id for trial in best if is_continuable(trial, rung)]
    if not parents:
        return Promotion(member, rung)
    seed = derive_seed(plan.spec.search.seed, "pbt", member, str(rung))
    parent = parents[seed % len(parents)]
    changed = plan.spec.space.perturb(
        state.trials[parent].point,
        plan.spec.scheduler.perturb or plan.spec.space.names,
        resample=plan.spec.scheduler.resample,
        seed=seed,
    )
    name = next_trial_id(state.trials, count=len(state.trials), num_trials=plan.spec.search.num_trials)
    return Descendant(name, changed.point, Descent(parent=parent, epoch=rung, replaces=member, changes=changed.changes))


def is_continuable(trial: Trial, epoch: int) -> bool:
    """Return True if a trial is not over and has a checkpoint of an epoch, or is about to save it."""
    if trial.status in OVER:  # its checkpoints may be dropped
        return False
    return has_checkpoint(trial, epoch) or (trial.status == "running" and trial.rejected_at == epoch)


def has_checkpoint(trial: Trial, epoch: int) -> bool:
    """Return True if a checkpoint of this epoch is complete."""
    return any(saved.epoch == epoch for saved in trial.checkpoints)


def may_begin(decisions: DecisionState, step: Descendant) -> bool:
    """Return True if the replaced member has left its worker, and the parent has saved what is continued."""
    trials, descent = decisions.state.trials, step.descent
    return trials[descent.replaces].status == "paused" and has_checkpoint(trials[descent.parent], descent.epoch)


def created(decisions: DecisionState, step: Descendant, *, now: float) -> TrialCreated:
    """Return the event that begins a descendant."""
    config = trial_config(decisions.plan, step.trial, step.point)
    return TrialCreated(time=now, trial=step.trial, origin="pbt", point=step.point, config=config, descent=step.descent)
