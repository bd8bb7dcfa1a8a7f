"""Promotion: the paused trial that a free worker resumes, or the next step of a population or of several seeds."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from orchestrator.decisions.population import next_member_step
from orchestrator.decisions.seeds import next_seed_step
from orchestrator.decisions.steps import Promotion
from orchestrator.planning.seeds import derive_seed

if TYPE_CHECKING:
    from orchestrator.decisions.steps import Step
    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.trial_views import TrialView

SEEDS = 2**31


def next_step(decisions: DecisionState, *, now: float) -> Step | None:
    """Choose what a free worker is for before a new point is proposed; None if nothing comes before."""
    if decisions.plan.spec.scheduler.name == "pbt":
        return next_member_step(decisions, now=now)
    return next_seed_step(decisions, now=now) if decisions.is_seeded else next_promotion(decisions, now=now)


def next_promotion(decisions: DecisionState, *, now: float) -> Promotion | None:
    """Choose the paused trial to promote before any new one is started; None if none may be.

    The audited ones come last, when no other trial runs or will: no decision rests on them.
    """
    plan, views, budget = decisions.plan, decisions.views, decisions.budget
    if not plan.pauses or budget.is_spent(now=now):
        return None
    unstarted = budget.unstarted(now=now)
    trial = plan.scheduler.promote(views, unstarted=unstarted)
    if trial is not None:
        return Promotion(trial, views[trial].level)
    if unstarted or not views.is_quiet:
        return None
    trial = views.index(AuditIndex, plan.spec.search.seed, plan.spec.scheduler.audit).first
    return None if trial is None else Promotion(trial, views[trial].level, audited=True)


def is_audited(plan: SweepPlan, trial: str) -> bool:
    """Return True if a trial runs on though it was rejected: sampled by its name alone, blind to what it measured."""
    return _is_sampled(trial, plan.spec.search.seed, plan.spec.scheduler.audit)


def _is_sampled(trial: str, seed: int, share: float) -> bool:
    return derive_seed(seed, "audit", trial) < share * SEEDS


class AuditIndex:
    """Paused trials that are sampled for the audit, in the order they were started."""

    def __init__(self, seed: int, share: float) -> None:
        self._seed, self._share = seed, share
        self._paused: list[tuple[int, str]] = []

    @property
    def first(self) -> str | None:
        """First of them."""
        return self._paused[0][1] if self._paused else None

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:
        """Replace what a view contributed."""
        was_paused, is_paused = old is not None and old.state == "paused", new.state == "paused"
        if was_paused == is_paused or not _is_sampled(new.trial, self._seed, self._share):
            return
        if was_paused:
            del self._paused[bisect_left(self._paused, (number, new.trial))]
        else:
            insort(self._paused, (number, new.trial))
