"""Validate a spec: all that it fixes, searches and gives is checked in the trials that it makes.

A requirement between parameters is checked on whole points alone (the first ones, the corners of the space, seeded
samples): a value that ``trial`` fixes may clash with a default that the space replaces, and be right in every trial.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import SpecError, cut, quoted
from orchestrator.planning.points import complete, epochs_of, first_points, max_epochs_of
from orchestrator.scheduling.registry import scheduler_of
from orchestrator.spec.model import MAX_NAMES
from orchestrator.spec.tracking_address import address_problem
from search_spaces import DomainError, Fixed, Problem, SearchSpace, SpaceError, nearest
from search_spaces.sampling.enumeration import unconstrained_corners
from trainables.config.regularizers import GROUP
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.tasks.registry import CLASSIFIER, TASK, TASKS, task_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin
    from search_spaces import Domain
    from trainables.tasks.registry import AnyConfig

Configured: TypeAlias = "tuple[Point, AnyConfig]"
"""A point and the trial configuration that it makes."""

NUM_SAMPLES = 256
MAX_EPOCHS = 10_000
"""Every one is a line of the log, and a candidate of ``grace_period: auto`` for the first rung."""
MAX_CORNERS = 5_000
MAX_ENTRIES = 1_000
"""Of a list in ``trial``."""
MAX_COMBINATIONS = 50_000
"""Of a grid with constraints that are tried for its points."""
MAX_PROBLEMS = 100
"""Of one kind; a longer list helps no reader."""
MAX_LIST_LENGTH = 200
"""Of the valid names in a message."""
VALUES = re.compile(r" \([^)]*\)|, got .*", re.DOTALL)
"""The values in a message; the rest of it is the requirement."""


def check_spec(spec: SweepSpec) -> SweepSpec:
    """Return the spec with its ``trial`` parameters fixed in its space, once every point makes a valid trial.

    A spec that was validated before, and not changed since, is returned as it is.

    Raises:
        SpecError: a name that no trial has, a value that no trial takes, a point outside the space.
    """
    if spec.checked is not None:
        return spec
    problems = name_problems(spec.space.names, spec.trial)
    if problems or _task_problems(spec.trial):
        raise SpecError([*trial_problems(spec.trial, spec.space), *problems])
    trial = _without_usual_task(spec.trial)
    unknown = {name: value for name, value in trial.items() if name != TASK and not task_of(trial).accepts(name)}
    trial = {name: value for name, value in trial.items() if name not in unknown}
    spec = spec.model_copy(update={"trial": trial, "space": _fix(spec.space, trial)})
    problems, trials = [*_unknown_problems(spec, unknown), *_size_problems(spec)], list[Configured]()
    if any(problem.path not in {f"trial.{name}" for name in unknown} for problem in problems):
        raise SpecError(problems)
    problems += _field_problems(spec)
    try:
        wrong_points = _given_point_problems(spec)
        points = _space_points(spec, [] if wrong_points else first_points(spec))
        problems += [*wrong_points, *_point_problems(points, spec.trial, trials)]
    except SpaceError as error:  # constraints that few points satisfy, or that have no value at one
        problems += _in_space(error)
    if problems:
        raise SpecError(problems)
    return spec.as_checked(trials)


def configured(spec: SweepSpec) -> tuple[Configured, ...]:
    """Return the first points, the corners and samples of a spec's space, each with its trial configuration.

    Those of the spec's validation, if it was validated in this process.

    Raises:
        ConfigError: one of the points makes no valid trial.
    """
    if (checked := spec.checked) is not None:
        return checked.trials
    points = (point for _, point in _space_points(spec, first_points(spec)))
    return tuple((point, task_of(spec.trial).from_point({**spec.trial, **point})) for point in points)


def _unknown_problems(spec: SweepSpec, unknown: Point) -> list[Problem]:
    """Return the names in ``trial`` that no trial has, reported once and not for every point."""
    if not unknown:
        return []
    try:
        task_of(spec.trial).from_point(unknown)
    except ConfigError as error:
        return [Problem(f"trial.{name}", message) for name, message in error.problems]
    return []


def _size_problems(spec: SweepSpec) -> list[Problem]:
    """Return what would make the validation of the points, or the sweep itself, take for ever."""
    problems = [
        Problem(f"trial.{name}", f"must have at most {MAX_ENTRIES:,} entries, got {len(value):,}")
        for name, value in spec.trial.items()
        if isinstance(value, list) and len(value) > MAX_ENTRIES
    ]
    most = max((value for value in epochs_of(spec) if type(value) is int), default=0)
    if most > MAX_EPOCHS:
        place = "space.parameters.epochs" if "epochs" in spec.space.names else "trial.epochs"
        reason = "each is an event of the log and may be a rung"
        problems.append(Problem(place, f"must be <= {MAX_EPOCHS:,}, as {reason}; got {quoted(most)}"))
    if len(list(islice(unconstrained_corners(spec.space), MAX_CORNERS + 1))) > MAX_CORNERS:
        remedy = "give choices fewer options, or fix parameters on which conditions depend"
        problems.append(Problem("space", f"has more than {MAX_CORNERS:,} extreme points, each to validate; {remedy}"))
    return problems


def trial_problems(trial: Mapping[str, Any], space: SearchSpace) -> list[Problem]:
    """Return the problems of ``trial`` alone, completed so that no default which never runs breaks a requirement."""
    if problems := _task_problems(trial):
        return problems
    if len(trial) > MAX_NAMES:  # reported as such
        return []
    try:
        whole = [("space.parameters", complete(_fix(space, trial), {}, task=task_of(trial)))]
    except SpecError as error:
        return list(error.problems)
    return [problem for problem in _point_problems(whole, trial, []) if problem.path.startswith("trial.")]


def name_problems(names: Collection[str], trial: Mapping[str, Any]) -> list[Problem]:
    """Return the searched parameters that no trial has, or none of the task that ``trial`` names."""
    if len(names) > MAX_NAMES:
        return [Problem("space.parameters", f"must have at most {MAX_NAMES} parameters, got {len(names):,}")]
    tasks = list(TASKS.values()) if _task_problems(trial) else [task_of(trial)]
    known = frozenset(name for task in tasks for name in task.parameter_names)
    return [
        Problem(f"space.parameters.{name}", _no_parameter(name, known))
        for name in names
        if not any(task.accepts(name) for task in tasks)
    ]


def _no_parameter(name: str, known: frozenset[str]) -> str:
    if name == TASK:
        return "all trials of a sweep train the same; name it in trial.task"
    if name.startswith(f"{GROUP}."):
        return TrialConfig.why_unknown(name)
    elsewhere = [task.name for task in TASKS.values() if name in task.parameter_names]
    hint = f"; one with trial.task: {elsewhere[0]} has it" if elsewhere else did_you_mean(name, known)
    return f"no trial has this parameter{hint}"


def _task_problems(trial: Mapping[str, Any]) -> list[Problem]:
    try:
        task_of(trial)
    except ConfigError as error:
        return [Problem(f"trial.{name}", message) for name, message in error.problems]
    return []


def _without_usual_task(trial: Mapping[str, Any]) -> Point:
    """Drop the name of the usual task, so that a sweep of classifiers is the same spec with it and without."""
    return {name: value for name, value in trial.items() if name != TASK or value not in {None, CLASSIFIER.name}}


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest valid one, if any is near.

    >>> did_you_mean("mixup.alfa", ["mixup.alpha"])
    "; did you mean 'mixup.alpha'?"
    """
    closest = nearest(name, candidates)
    return f"; did you mean {closest!r}?" if closest else ""


