"""Registry of schedulers: the one that a spec asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted import CUT, SPACING, BudgetedAsha, RungSchedule
from orchestrator.scheduling.median import Median
from orchestrator.scheduling.own_scheduler import own_scheduler, promotes
from orchestrator.scheduling.pasha import Pasha
from orchestrator.scheduling.population import Pbt, interval_of
from orchestrator.scheduling.rungs import brackets, rungs

if TYPE_CHECKING:
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.spec.model import SweepSpec

FEW_SLOTS = 8
"""Up to so many slots, ``kind: auto`` promotes: docs/scheduling.md has the times to the best trial of both kinds."""

FACTOR = 3
MEDIAN_GRACE = 9
"""The median rule stops no trial in the first ninth of the epochs, unless the spec says otherwise."""

MOST_RUNGS = 10
"""Of a resource whose maximum differs from trial to trial."""


def pauses(spec: SweepSpec, *, slots: int) -> bool:
    """Return True if rejected trials are paused (``promotion``), not over (``stopping``), with so many slots.

    >>> from orchestrator.spec.model import SweepSpec
    >>> pauses(SweepSpec(name="a"), slots=64), pauses(SweepSpec(name="a", scheduler={"grace_period": 3}), slots=64)
    (True, False)
    """
    scheduler = spec.scheduler
    if scheduler.own is not None:
        return promotes(scheduler.own, kind=scheduler.kind, few_slots=slots <= FEW_SLOTS)
    if scheduler.name in {"none", "median"}:
        return False
    if spec.search.seeds > 1:  # a seed waits at its rung for the others
        return True
    if scheduler.name in {"pasha", "pbt"} or scheduler.kind == "promotion":
        return True
    return scheduler.kind == "auto" and (scheduler.is_budgeted or slots <= FEW_SLOTS)


def scheduler_of(spec: SweepSpec, *, pauses: bool, max_epochs: int, schedule: RungSchedule | None = None) -> Scheduler:
    """Return the scheduler of a sweep; a function of its spec, of ``pauses`` and of the epochs of a full run alone.

    ``schedule`` is that of a sweep which has begun; by default the one that this version makes.

    >>> from orchestrator.spec.model import SweepSpec
    >>> scheduler_of(SweepSpec(name="a", scheduler={"name": "none"}), pauses=False, max_epochs=9)
    NoStopping(pauses=False, rungs=())

    Raises:
        ValueError: more brackets than the epochs have room for.
        SpecError: a user's own scheduler cannot be imported, takes no such arguments, or is none.
        OwnCodeFailed: it raises when it is made.
    """
    scheduler = spec.scheduler
    if scheduler.own is not None:
        provided = {"max_epochs": max_epochs, "num_trials": spec.search.num_trials, "pauses": pauses}
        return own_scheduler(scheduler.own, provided)
    if scheduler.name == "none":
        return NoStopping()
    if scheduler.name == "pbt":
        interval = interval_of(scheduler.interval, max_epochs)
        return Pbt(tuple(range(interval, max_epochs, interval)), scheduler.quantile)
    if scheduler.is_budgeted:
        return _budgeted(spec, schedule or rung_schedule_of(spec, max_epochs=max_epochs), pauses=pauses)
    factor = FACTOR if scheduler.reduction_factor == "auto" else scheduler.reduction_factor
    grace = 1 if scheduler.grace_period == "auto" else scheduler.grace_period
    if scheduler.name == "median":
        return Median(max(1, max_epochs // MEDIAN_GRACE) if scheduler.grace_period == "auto" else grace)
    maximum = max_epochs if scheduler.resource == "epochs" else grace * factor**MOST_RUNGS
    if scheduler.name == "pasha":
        return Pasha(rungs(grace, factor, maximum), factor)
    count = len(rungs(grace, factor, maximum)) + 1 if scheduler.name == "hyperband" else scheduler.brackets
    return Asha(brackets(grace, factor, maximum, count), factor, pauses)


def rung_schedule_of(spec: SweepSpec, *, max_epochs: int) -> RungSchedule:
    """Return the rung schedule of a budget. The baseline is always trained to its end, and costs the budget nothing."""
    factor, fraction = spec.scheduler.reduction_factor, spec.scheduler.budget_fraction
    spacing, cut = (SPACING, CUT) if factor == "auto" else (factor, float(factor))
    num_trials = max(1, spec.search.num_trials - 1)
    return RungSchedule.within(
        fraction, num_trials=num_trials, maximum=max_epochs, spacing=spacing, cut=cut, seeds=spec.search.seeds
    )


def _budgeted(spec: SweepSpec, schedule: RungSchedule, *, pauses: bool) -> Scheduler:
    may_end_at_any_time = spec.budget.wall_clock_s is not None or spec.budget.gpu_s is not None
    if not pauses or may_end_at_any_time:  # with a time budget a rung may never fill: promote asynchronously
        factor = spec.scheduler.reduction_factor
        return Asha((schedule.rungs,), CUT if factor == "auto" else factor, pauses)
    return BudgetedAsha(schedule)
