"""Choices of ``auto`` in words, with reasons, for ``ravel plan`` and the plan of a sweep: sampler and scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.spec.trial_costs import passes_of

if TYPE_CHECKING:
    from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
    from orchestrator.spec.model import SweepSpec

RANDOM_SHARE = 0.5
"""Share of a sweep's trials that are sampled at random before any is screened."""
MOST_RANDOM = 64
"""At most so many, in a large sweep."""
SCREENED_SHARE = 0.8
"""Share of the later points that are screened; the rest is sampled at random."""
FEWEST_RANKED = 10
"""Trials that must be comparable before a point is screened."""


def num_random(spec: SweepSpec) -> int:
    """Return the number of trials before the first screened one; those that come first are among them.

    >>> from orchestrator.spec.model import SweepSpec
    >>> [num_random(SweepSpec(name="a", search={"num_trials": num_trials})) for num_trials in (8, 64, 1000)]
    [10, 32, 64]
    """
    return max(FEWEST_RANKED, min(MOST_RANDOM, round(RANDOM_SHARE * spec.search.num_trials)))


def sampler_choice(spec: SweepSpec) -> str | None:
    """Return what ``auto`` chooses for a sweep, and why, in one line; None for another sampler.

    >>> from orchestrator.spec.model import SweepSpec
    >>> sampler_choice(SweepSpec(name="a", search={"num_trials": 64}))
    'auto: 32 trials at random, then 4 of 5 points screened, as the order of early values tells good regions from bad'
    >>> sampler_choice(SweepSpec(name="a", search={"num_trials": 8}))
    'auto: all points at random, as 8 trials are too few to learn from'
    """
    if spec.search.sampler != "auto":
        return None
    first, num_trials = num_random(spec), spec.search.num_trials
    if num_trials <= first:
        return f"auto: all points at random, as {num_trials} trials are too few to learn from"
    of_five = round(5 * SCREENED_SHARE)
    reason = "as the order of early values tells good regions from bad"
    return f"auto: {first} trials at random, then {of_five} of 5 points screened, {reason}"


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
