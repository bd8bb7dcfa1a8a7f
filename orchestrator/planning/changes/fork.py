"""Fork: the spec of a new sweep from an earlier one: other settings and its best points, or its confirmation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple

from orchestrator.errors import OrchestratorError, SpecError
from orchestrator.planning.loading import override
from orchestrator.planning.plan import Configuration, Confirmation, Parent
from orchestrator.planning.points import first_points
from orchestrator.planning.seeds import derive_seed, searched_state
from orchestrator.planning.validation import check_spec
from orchestrator.spec.baseline import complete, strengths_of
from orchestrator.spec.model import MAX_POINTS, Budget, SchedulerSpec, Search
from search_spaces import Choice, Fixed, Int, Problem, SearchSpace, adopt
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.spec.objective import Objective
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState, Trial
    from search_spaces import Domain
    from search_spaces.warm_start.adoption import Report

SEED = "seed"
SEEDS = Int(0, 2**31 - 1)
CONTROL = "control"
MEASURED = ("val/accuracy", "val/nll", "val/ece")
"""Objectives that the suite `clean` measures on the test split, too."""
SCHEDULES = "the values of its best trials are the ends of schedules, and their weights were trained with other values"
SETTABLE = ("resources.", "tracking.", "storage.uri", "failures.")
"""Fields that change nothing of what a trial measures."""


class Fork(NamedTuple):
    """Spec of the new sweep, its lineage, and a report on each point that was mapped into its space."""

    spec: SweepSpec
    parent: Parent
    reports: tuple[Report, ...]


def fork(
    plan: SweepPlan, state: SweepState, folder: SweepFolder, *, name: str, settings: Sequence[str], best: int
) -> Fork:
    """Return the spec of a new sweep that begins with the best points of an earlier one.

    Args:
        plan: Plan in force of the earlier sweep.
        state: Its state.
        folder: Its files.
        name: Name of the new sweep.
        settings: Other values of fields, ``path=value``.
        best: Number of points; 0 keeps the points of the earlier spec.

    Raises:
        SpecError: lists every mistake.
    """
    if name == plan.spec.name:
        raise SpecError([Problem("--name", f"must differ from that of the earlier sweep, got {name!r}")])
    if best and plan.spec.scheduler.name == "pbt":
        requirement = f"must be 0 to fork {plan.sweep}, as {SCHEDULES}"
        raise SpecError([Problem("--best", f"{requirement}; got {best}; give points with --set search.points=...")])
    spec = override(plan.spec, [f"name={name}", *settings])
    searched = searched_state(plan, state)
    ranked = [trial for trial in searched.ranked(plan.spec.objective) if trial.origin != "baseline"][:best]
    adoption = adopt(spec.space, [trial.point for trial in ranked])
    points = tuple({key: value for key, value in point.items() if key not in spec.trial} for point in adoption.points)
    if points:
        search = spec.search.model_copy(update={"points": points})
        spec = check_spec(spec.model_copy(update={"search": search}))
    used = [ranked[report.index].id for report in adoption.reports if report.outcome in {"kept", "clipped"}]
    parent = Parent(
        sweep=plan.sweep,
        place=folder.uri,
        fingerprint=plan.fingerprint,
        events=state.num_events,
        trials=tuple(used),
    )
    return Fork(spec, parent, adoption.reports)


def confirmation(
    plan: SweepPlan,
    state: SweepState,
    folder: SweepFolder,
    *,
    name: str,
    top: int,
    seeds: int,
    suites: Sequence[str],
    metric: str | None = None,
    settings: Sequence[str] = (),
) -> Fork:
    """Return the spec of a sweep that trains the best configurations of a search, and a control, with fresh seeds.

    The configurations are those of the best trials that ran their full budget. The control has all methods off, and all
    other settings of the best of these trials; of a search without methods it is the search's baseline. All have the
    same seeds, and no trial is stopped. A search with several seeds has configurations in the place of trials, ranked
    by their means.

    Raises:
        SpecError: lists every mistake.
        OrchestratorError: the trials are no classifiers, or their values changed while they trained.
    """
    if task_of(plan.spec.trial) is not CLASSIFIER:
        requirement = f"must train a {CLASSIFIER.name} to be confirmed, as `ravel evaluate` measures no other task"
        raise OrchestratorError(f"{plan.sweep}: {requirement}; got {task_of(plan.spec.trial).name}")
    if plan.spec.scheduler.name == "pbt":
        reason = f"{SCHEDULES}, and a confirmation trains constant points"
        remedy = "`ravel best` shows the schedule to train once more"
        raise OrchestratorError(f"{plan.sweep}: must not be a sweep under pbt to be confirmed: {reason}; {remedy}")
    searched = searched_state(plan, state)
    full = _at_full_budget(plan, searched)
    measured, mode = _metric_of(plan.spec.objective, metric)
    problems = _confirmation_problems(plan, name=name, top=top, seeds=seeds, full=full, settings=settings)
    problems += [] if measured else [_metric_problem(plan.spec.objective, metric)]
    if problems:
        raise SpecError(problems)
    control = _control(plan.spec, searched, full[0])
    chosen = list(itertools.islice(_candidates(plan.spec, full, control), top))
    if len(chosen) < top:
        requirement = f"must be at most {len(chosen)}, the different configurations with a method that ran to the end"
        raise SpecError([Problem("--top", f"{requirement}; got {top}")])
    points = [control, *(searched_values(trial.point, plan.spec) for trial in chosen)]
    gains = _gains(plan.spec.objective, searched, chosen)
    used = [trial.config.get(SEED) for trial in state.trials.values()]
    spec = _confirming(
        override(plan.spec, [f"name={name}", *settings]),
        points,
        fresh_seeds(plan.spec.search.seed, name, count=seeds, used=used),
    )
    parent = Parent(
        sweep=plan.sweep,
        place=folder.uri,
        fingerprint=plan.fingerprint,
        events=state.num_events,
        trials=tuple(trial.id for trial in chosen),
        confirmation=Confirmation(
            configurations=tuple(
                Configuration(name=name, point=point, searched=gain)
                for name, point, gain in zip(
                    [CONTROL, *(trial.id for trial in chosen)], points, [None, *gains], strict=True
                )
            ),
            metric=measured,
            mode=mode,
            suites=tuple(suites),
        ),
    )
    return Fork(spec, parent, ())


def further_points(plan: SweepPlan, confirmed: Confirmation, state: SweepState, *, seeds: int) -> list[Point]:
    """Return the points that give each configuration of a confirmation so many further seeds."""
    used = [trial.config.get(SEED) for trial in state.trials.values()]
    fresh = fresh_seeds(plan.spec.search.seed, plan.spec.name, count=seeds, used=used)
    return [{**configuration.point, SEED: seed} for seed in fresh for configuration in confirmed.configurations]


def fresh_seeds(seed: int, name: str, *, count: int, used: Collection[object]) -> list[int]:
    """Return seeds that no trial has had, a function of the arguments alone.

    >>> first = fresh_seeds(0, "digits-confirm", count=2, used=())
    >>> fresh_seeds(0, "digits-confirm", count=1, used=first)[0] in first
    False
    """
    seen, fresh = set(used), list[int]()
    for value in (derive_seed(seed, "confirm", name, str(index)) for index in itertools.count()):
        if len(fresh) == count:
            break
        if value not in seen:
            fresh.append(value)
            seen.add(value)
    return fresh


def searched_values(point: Mapping[str, object], spec: SweepSpec) -> Point:
    """Return the searched values of a point, without its seed."""
    return {
        name: value
        for name, value in point.items()
        if name in spec.space.names and name not in spec.trial and name != SEED
    }


def _at_full_budget(plan: SweepPlan, state: SweepState) -> list[Trial]:
    """Return the trials that ran as many epochs as the sweep has now, best first."""
    is_searched = "epochs" in plan.spec.space.names and plan.spec.trial.get("epochs") is None
    return [
        trial
        for trial in state.ranked(plan.spec.objective)
        if trial.status == "completed" and (is_searched or trial.epoch >= plan.max_epochs)
    ]


def _confirmation_problems(
    plan: SweepPlan, *, name: str, top: int, seeds: int, full: Sequence[Trial], settings: Sequence[str]
) -> list[Problem]:
    problems = [
        Problem(f"--set {setting.partition('=')[0]}", f"must begin with one of {', '.join(SETTABLE)}, got {setting!r}")
        for setting in settings
        if not setting.startswith(SETTABLE)
    ]
    if name == plan.spec.name:
        problems.append(Problem("--name", f"must differ from that of the earlier sweep, got {name!r}"))
    if seeds < 2:
        problems.append(Problem("--seeds", f"must be >= 2, as one seed shows no spread; got {seeds}"))
    if (1 + top) * seeds > MAX_POINTS:
        requirement = f"must be at most {MAX_POINTS // (1 + top)} with {top} configurations and the control"
        problems.append(Problem("--seeds", f"{requirement}, got {seeds}"))
    if len(full) < max(1, top):
        requirement = f"must be at most {len(full)}, the trials of {plan.sweep} that ran their full budget"
        problems.append(Problem("--top", f"{requirement}; got {top}"))
    return problems


def _metric_of(objective: Objective, metric: str | None) -> tuple[str, Literal["max", "min"]]:
    """Return what the evaluation measures of an objective, and its direction; '' if that is not known.

    >>> from orchestrator.spec.objective import Objective
    >>> _metric_of(Objective(metric="val/nll", mode="min"), None), _metric_of(Objective(), "robust/pgd-20@0.1 max")
    (('test/nll', 'min'), ('robust/pgd-20@0.1', 'max'))
    """
    if metric is None:
        is_measured = objective.metric in MEASURED
        return (f"test/{objective.metric.removeprefix('val/')}" if is_measured else ""), objective.mode
    chosen, _, mode = metric.partition(" ")
    return (chosen if mode in {"max", "min"} else ""), "min" if mode == "min" else "max"


def _metric_problem(objective: Objective, metric: str | None) -> Problem:
    requirement = "must be a metric of --suite and its direction, as 'test/accuracy max'"
    got = f"got {metric!r}" if metric is not None else f"as the test split has none for {objective.metric}"
    return Problem("--metric", f"{requirement}; {got}")


def _control(spec: SweepSpec, state: SweepState, best: Trial) -> Point:
    """Return the point with all methods off and all other settings of the best trial."""
    searched = [name for name in strengths_of(spec) if name in spec.space.names and name not in spec.trial]
    if searched:
        return searched_values(
            complete(spec.space, {**best.point, **dict.fromkeys(searched, 0.0)}, task=CLASSIFIER), spec
        )
    baseline = next((trial.point for trial in state.trials.values() if trial.origin == "baseline"), None)
    return searched_values(first_points(spec)[0][1] if baseline is None else baseline, spec)


def _candidates(spec: SweepSpec, full: Iterable[Trial], control: Point) -> Iterator[Trial]:
    """Yield trials with different configurations, best first; none that differs from the control in no method."""
    searched = [name for name in strengths_of(spec) if name in spec.space.names and name not in spec.trial]
    seen = [control]
    for trial in full:
        point = searched_values(trial.point, spec)
        is_off = bool(searched) and not any(point.get(name) for name in searched)
        if point not in seen and not is_off:
            seen.append(point)
            yield trial


def _gains(objective: Objective, state: SweepState, trials: Sequence[Trial]) -> list[float | None]:
    """Return the gain over the baseline that a search reports of each trial, more is better."""
    baseline = next((trial.score(objective) for trial in state.trials.values() if trial.origin == "baseline"), None)
    sign = 1.0 if objective.mode == "max" else -1.0
    scores = [trial.score(objective) for trial in trials]
    return [None if score is None or baseline is None else sign * (score - baseline) for score in scores]


def _confirming(spec: SweepSpec, points: Sequence[Point], seeds: Sequence[int]) -> SweepSpec:
    """Return a spec that trains each point with each seed: the control first, as the baseline with the first seed."""
    control, *_ = points
    trials = [{**point, SEED: seed} for seed in seeds for point in points][1:]
    trial = {name: value for name, value in spec.trial.items() if name != SEED}
    off = strengths_of(spec)
    baseline = {name: value for name, value in {**control, SEED: seeds[0]}.items() if name not in off}
    search = Search(
        sampler="random", num_trials=1 + len(trials), seed=spec.search.seed, points=tuple(trials), baseline=baseline
    )
    return check_spec(
        spec.model_copy(
            update={
                "trial": trial,
                "space": _space_of(spec, points),
                "search": search,
                "scheduler": SchedulerSpec(name="none"),
                "budget": Budget(),
                "storage": spec.storage.model_copy(update={"keep_best": None}),
            }
        )
    )


def _space_of(spec: SweepSpec, points: Sequence[Point]) -> SearchSpace:
    """Return the space with the seed, as wide as the points are, and without the constraints that one of them breaks.

    A method that the search never switched off has no 0 in its range.
    """
    space = spec.space
    parameters: dict[str, Domain] = {name: domain for name, domain in space.parameters.items() if name != SEED}
    for name, domain in parameters.items():
        values = list(dict.fromkeys(point[name] for point in points if name in point))
        if not all(domain.contains(value) for value in values):
            parameters[name] = Choice(values) if len(values) > 1 else Fixed(values[0])
    constraints = [
        constraint for constraint in space.constraints if all(constraint.holds({**spec.trial, **p}) for p in points)
    ]
    return SearchSpace({**parameters, SEED: SEEDS}, when=space.when, constraints=constraints)