def _fix(space: SearchSpace, trial: Mapping[str, Any]) -> SearchSpace:
    """Fix what ``trial`` has over what a catalog fragment would search, inside the fragment's range or not."""
    fixed = {name: _fixed(space.parameters[name], trial[name]) for name in space.names if name in trial}
    try:
        return SearchSpace({**space.parameters, **fixed}, when=space.when, constraints=space.constraints)
    except SpaceError as error:  # a constraint that the fixed values break
        raise SpecError(_in_space(error)) from None


def _in_space(error: SpaceError) -> list[Problem]:
    return [Problem(f"space.{path}", message) for path, message in error.problems]


def _fixed(domain: Domain, value: Any) -> Domain:
    try:
        return Fixed(value)
    except DomainError:  # not a scalar: the trials that have it report it
        return domain


def _field_problems(spec: SweepSpec) -> list[Problem]:
    """Return the problems of fields that do not fit together."""
    problems = _unmeasured_problems(spec)
    if spec.tracking.uri is not None and (problem := address_problem(spec.tracking.uri)) is not None:
        problems.append(Problem("tracking.uri", problem))
    first = 1 + len(spec.search.points)
    if spec.search.num_trials < first:
        requirement = f"must be >= {first}: the baseline and each of search.points run first"
        problems.append(Problem("search.num_trials", f"{requirement}, got {spec.search.num_trials}"))
    if spec.resources.gpus != "auto" and spec.resources.gpus > 1:
        requirement = "must be 'auto' or at most 1, as a trial uses one device"
        problems.append(Problem("resources.gpus", f"{requirement}; got {quoted(spec.resources.gpus)}"))
    problems += [*scheduler_problems(spec), *_sampler_problems(spec, first)]
    if "val/robust_accuracy" in spec.objective.metrics:
        requirement = "must be > 0 to measure the objective val/robust_accuracy"
        problems += [Problem(place, requirement) for place in _without_attack(spec)]
    return problems


