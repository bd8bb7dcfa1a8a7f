"""Whose promotion it is: which waiting trial a free worker goes on with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.decisions.trial_views import trial_views_of
from orchestrator.planning.budget import is_spent
from orchestrator.planning.seeds import derive_seed
from orchestrator.state.sweep_state import OVER

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState

SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Promotion:
    """A trial goes on from the rung it waits at; ``audited`` if only to show whether it was right to leave it there."""

    trial: str
    rung: int
    audited: bool = False


def next_promotion(state: SweepState, plan: SweepPlan, *, unstarted: int, now: float) -> Promotion | None:
    """The waiting trial that goes on before any new one is started; None where there is none.

    The audited ones come last, when no other trial runs or will: nothing that is decided rests on them.
    """
    if not plan.pauses or not (waiting := _waiting(state)) or is_spent(plan, state, now=now):
        return None
    views = trial_views_of(state, plan)
    trial = plan.rule.resume(views, unstarted=unstarted)
    if trial is not None:
        return Promotion(trial, waiting[trial])
    if unstarted or not views.is_quiet():
        return None
    drawn = next((name for name in waiting if is_audited(plan, name)), None)
    return None if drawn is None else Promotion(drawn, waiting[drawn], audited=True)


def is_audited(plan: SweepPlan, trial: str) -> bool:
    """Whether a trial runs on though it was rejected: drawn by its name alone, blind to what it measured."""
    return derive_seed(plan.spec.search.seed, "audit", trial) < plan.spec.scheduler.audit * SEEDS


def _waiting(state: SweepState) -> dict[str, int]:
    """The trials that wait, or will once they have left their workers, and where."""
    return {
        trial.id: trial.rejected_at
        for trial in state.trials.values()
        if trial.rejected_at is not None and trial.status not in OVER
    }
