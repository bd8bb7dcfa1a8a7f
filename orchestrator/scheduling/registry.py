"""Registry of schedulers: the one that a spec asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted.rung_schedule import DESIGNS, FIXED, NEWEST, RungSchedule
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.median import Median
from orchestrator.scheduling.own_scheduler import own_scheduler, promotes
from orchestrator.scheduling.pasha import Pasha
from orchestrator.scheduling.population import Pbt, interval_of
from orchestrator.scheduling.rungs import brackets, rungs
from orchestrator.spec.baseline import baseline_of, complete
from orchestrator.spec.trial_costs import mean_passes_of, passes_of, passes_of_point
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.spec.model import SweepSpec

FEW_SLOTS = 8
"""Up to so many slots, ``kind: auto`` promotes: docs/scheduling.md has the times to the best trial of both kinds."""

FACTOR = 3
MEDIAN_GRACE = 9
"""The median rule stops no trial in the first ninth of the epochs, unless the spec says otherwise."""

LEAST_OF_A_FRONT = 5
"""Trials that end at least with several objectives, which make a front to choose from."""

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
    if scheduler.chosen in {"none", "median"}:
        return False
    if spec.search.seeds > 1:  # a seed waits at its rung for the others
        return True
    if scheduler.chosen in {"pasha", "pbt"} or scheduler.kind == "promotion":
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
    if scheduler.chosen == "none":
        return NoStopping()
    if scheduler.name == "pbt":
        interval = interval_of(scheduler.interval, max_epochs)
        return Pbt(tuple(range(interval, max_epochs, interval)), scheduler.quantile)
    if scheduler.is_budgeted:
        return _budgeted(spec, schedule or rung_schedule_of(spec, max_epochs=max_epochs), pauses=pauses)
    factor = FACTOR if scheduler.reduction_factor == "auto" else scheduler.reduction_factor
    grace = 1 if scheduler.grace_period == "auto" else scheduler.grace_period
    if scheduler.chosen == "median":
        return Median(max(1, max_epochs // MEDIAN_GRACE) if scheduler.grace_period == "auto" else grace)
    maximum = max_epochs if scheduler.rung_unit == "epochs" else grace * factor**MOST_RUNGS
    if scheduler.chosen == "pasha":
        return Pasha(rungs(grace, factor, maximum), factor)
    count = len(rungs(grace, factor, maximum)) + 1 if scheduler.chosen == "hyperband" else scheduler.brackets
    return Asha(brackets(grace, factor, maximum, count), factor, pauses)


def rung_schedule_of(spec: SweepSpec, *, max_epochs: int, design: int = NEWEST) -> RungSchedule:
    """Return the rung schedule of a budget; by default as this version designs it.

    With ``resource: auto`` the budget counts gradient evaluations where trials differ in these, else epochs.
    """
    is_priced = design > 1 and _counts_passes(spec)
    if not is_priced:
        design = min(design, FIXED - 1)
    factor, num_trials = spec.scheduler.reduction_factor, max(1, spec.search.num_trials - 1)
    schedule = RungSchedule.within(
        fraction_of(spec, design=design),
        num_trials=num_trials,
        maximum=max_epochs,
        design=design,
        factor=None if factor == "auto" else factor,
        seeds=spec.search.seeds,
        least=least_complete(spec, design=design),
    )
    if not is_priced:
        return schedule
    mean = mean_cost_of(spec) if design >= FIXED else None
    return replace(schedule, resource="gradient_evaluations", most_passes=passes_of(spec).most, mean_passes=mean)


def _counts_passes(spec: SweepSpec) -> bool:
    """Return True if a budget is of gradient evaluations: the spec says so, or trials differ in them."""
    passes = passes_of(spec)
    resource = spec.scheduler.resource
    return resource == "gradient_evaluations" or (resource == "auto" and passes.least < passes.most)


def fraction_of(spec: SweepSpec, *, design: int) -> float:
    """Return the share of the cost of all trials but the baseline that these may use.

    The baseline is always trained to its end. Since design 2 the budget pays for it, since design 3 what it costs.

    >>> from orchestrator.spec.model import SweepSpec
    >>> round(fraction_of(SweepSpec(name="a", search={"num_trials": 11}), design=2), 6)
    0.23
    """
    fraction, num_trials = spec.scheduler.budget_fraction, spec.search.num_trials
    if design == 1 or num_trials == 1:
        return fraction
    baseline = 1.0 if design < FIXED else _baseline_cost(spec)
    return (fraction * num_trials - baseline) / (num_trials - 1)


def mean_cost_of(spec: SweepSpec) -> float:
    """Return the mean passes of an epoch of the trials that a spec alone tells: the given points, and random ones."""
    count = max(1, spec.search.num_trials - 1)
    task = task_of(spec.trial)
    points = [complete(spec.space, point, task=task) for point in spec.search.points[:count]]
    if not points:
        return mean_passes_of(spec)
    of_points = sum(passes_of_point(spec, point) for point in points)
    return (of_points + (count - len(points)) * mean_passes_of(spec)) / count


def _baseline_cost(spec: SweepSpec) -> float:
    """Return the cost of the baseline in that of a mean trial."""
    return passes_of_point(spec, baseline_of(spec)) / mean_cost_of(spec)


def whole_budget(spec: SweepSpec, schedule: RungSchedule) -> float:
    """Return the epochs of a mean trial that a schedule and the baseline cost, where the budget pays for the baseline.

    >>> from orchestrator.spec.model import SweepSpec
    >>> spec = SweepSpec(name="a", search={"num_trials": 64}, trial={"epochs": 27})
    >>> round(whole_budget(spec, rung_schedule_of(spec, max_epochs=27)) / (64 * 27), 6)
    0.3
    """
    baseline = (0.0, 1.0, _baseline_cost(spec))[min(schedule.design, FIXED) - 1]
    return schedule.budget + schedule.maximum * schedule.seeds * baseline


def least_complete(spec: SweepSpec, *, design: int) -> int:
    """Return the number of trials that end at least, if the budget allows: with several objectives, a front of them."""
    return LEAST_OF_A_FRONT if spec.objective.others and design > 1 else 1


def _budgeted(spec: SweepSpec, schedule: RungSchedule, *, pauses: bool) -> Scheduler:
    may_end_at_any_time = spec.budget.wall_clock_s is not None or spec.budget.gpu_s is not None
    if not pauses or may_end_at_any_time:  # with a time budget a rung may never fill: promote asynchronously
        factor = spec.scheduler.reduction_factor
        return Asha((schedule.rungs,), DESIGNS[schedule.design].cut if factor == "auto" else factor, pauses)
    return BudgetedAsha(schedule)
