"""Whether every trial of a sweep can be: what the spec fixes, searches and gives, judged as the trials that run.

A law between parameters is judged on whole points alone (the first ones, the corners of the space, seeded samples):
what ``trial`` fixes may be wrong beside a default that the space replaces, and right in every trial.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import SpecError
from orchestrator.planning.points import complete, first_points, grid_points, max_epochs_of
from orchestrator.scheduling.registry import scheduler_of
from search_spaces import DomainError, Fixed, Problem, SearchSpace, SpaceError, nearest
from trainables.errors import ConfigError
from trainables.tasks.registry import CLASSIFIER, TASK, TASKS, task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin
    from search_spaces import Domain
    from trainables.tasks.registry import AnyConfig

Configured: TypeAlias = "tuple[Point, AnyConfig]"
"""A point and the trial configuration that it makes."""

NUM_SAMPLES = 256
VALUES = re.compile(r" \([^)]*\)|, got .*", re.DOTALL)
"""The values in a message; what is left is the law."""


def check_spec(spec: SweepSpec) -> SweepSpec:
    """The spec with its ``trial`` parameters fixed in its space, when every point of it makes a valid trial.

    Raises:
        SpecError: a name no trial knows, a value no trial takes, a point outside the space.
    """
    if spec.checked is not None:
        return spec
    problems = name_problems(spec.space.names, spec.trial)
    if problems or _task_problems(spec.trial):
        raise SpecError([*trial_problems(spec.trial, spec.space), *problems])
    trial = _without_usual_task(spec.trial)
    spec = spec.model_copy(update={"trial": trial, "space": _fix(spec.space, trial)})
    problems, trials = _law_problems(spec), list[Configured]()
    try:
        given = _given_point_problems(spec)
        points = _space_points(spec, [] if given else first_points(spec))
        problems += [*given, *_point_problems(points, spec.trial, trials)]
    except SpaceError as error:  # constraints that leave next to nothing, or have no value somewhere
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


def trial_problems(trial: Mapping[str, Any], space: SearchSpace) -> list[Problem]:
    """What is wrong with ``trial`` alone: it is completed, so that no law is judged by a default that never runs."""
    if problems := _task_problems(trial):
        return problems
    try:
        whole = [("space.parameters", complete(_fix(space, trial), {}, task=task_of(trial)))]
    except SpecError as error:
        return list(error.problems)
    return [problem for problem in _point_problems(whole, trial, []) if problem.path.startswith("trial.")]


def name_problems(names: Iterable[str], trial: Mapping[str, Any]) -> list[Problem]:
    """The searched parameters that no trial has, or none of what ``trial`` says is trained."""
    tasks = list(TASKS.values()) if _task_problems(trial) else [task_of(trial)]
    known = frozenset(name for task in tasks for name in task.parameter_names)
    return [Problem(f"space.parameters.{name}", _no_parameter(name, known)) for name in names if name not in known]


def _no_parameter(name: str, known: frozenset[str]) -> str:
    if name == TASK:
        return "all trials of a sweep train the same; name it in trial.task"
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
    """A sweep of classifiers is written down in the same words whether or not it says that it is one."""
    return {name: value for name, value in trial.items() if name != TASK or value not in {None, CLASSIFIER.name}}


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest valid one, if any is near.

    >>> did_you_mean("mixup.alfa", ["mixup.alpha"])
    "; did you mean 'mixup.alpha'?"
    """
    closest = nearest(name, candidates)
    return f"; did you mean {closest!r}?" if closest else ""


def _fix(space: SearchSpace, trial: Mapping[str, Any]) -> SearchSpace:
    """``trial`` wins over what a catalog fragment would search, inside the fragment's range or not."""
    fixed = {name: _fixed(space.parameters[name], trial[name]) for name in space.names if name in trial}
    try:
        return SearchSpace({**space.parameters, **fixed}, when=space.when, constraints=space.constraints)
    except SpaceError as error:  # a constraint that what is fixed breaks
        raise SpecError(_in_space(error)) from None


def _in_space(error: SpaceError) -> list[Problem]:
    return [Problem(f"space.{path}", message) for path, message in error.problems]


def _fixed(domain: Domain, value: Any) -> Domain:
    try:
        return Fixed(value)
    except DomainError:  # no scalar: told by the trials that it is part of
        return domain


def _law_problems(spec: SweepSpec) -> list[Problem]:
    """Laws between fields."""
    problems = _task_law_problems(spec)
    first = 1 + len(spec.search.points)
    if spec.search.num_trials < first:
        law = f"must be >= {first}: the baseline and each of search.points run first"
        problems.append(Problem("search.num_trials", f"{law}, got {spec.search.num_trials}"))
    problems += [*scheduler_problems(spec), *_sampler_problems(spec, first)]
    if "val/robust_accuracy" in spec.objective.metrics:
        law = "must be > 0 to measure the objective val/robust_accuracy"
        problems += [Problem(place, law) for place in _unmeasured(spec)]
    return problems


