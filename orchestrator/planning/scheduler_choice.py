"""Scheduler that ``auto`` chose and the reason in one line, for ``ravel plan`` and the plan of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.spec.trial_costs import passes_of

if TYPE_CHECKING:
    from orchestrator.scheduling.rung_schedule import RungSchedule
    from orchestrator.spec.model import SweepSpec


def scheduler_choice(spec: SweepSpec, schedule: RungSchedule | None, *, pauses: bool) -> str:
    """Return the scheduler and the unit of its budget in words, with the reason; "" where the spec names both.

    >>> from orchestrator.spec.model import SweepSpec
    >>> scheduler_choice(SweepSpec(name="a", scheduler={"grace_period": 3}), None, pauses=False)
    'asha that stops trials, at the rungs of grace_period 3'
    """
    scheduler = spec.scheduler
    is_chosen = scheduler.name == "auto" or (schedule is not None and scheduler.resource == "auto")
    if scheduler.own is not None or not is_chosen:
        return ""
    kind = f"{scheduler.chosen} that {'pauses and promotes' if pauses else 'stops'} trials"
    if schedule is None:
        return f"{kind}, at the rungs of grace_period {scheduler.grace_period}"
    unit = schedule.resource.replace("_", " ")
    return f"{kind}: its rungs follow from budget_fraction {scheduler.budget_fraction:g} of all {unit}, {_why(spec)}"


def _why(spec: SweepSpec) -> str:
    """Return the reason for the unit of the budget."""
    if spec.scheduler.resource != "auto":
        return "as scheduler.resource says"
    passes = passes_of(spec)
    if passes.least == passes.most:
        return f"as an epoch has {passes.most} gradient evaluation{'' if passes.most == 1 else 's'} in every trial"
    return f"as an epoch has {passes.least} to {passes.most} gradient evaluations, depending on the trial"