def _unmeasured_problems(spec: SweepSpec) -> list[Problem]:
    """Return the objectives and the attack that trials of this task neither measure nor know."""
    task = task_of(spec.trial)
    names = [metric.name for metric in task.metrics if metric.name.startswith(("val/", "entanglement/"))]
    requirement = f"must be measured by a {task.name}: {cut(', '.join(names), MAX_LIST_LENGTH)}"
    problems = [
        Problem(f"objective.{index}.metric" if index else "objective.metric", f"{requirement}; got {quoted(metric)}")
        for index, metric in enumerate(spec.objective.metrics)
        if not task.measures(metric)
    ]
    usual = type(spec.evaluation)().robust_epsilon
    if "evaluation.robust_epsilon" not in task.parameter_names and spec.evaluation.robust_epsilon != usual:
        message = f"a {task.name} is not attacked; leave it out"
        problems.append(Problem("evaluation.robust_epsilon", f"{message}, got {spec.evaluation.robust_epsilon}"))
    return problems


def _sampler_problems(spec: SweepSpec, first: int) -> list[Problem]:
    """Return the problems of a sampler: objectives that it cannot have, a grid with too few points."""
    sampler, num_trials = spec.search.sampler, spec.search.num_trials
    if sampler == "cmaes" and spec.objective.others:
        return [Problem("search.sampler", "must be one for several objectives (nsga2, nsga3, tpe, gp), got 'cmaes'")]
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
    scheduler, name = spec.scheduler, spec.scheduler.name
    kinds = {"pasha": "promotion", "median": "stopping", "none": "auto"}
    requirements = [
        ("kind", name in kinds and scheduler.kind not in {"auto", kinds.get(name)}, f"must be {kinds.get(name)!r}"),
        ("brackets", scheduler.brackets > 1 and (name != "asha" or scheduler.is_budgeted), "must be 1"),
        ("resource", scheduler.resource != "epochs" and scheduler.brackets > 1, "must be 'epochs' with brackets"),
        ("strata", bool(scheduler.strata) and (name in {"pasha", "none"} or scheduler.is_budgeted), "must be empty"),
        ("resource", scheduler.resource != "epochs" and (name != "asha" or scheduler.is_budgeted), "must be 'epochs'"),
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
    return problems or _bracket_problems(spec)


def _bracket_problems(spec: SweepSpec) -> list[Problem]:
    if not all(type(value) is int and value >= 1 for value in epochs_of(spec)):
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


def _given_point_problems(spec: SweepSpec) -> list[Problem]:
    known = frozenset(spec.space.names)
    problems: list[Problem] = []
    for index, point in enumerate(spec.search.points):
        if len(problems) >= MAX_PROBLEMS:
            break
        for name, value in point.items():
            path = f"search.points.{index}.{name}"
            if name not in known:
                problems.append(Problem(path, f"not in the space{did_you_mean(name, known)}"))
            elif not spec.space.parameters[name].contains(value):
                problems.append(Problem(path, f"must be {spec.space.parameters[name].describe()}, got {quoted(value)}"))
        whole = {**spec.trial, **point}
        broken = (
            [] if problems else [constraint for constraint in spec.space.constraints if not constraint.holds(whole)]
        )
        problems += [
            Problem(
                f"search.points.{index}", f"must satisfy the constraint {quoted(constraint.text)}, got {quoted(point)}"
            )
            for constraint in broken
        ]
    return problems


def _space_points(spec: SweepSpec, first: Sequence[tuple[Origin, Point]]) -> list[tuple[str, Point]]:
    """Return the first points, the corners of the space and samples of it, each with its place in the document."""
    points = [*spec.space.corners(), *spec.space.sample_many(NUM_SAMPLES, seed=spec.search.seed)]
    places = ["space.parameters", *(f"search.points.{index}" for index in range(len(first) - 1))]
    starts = zip(places, (point for _, point in first), strict=False)
    return [*starts, *(("space.parameters", point) for point in points)]


def _point_problems(
    points: Iterable[tuple[str, Point]], trial: Mapping[str, Any], valid: list[Configured]
) -> list[Problem]:
    """Return the problems of whole points, one for each parameter and requirement; collect the valid ones."""
    problems: dict[tuple[str, str], Problem] = {}
    for place, point in points:
        try:
            valid.append((point, task_of(trial).from_point({**point, **trial})))
        except ConfigError as error:
            for name, message in error.problems:
                where = "trial" if name in trial else place if name in point else "space.parameters"
                problems.setdefault((name, VALUES.sub("", message)), Problem(f"{where}.{name}", message))
    return list(problems.values())
