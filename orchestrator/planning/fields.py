"""Validate the fields of a spec that must fit together: objectives, sampler, scheduler, addresses and folders."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.errors import cut, quoted
from orchestrator.planning.folders import folder_problems
from orchestrator.planning.points import epochs_of, max_epochs_of
from orchestrator.scheduling.population_problems import FIELDS as OF_POPULATIONS
from orchestrator.scheduling.population_problems import population_problems, without_population_problems
from orchestrator.scheduling.registry import scheduler_of
from orchestrator.spec.model import MAX_TRIALS
from orchestrator.spec.tracking_address import address_problem
from search_spaces import Problem, SearchSpace, nearest
from trainables.config.own_metrics import is_own, labels_among
from trainables.config.trial import TrialConfig
from trainables.tasks.gan.config import GanConfig
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.spec.model import Resources, SchedulerSpec, SweepSpec
    from trainables.tasks.registry import AnyConfig

MAX_COMBINATIONS = 50_000
"""Of a grid with constraints that are tried for its points."""
MAX_LIST_LENGTH = 200
"""Of the valid names in a message."""
SHARES = 10_000
"""Of one resource, as Ray counts."""
DECIMALS = (2, 3, 4)
CLOSE = 0.01
"""A share that is so close to a whole fraction of a GPU is meant to be one."""
FIELD_OF_RESOURCE = MappingProxyType({"CPU": "cpus", "GPU": "gpus"})


def field_problems(spec: SweepSpec) -> list[Problem]:
    """Return the problems of fields that do not fit together."""
    problems = [*_unmeasured_problems(spec), *folder_problems(spec)]
    if spec.tracking.uri is not None and (problem := address_problem(spec.tracking.uri)) is not None:
        problems.append(Problem("tracking.uri", problem))
    first = 1 + len(spec.search.points)
    if spec.search.num_trials < first:
        requirement = f"must be >= {first}: the baseline and each of search.points run first"
        problems.append(Problem("search.num_trials", f"{requirement}, got {spec.search.num_trials}"))
    if spec.resources.gpus != "auto" and spec.resources.gpus > 1:
        requirement = "must be 'auto' or at most 1, as a trial uses one device"
        problems.append(Problem("resources.gpus", f"{requirement}; got {quoted(spec.resources.gpus)}"))
    problems += [*_worker_problems(spec), *_resource_problems(spec.resources)]
    problems += [*scheduler_problems(spec), *_sampler_problems(spec, first), *_seed_problems(spec)]
    if "val/robust_accuracy" in spec.objective.metrics:
        requirement = "must be > 0 to measure the objective val/robust_accuracy"
        problems += [Problem(place, requirement) for place in _without_attack(spec)]
    return [*problems, *_feature_problems(spec)]


def _worker_problems(spec: SweepSpec) -> list[Problem]:
    """Return the problems of trials with several workers: a task that has one, a GPU that they would share."""
    task, resources = task_of(spec.trial), spec.resources
    if resources.workers == 1:
        return [] if resources.strategy == "pack" else [_without_effect(resources)]
    problems = list[Problem]()
    if not task.has_shares:
        remedy = "leave it out, and give the trial more of resources.cpus"
        problems.append(
            Problem("resources.workers", f"must be 1 for task {task.name}, got {resources.workers}; {remedy}")
        )
    if resources.gpus != "auto" and 0 < resources.gpus < 1:
        requirement = "must be 'auto', 0 or 1 with several workers, as two of a trial cannot share a GPU"
        problems.append(Problem("resources.gpus", f"{requirement}; got {quoted(resources.gpus)}"))
    return problems


def _without_effect(resources: Resources) -> Problem:
    requirement = "must be left out with one worker, as Ray gives each trial the node with the most room already"
    return Problem("resources.strategy", f"{requirement}; got {quoted(resources.strategy)}")


def share_problems(spec: SweepSpec, configs: Iterable[AnyConfig]) -> list[Problem]:
    """Return the problem of batches that have no equal share for each worker of a trial."""
    workers = spec.resources.workers
    sizes = (config.batch_size for config in configs if isinstance(config, TrialConfig | GanConfig))
    size = next((size for size in sizes if size % workers), None)
    if size is None:
        return []
    if "batch_size" not in spec.trial and "batch_size" not in spec.space.names:
        return [Problem("resources.workers", f"must divide batch_size ({size}) into equal shares, got {workers}")]
    place = "trial.batch_size" if "batch_size" in spec.trial else "space.parameters.batch_size"
    requirement = f"must be a multiple of resources.workers ({workers}), which each train an equal share"
    return [Problem(place, f"{requirement}, got {size}")]


def _resource_problems(resources: Resources) -> list[Problem]:
    """Return the problems of a share of a GPU that is not 1/n, and of resources with a field of their own."""
    problems = [
        Problem(f"resources.custom.{name}", f"has a field of its own; use resources.{FIELD_OF_RESOURCE[name]}")
        for name in sorted(resources.custom.keys() & FIELD_OF_RESOURCE.keys())
    ]
    problem = None if resources.gpus == "auto" or not 0 < resources.gpus < 1 else _share_problem(resources.gpus)
    return problems if problem is None else [*problems, Problem("resources.gpus", problem)]


def _share_problem(share: float) -> str | None:
    """Return why a share of a GPU is refused: it is not 1/n, rounded down to as many decimals as Ray counts.

    >>> _share_problem(0.3333), _share_problem(0.33), _share_problem(0.125)
    (None, None, None)
    >>> _share_problem(0.3)
    'must be 1/n of a GPU: 3 trials of 0.3 leave 0.1 of it unused; write 0.3333 for 3 trials on a GPU, 0.25 for 4'
    """
    units, trials = share * SHARES, round(1 / share)
    exact = _part_of_a_gpu(trials)
    if share < 1 / SHARES:
        return f"must be 0, or >= {1 / SHARES:g}, got {quoted(share)}"
    if abs(units - round(units)) > 1e-6:
        requirement = "must have at most 4 decimals, as Ray counts shares of a GPU in ten-thousandths"
        return f"{requirement}; for {trials} trials on a GPU write {exact:g}"
    if share * trials > 1 + 1e-9 and abs(share * trials - 1) < CLOSE:
        requirement = f"{trials} trials of {share:g} take {share * trials:g} of a GPU, so only {trials - 1} would fit"
        return f"must be {exact:g} for {trials} trials on a GPU: {requirement}"
    fits = SHARES // round(units)
    if any(math.isclose(share, math.floor(10**places / fits) / 10**places) for places in DECIMALS):
        return None
    unused = f"{fits} trial{'' if fits == 1 else 's'} of {share:g} leave{'s' if fits == 1 else ''} {1 - fits * share:g}"
    fewer, more = (f"{_part_of_a_gpu(count):g} for {count}" for count in (fits, fits + 1))
    on = f"trial{'' if fits == 1 else 's'} on a GPU"
    return f"must be 1/n of a GPU: {unused} of it unused; write {fewer} {on}, {more}"


def _part_of_a_gpu(trials: int) -> float:
    """Return the largest share that so many trials have of a GPU, as Ray counts it."""
    return math.floor(SHARES / trials) / SHARES


def _unmeasured_problems(spec: SweepSpec) -> list[Problem]:
    """Return the objectives and the attack that trials of this task neither measure nor know."""
    task = task_of(spec.trial)
    names = [metric.name for metric in task.metrics if metric.name.startswith(("val/", "entanglement/"))]
    requirement = f"must be measured by a {task.name}: {cut(', '.join(names), MAX_LIST_LENGTH)}"
    problems = [
        Problem(f"objective.{index}.metric" if index else "objective.metric", f"{requirement}; got {quoted(metric)}")
        for index, metric in enumerate(spec.objective.metrics)
        if not task.measures(metric) and not is_own(metric, labels_among(spec.trial))
    ]
    usual = type(spec.evaluation)().robust_epsilon
    if "evaluation.robust_epsilon" not in task.parameter_names and spec.evaluation.robust_epsilon != usual:
        message = f"a {task.name} is not attacked; leave it out"
        problems.append(Problem("evaluation.robust_epsilon", f"{message}, got {spec.evaluation.robust_epsilon}"))
    return problems


def _seed_problems(spec: SweepSpec) -> list[Problem]:
    """Return what a sweep with several seeds for each configuration cannot have."""
    seeds, scheduler = spec.search.seeds, spec.scheduler
    if seeds == 1 or scheduler.name == "pbt":  # which refuses them
        return []
    with_seeds = f"with search.seeds: {seeds}"
    problems = [
        Problem(place, f"must be left out {with_seeds}, which gives each trial its seed")
        for place, is_given in {
            "trial.seed": spec.trial.get("seed") is not None,
            "space.parameters.seed": "seed" in spec.space.names,
        }.items()
        if is_given
    ]
    has_no_kind = scheduler.chosen == "none"  # which allows auto alone, and says so
    requirements = [
        ("scheduler.name", scheduler.name, scheduler.chosen in {"asha", "none"}, "must be asha or none"),
        ("scheduler.kind", scheduler.kind, scheduler.kind != "stopping" or has_no_kind, "must be promotion or auto"),
        ("scheduler.brackets", scheduler.brackets, scheduler.brackets == 1, "must be 1"),
        ("scheduler.resource", scheduler.resource, scheduler.rung_unit == "epochs", "must be epochs"),
        ("scheduler.audit", scheduler.audit, not scheduler.audit, "must be 0"),
        ("objective", len(spec.objective.all), not spec.objective.others, "must be one metric"),
        ("budget.target", spec.budget.target, spec.budget.target is None, "must be unset"),
    ]
    reasons = {
        "scheduler.name": ", as no other scheduler compares means over seeds",
        "scheduler.kind": ", as a seed waits at its rung for the others",
        "scheduler.audit": ", as a rejected configuration has no more seeds",
        "objective": ", as racing needs one order",
        "budget.target": ", as one lucky seed would end the sweep",
    }
    problems += [
        Problem(place, f"{requirement} {with_seeds}{reasons.get(place, '')}; got {quoted(got)}")
        for place, got, holds, requirement in requirements
        if not holds
    ]
    if "epochs" in spec.space.names and spec.trial.get("epochs") is None:
        problems.append(Problem("space.parameters.epochs", f"must be fixed in trial {with_seeds}, as rungs need seeds"))
    if spec.search.num_trials * seeds > MAX_TRIALS:
        requirement = f"must be at most {MAX_TRIALS // seeds:,} {with_seeds}, as the driver holds each trial in memory"
        problems.append(Problem("search.num_trials", f"{requirement}; got {spec.search.num_trials}"))
    return problems


def _sampler_problems(spec: SweepSpec, first: int) -> list[Problem]:
    """Return the problems of a sampler: objectives that it cannot have, a grid with too few points."""
    sampler, num_trials = spec.search.sampler, spec.search.num_trials
    if spec.search.own is None and spec.search.args:
        return _without_arguments("search", sampler, spec.search.args)
    if sampler == "cmaes" and spec.objective.others:
        requirement = "must be one for several objectives (auto, nsga2, nsga3, tpe, gp)"
        return [Problem("search.sampler", f"{requirement}, got 'cmaes'")]
    if sampler != "grid" or num_trials <= first:
        return []
    size, is_whole = _grid_size(spec.space, spec.search.resolution, enough=num_trials - first)
    if num_trials <= first + size:
        return []
    grid = "the grid has" if is_whole else f"of {MAX_COMBINATIONS:,} combinations, constraints leave the grid"
    requirement = f"must be <= {first + size}: {grid} {size} points, {first} run first"
    return [Problem("search.num_trials", f"{requirement}, got {num_trials}")]


def _grid_size(space: SearchSpace, resolution: int, *, enough: int) -> tuple[int, bool]:
    """Return the number of points of a grid, or ``enough``, and True if every combination was counted."""
    if not space.constraints:
        try:
            return len(space.grid(resolution)), True
        except OverflowError:  # more than an index can hold
            return enough, True
    size = 0
    combinations = SearchSpace(space.parameters, when=space.when).grid(resolution)
    for tried, point in enumerate(combinations):
        if size >= enough or tried >= MAX_COMBINATIONS + enough:
            return size, size >= enough
        size += all(constraint.holds(point) for constraint in space.constraints)
    return size, True


def scheduler_problems(spec: SweepSpec) -> list[Problem]:
    """Return the problems of a scheduler: fields that it cannot have."""
    scheduler, name = spec.scheduler, spec.scheduler.chosen
    budgets = "must be 'auto', 'epochs' or 'gradient_evaluations'"
    if scheduler.own is not None:
        return _own_scheduler_problems(scheduler)
    if name == "pbt":
        are_valid = all(type(value) is int and value >= 1 for value in epochs_of(spec))
        problems = population_problems(spec, max_epochs=max_epochs_of(spec) if are_valid else None)
        return [*problems, *_without_arguments("scheduler", name, scheduler.args)]
    kinds = {"pasha": "promotion", "median": "stopping", "none": "auto"}
    requirements = [
        ("kind", name in kinds and scheduler.kind not in {"auto", kinds.get(name)}, f"must be {kinds.get(name)!r}"),
        ("brackets", scheduler.brackets > 1 and (name != "asha" or scheduler.is_budgeted), "must be 1"),
        ("resource", scheduler.rung_unit != "epochs" and scheduler.brackets > 1, "must be 'epochs' with brackets"),
        ("strata", bool(scheduler.strata) and (name in {"pasha", "none"} or scheduler.is_budgeted), "must be empty"),
        ("resource", scheduler.rung_unit != "epochs" and name != "asha", "must be 'epochs'"),
        ("resource", scheduler.is_budgeted and scheduler.resource == "gpu_seconds", budgets),
        ("audit", bool(scheduler.audit) and name == "none", "must be 0"),
    ]
    of = f"for {name}" + (" with grace_period: auto; give grace_period a number" if scheduler.is_budgeted else "")
    problems = [
        Problem(f"scheduler.{field}", f"{requirement} {of}, got {quoted(getattr(scheduler, field))}")
        for field, is_broken, requirement in requirements
        if is_broken
    ]
    if spec.objective.others and name in {"pasha", "median"}:
        problems.append(Problem("objective", f"must be one metric for scheduler {name}, got {len(spec.objective.all)}"))
    problems += [
        Problem("scheduler.strata", f"not in the space: {quoted(name)}{did_you_mean(name, spec.space.names)}")
        for name in scheduler.strata
        if name not in spec.space.names
    ]
    problems += [*without_population_problems(scheduler), *_without_arguments("scheduler", name, scheduler.args)]
    return problems or _bracket_problems(spec)


def _without_arguments(section: str, name: str, arguments: Iterable[str]) -> list[Problem]:
    """Return a problem for each argument of a sampler or scheduler of the project, whose settings are fields."""
    message = f"{name} takes no arguments; leave it out, or name your own code as package.module:attribute"
    return [Problem(f"{section}.args.{argument}", message) for argument in arguments]


def _own_scheduler_problems(scheduler: SchedulerSpec) -> list[Problem]:
    """Return the fields of the project's schedulers that are set for a user's own, which has its arguments."""
    usual = type(scheduler)()
    of_ours = ("grace_period", "reduction_factor", "budget_fraction", "brackets", "resource", "strata")
    without = (*of_ours, *OF_POPULATIONS)
    return [
        Problem(
            f"scheduler.{field}",
            f"{quoted(scheduler.name)} has no such field; leave it out, and give its own arguments in scheduler.args, "
            f"got {quoted(value)}",
        )
        for field in without
        if (value := getattr(scheduler, field)) != getattr(usual, field)
    ]


def _bracket_problems(spec: SweepSpec) -> list[Problem]:
    if spec.scheduler.is_budgeted or not all(type(value) is int and value >= 1 for value in epochs_of(spec)):
        return []  # reported by the points
    try:
        scheduler_of(spec, pauses=False, max_epochs=max_epochs_of(spec))
    except ValueError as error:
        return [Problem("scheduler.brackets", str(error))]
    return []


def _without_attack(spec: SweepSpec) -> list[str]:
    """Return the places that switch robust accuracy off, for all trials or for some."""
    name = "evaluation.robust_epsilon"
    if name in spec.trial:
        return [f"trial.{name}"] if spec.trial[name] == 0 else []
    if name in spec.space.names:
        domain = spec.space.parameters[name]
        return [f"space.parameters.{name}"] if domain.contains(0.0) or domain.contains(0) else []
    return [name] if spec.evaluation.robust_epsilon == 0 else []


def _feature_problems(spec: SweepSpec) -> list[Problem]:
    """Return the setting without which a GAN is not compared in the features that an objective is measured in."""
    name, objectives = "evaluation.feature_space", spec.objective.metrics
    wanted = [metric for metric in objectives if metric.startswith(("val/feature_", "val/manifold_"))]
    has_name = name in task_of(spec.trial).parameter_names
    if not wanted or not has_name or name in spec.space.names or spec.trial.get(name) is not None:
        return []
    return [Problem(f"trial.{name}", f"must be 'classifier' to measure the objective {wanted[0]}, got none")]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest valid one, if any is near.

    >>> did_you_mean("mixup.alfa", ["mixup.alpha"])
    "; did you mean 'mixup.alpha'?"
    """
    closest = nearest(name, candidates)
    return f"; did you mean {closest!r}?" if closest else ""