def _task_law_problems(spec: SweepSpec) -> list[Problem]:
    """What a sweep asks of its trials that nothing of their task has or measures."""
    task = task_of(spec.trial)
    measured = ", ".join(each.name for each in task.metrics if each.name.startswith(("val/", "entanglement/")))
    law = f"must be measured by a {task.name}: {measured}"
    problems = [
        Problem(f"objective.{index}.metric" if index else "objective.metric", f"{law}; got {metric!r}")
        for index, metric in enumerate(spec.objective.metrics)
        if not task.measures(metric)
    ]
    usual = type(spec.evaluation)().robust_epsilon
    if "evaluation.robust_epsilon" not in task.parameter_names and spec.evaluation.robust_epsilon != usual:
        law = f"a {task.name} is not attacked; leave it out"
        problems.append(Problem("evaluation.robust_epsilon", f"{law}, got {spec.evaluation.robust_epsilon}"))
    return problems


def _sampler_problems(spec: SweepSpec, first: int) -> list[Problem]:
    """What a sampler cannot do."""
    sampler, num_trials = spec.search.sampler, spec.search.num_trials
    if sampler == "cmaes" and spec.objective.others:
        return [Problem("search.sampler", "must be one for several objectives (nsga2, nsga3, tpe, gp), got 'cmaes'")]
    if sampler != "grid" or num_trials <= first:
        return []
    size = len(grid_points(spec))
    law = f"must be <= {first + size}: the grid has {size} points, {first} run first"
    return [Problem("search.num_trials", f"{law}, got {num_trials}")] if num_trials > first + size else []


def scheduler_problems(spec: SweepSpec) -> list[Problem]:
    """What a scheduler cannot do, by the fields that ask for it."""
    scheduler, name = spec.scheduler, spec.scheduler.name
    kinds = {"pasha": "promotion", "median": "stopping", "none": "auto"}
    laws = [
        ("kind", name in kinds and scheduler.kind not in {"auto", kinds.get(name)}, f"must be {kinds.get(name)!r}"),
        ("brackets", scheduler.brackets > 1 and (name != "asha" or scheduler.is_budgeted), "must be 1"),
        ("resource", scheduler.resource != "epochs" and scheduler.brackets > 1, "must be 'epochs' with brackets"),
        ("strata", bool(scheduler.strata) and (name in {"pasha", "none"} or scheduler.is_budgeted), "must be empty"),
        ("resource", scheduler.resource != "epochs" and (name != "asha" or scheduler.is_budgeted), "must be 'epochs'"),
        ("audit", bool(scheduler.audit) and name == "none", "must be 0"),
    ]
    of = f"for {name}" + (" with grace_period: auto; give grace_period a number" if scheduler.is_budgeted else "")
    problems = [
        Problem(f"scheduler.{field}", f"{law} {of}, got {getattr(scheduler, field)!r}")
        for field, broken, law in laws
        if broken
    ]
    if spec.objective.others and name in {"pasha", "median"}:
        problems.append(Problem("objective", f"must be one metric for scheduler {name}, got {len(spec.objective.all)}"))
    unknown = [each for each in scheduler.strata if each not in spec.space.names]
    problems += [
        Problem("scheduler.strata", f"not in the space: {each}{did_you_mean(each, spec.space.names)}")
        for each in unknown
    ]
    return problems or _bracket_problems(spec)


def _bracket_problems(spec: SweepSpec) -> list[Problem]:
    try:
        scheduler_of(spec, pauses=False, max_epochs=max_epochs_of(spec))
    except ValueError as error:
        return [Problem("scheduler.brackets", str(error))]
    return []


def _unmeasured(spec: SweepSpec) -> list[str]:
    """Where robust accuracy is switched off, for all trials or for some."""
    name = "evaluation.robust_epsilon"
    if name in spec.trial:
        return [f"trial.{name}"] if spec.trial[name] == 0 else []
    if name in spec.space.names:
        domain = spec.space.parameters[name]
        return [f"space.parameters.{name}"] if domain.contains(0.0) or domain.contains(0) else []
    return [name] if spec.evaluation.robust_epsilon == 0 else []


def _given_point_problems(spec: SweepSpec) -> list[Problem]:
    known = frozenset(spec.space.names)
    problems = []
    for index, point in enumerate(spec.search.points):
        for name, value in point.items():
            path = f"search.points.{index}.{name}"
            if name not in known:
                problems.append(Problem(path, f"not in the space{did_you_mean(name, known)}"))
            elif not spec.space.parameters[name].contains(value):
                problems.append(Problem(path, f"must be {spec.space.parameters[name].describe()}, got {value!r}"))
        broken = [] if problems else [law for law in spec.space.constraints if not law.holds({**spec.trial, **point})]
        problems += [
            Problem(f"search.points.{index}", f"must satisfy the constraint {law.text!r}, got {point!r}")
            for law in broken
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
