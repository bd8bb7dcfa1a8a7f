"""Validate a spec: all that it fixes, searches and gives is checked in the trials that it makes.

A requirement between parameters is checked on whole points alone (the first ones, the corners of the space, seeded
samples): a value that ``trial`` fixes may clash with a default that the space replaces, and be right in every trial.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import SpecError, quoted
from orchestrator.planning.batching import batch_problems
from orchestrator.planning.fields import did_you_mean, field_problems, share_problems
from orchestrator.planning.points import epochs_of, first_points
from orchestrator.spec.baseline import complete, strengths_of
from orchestrator.spec.model import MAX_NAMES
from search_spaces import DomainError, Fixed, Problem, SearchSpace, SpaceError
from search_spaces.sampling.enumeration import unconstrained_corners
from trainables.config.own_metrics import GROUP as METRICS
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
MAX_PROBLEMS = 100
"""Of one kind; a longer list helps no reader."""
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
    problems += field_problems(spec)
    try:
        wrong_points = _given_point_problems(spec)
        points = _space_points(spec, [] if wrong_points else first_points(spec))
        problems += [*wrong_points, *_point_problems(points, spec.trial, trials)]
        problems += share_problems(spec, (config for _, config in trials))
        problems += batch_problems(spec, [config for _, config in trials])
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
        if name.startswith(f"{METRICS}.") or not any(task.accepts(name) for task in tasks)
    ]


def _no_parameter(name: str, known: frozenset[str]) -> str:
    if name == TASK:
        return "all trials of a sweep train the same; name it in trial.task"
    if name.startswith(f"{METRICS}."):
        return "all trials of a sweep measure the same; fix it in trial"
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


def _given_point_problems(spec: SweepSpec) -> list[Problem]:
    known = frozenset(spec.space.names)
    strengths = sorted(spec.search.baseline.keys() & set(strengths_of(spec)))
    requirement = "must be left out, as all methods are off in the baseline"
    problems = [Problem(f"search.baseline.{name}", requirement) for name in strengths]
    points = [(f"search.points.{index}", point) for index, point in enumerate(spec.search.points)]
    for place, point in [("search.baseline", spec.search.baseline), *points]:
        if len(problems) >= MAX_PROBLEMS:
            break
        for name, value in point.items():
            path = f"{place}.{name}"
            if name not in known:
                problems.append(Problem(path, f"not in the space{did_you_mean(name, known)}"))
            elif not spec.space.parameters[name].contains(value):
                problems.append(Problem(path, f"must be {spec.space.parameters[name].describe()}, got {quoted(value)}"))
        whole = {**spec.trial, **point}
        is_wrong = bool(problems) or place == "search.baseline"  # the baseline may lie outside the space
        broken = (
            [] if is_wrong else [constraint for constraint in spec.space.constraints if not constraint.holds(whole)]
        )
        problems += [
            Problem(place, f"must satisfy the constraint {quoted(constraint.text)}, got {quoted(point)}")
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
