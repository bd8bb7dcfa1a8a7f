"""Settings that population based training cannot have, and those of it that no other scheduler has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator.errors import cut, quoted
from orchestrator.scheduling.population import interval_of
from search_spaces import Fixed, Problem, nearest
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import SchedulerSpec, SweepSpec

FIELDS = ("interval", "quantile", "resample", "perturb")
OTHERS = ("grace_period", "reduction_factor", "budget_fraction", "brackets", "resource", "strata", "audit")
MAX_NAMES_LENGTH = 300


def without_population_problems(scheduler: SchedulerSpec) -> list[Problem]:
    """Return the fields of population based training that are set for another scheduler."""
    usual = type(scheduler)()
    return [
        Problem(
            f"scheduler.{field}", f"must be left out for {scheduler.name}, as pbt alone has it; got {quoted(value)}"
        )
        for field in FIELDS
        if (value := _plain(getattr(scheduler, field))) != _plain(getattr(usual, field))
    ]


def population_problems(spec: SweepSpec, *, max_epochs: int | None) -> list[Problem]:
    """Return what a sweep under population based training cannot have; ``max_epochs`` is None where they are wrong."""
    return [*_field_problems(spec), *_size_problems(spec, max_epochs), *_perturbation_problems(spec)]


def _field_problems(spec: SweepSpec) -> Iterator[Problem]:
    scheduler, search, usual = spec.scheduler, spec.search, type(spec.scheduler)()
    if scheduler.kind == "stopping":
        yield Problem("scheduler.kind", "must be promotion or auto for pbt, whose members pause; got 'stopping'")
    for field in OTHERS:
        if (value := getattr(scheduler, field)) != getattr(usual, field):
            requirement = "must be left out for pbt, which has interval, quantile, resample and perturb"
            yield Problem(f"scheduler.{field}", f"{requirement}; got {quoted(_plain(value))}")
    if spec.objective.others:
        requirement = "must be one metric for scheduler pbt, which needs one order"
        yield Problem("objective", f"{requirement}; got {len(spec.objective.all)}")
    if search.seeds > 1:
        reason = "each member has its own seed; train its schedule with other seeds"
        yield Problem("search.seeds", f"must be 1 for scheduler pbt, as {reason}; got {search.seeds}")
    if spec.resources.workers > 1:
        requirement = "must be 1 for scheduler pbt, as a trial of several workers cannot continue another one"
        yield Problem("resources.workers", f"{requirement}; got {spec.resources.workers}")
    if not task_of(spec.trial).changeable:
        requirement = f"must be {CLASSIFIER.name} for scheduler pbt, as no other trial can continue another one"
        yield Problem("trial.task", f"{requirement}; got {quoted(task_of(spec.trial).name)}")
    for place, is_given in {
        "trial.seed": spec.trial.get("seed") is not None,
        "space.parameters.seed": "seed" in spec.space.names,
    }.items():
        if is_given:
            yield Problem(place, "must be left out for scheduler pbt, so that a copy has other batches than its parent")


def _size_problems(spec: SweepSpec, max_epochs: int | None) -> Iterator[Problem]:
    scheduler, members = spec.scheduler, spec.search.num_trials - 1
    least = max(3, math.ceil(1 / scheduler.quantile))
    if members < least:
        requirement = f"must be >= {least + 1} for scheduler pbt with quantile {scheduler.quantile:g}"
        reason = f"the baseline and {least} members, of which 1 is replaced at an interval"
        yield Problem("search.num_trials", f"{requirement}: {reason}; got {spec.search.num_trials}")
    if "epochs" in spec.space.names and spec.trial.get("epochs") is None:
        yield Problem(
            "space.parameters.epochs", "must be fixed in trial for scheduler pbt, whose members stay together"
        )
    elif max_epochs is not None and interval_of(scheduler.interval, max_epochs) >= max_epochs:
        requirement = f"must be below the epochs of a trial ({max_epochs}), or no member is ever replaced"
        yield Problem("scheduler.interval", f"{requirement}; got {quoted(scheduler.interval)}")


def _perturbation_problems(spec: SweepSpec) -> Iterator[Problem]:
    """Yield the parameters that cannot change in the middle of training, or are not searched."""
    task, named = task_of(spec.trial), spec.scheduler.perturb
    if not task.changeable:
        return
    searched = [name for name, domain in spec.space.parameters.items() if not isinstance(domain, Fixed)]
    able = [name for name in searched if task.may_change(name)]
    known = cut(", ".join(task.changeable), MAX_NAMES_LENGTH)
    if not able:
        yield Problem("space.parameters", f"must search one that may change in the middle of training: {known}")
        return
    for name in named:
        if name not in searched:
            closest = nearest(name, able)
            hint = f"; did you mean {closest!r}?" if closest else ""
            yield Problem("scheduler.perturb", f"must be parameters that are searched, got {quoted(name)}{hint}")
        elif name not in able:
            requirement = "must be parameters that may change in the middle of training"
            yield Problem("scheduler.perturb", f"{requirement} ({known}); got {quoted(name)}")
    if not named:
        remedy = f"fix it in trial, or name those that may: scheduler.perturb: [{', '.join(able)}]"
        for name in searched:
            if name not in able:
                message = f"cannot change in the middle of training, as scheduler pbt would have it; {remedy}"
                yield Problem(f"space.parameters.{name}", message)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
