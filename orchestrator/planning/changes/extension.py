"""Extension of a plan by orders: the plan in force is a function of the sealed plan and the accepted orders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import SpecError, quoted
from orchestrator.planning.choices import num_random, sampler_choice
from orchestrator.planning.fields import did_you_mean
from orchestrator.planning.loading import override
from orchestrator.planning.points import max_epochs_of
from orchestrator.planning.trial_configs import compared_epochs
from orchestrator.scheduling.budgeted.rung_schedule import unusual
from orchestrator.scheduling.registry import (
    fraction_of,
    least_complete,
    mean_cost_of,
    rung_schedule_of,
    scheduler_of,
    whole_budget,
)
from orchestrator.spec.model import SweepSpec
from search_spaces import Problem
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
    from orchestrator.spec.model import Point
    from orchestrator.state.events import OrderAccepted
    from orchestrator.state.sweep_state import SweepState

CHANGEABLE = (
    "search.num_trials",
    "trial.epochs",
    "scheduler.budget_fraction",
    "scheduler.audit",
    "budget.wall_clock_s",
    "budget.gpu_s",
    "budget.target",
    "failures.infrastructure",
    "failures.user",
    "failures.allowed",
    "resources.max_concurrent",
    "storage.keep_best",
)
"""Fields of a spec on which no earlier decision rests; `search.points` may grow too."""
POINTS = "search.points"
EPOCHS, MEASURED = "epochs", "evaluation.epochs"


class Wish(NamedTuple):
    """Wishes of an order: further trials, further points, and new values of fields (``path=value``)."""

    more_trials: int | None = None
    points: tuple[Point, ...] = ()
    settings: tuple[str, ...] = ()


class Extension(NamedTuple):
    """Next generation of a plan, and what the log must hold to repeat it; see `OrderAccepted`."""

    plan: SweepPlan
    settings: dict[str, Any]
    fields: dict[str, Any]
    config: dict[str, Any]
    notes: tuple[str, ...]


def in_force(plan: SweepPlan, state: SweepState) -> SweepPlan:
    """Return the plan after all accepted orders of a sweep's state; the sealed plan if there are none."""
    for event in state.orders.values():
        if event.kind == "order_accepted":
            plan = extended(plan, event)
    return plan


def extended(plan: SweepPlan, event: OrderAccepted) -> SweepPlan:
    """Return the plan after one accepted order; a second application of the same order changes nothing."""
    if event.action != "extend":
        return plan
    return plan.successor(with_settings(plan.spec, event.settings), event.plan)


def with_settings(spec: SweepSpec, settings: Mapping[str, Any]) -> SweepSpec:
    """Return a spec with other values of fields, by their dotted names.

    >>> from orchestrator.spec.model import SweepSpec
    >>> spec = with_settings(SweepSpec(name="a"), {"search.num_trials": 96, "trial.epochs": 81})
    >>> spec.search.num_trials, spec.trial["epochs"]
    (96, 81)
    """
    for path, value in settings.items():
        section, _, field = path.partition(".")
        if section == "trial":
            changed: Any = {**spec.trial, field: value}
        else:
            plain = tuple(value) if path == POINTS else value
            changed = getattr(spec, section).model_copy(update={field: plain})
        spec = spec.model_copy(update={section: changed})
    return spec


def extension(plan: SweepPlan, wish: Wish, *, num_existing: int) -> Extension:
    """Return the plan that a wish leads to.

    Args:
        plan: Plan in force.
        wish: Changes that a user wants.
        num_existing: Number of trials that were created so far; with several seeds, of configurations.

    Raises:
        SpecError: lists every reason for which the plan cannot be changed so.
    """
    problems = _key_problems(wish.settings)
    if problems:
        raise SpecError(problems)
    spec = override(plan.spec, [*_numbers(plan.spec, wish), *wish.settings])
    spec = _with_points(spec, wish.points)
    problems = [*_number_problems(plan, spec, num_existing), *_scheduler_problems(plan, spec)]
    if problems:
        raise SpecError(problems)
    settings = {path: new for path, (_, new) in differences(plan.spec, spec).items()}
    max_epochs = max_epochs_of(spec)
    schedule = _schedule(plan, spec, max_epochs=max_epochs)
    scheduler = scheduler_of(spec, pauses=plan.pauses, max_epochs=max_epochs, schedule=schedule)
    fields = {
        "max_epochs": max_epochs,
        "rungs": list(scheduler.rungs or ()),
        "rung_schedule": None if schedule is None else _plain(schedule),
    }
    new = plan.successor(with_settings(plan.spec, settings), fields)
    config = _config(new) if max_epochs != plan.launched.max_epochs else {}
    return Extension(new, settings, fields, config, _notes(plan, new, settings))


def _key_problems(settings: Sequence[str]) -> list[Problem]:
    names = [setting.partition("=")[0] for setting in settings]
    requirement = f"must be one of {', '.join(CHANGEABLE)}"
    remedy = "for any other launch a new sweep: ravel fork SWEEP --name NEW --set ..."
    return [
        Problem(f"--set {name}", f"{requirement}{_hint(name)}; {remedy}") for name in names if name not in CHANGEABLE
    ]


def _hint(name: str) -> str:
    """Return the nearest field that may change, for a name that is no field at all."""
    section, _, field = name.partition(".")
    model = SweepSpec.model_fields.get(section)
    is_field = section in {"trial", "space"} or field in getattr(getattr(model, "annotation", None), "model_fields", ())
    return "" if is_field else did_you_mean(name, CHANGEABLE)


def _numbers(spec: SweepSpec, wish: Wish) -> list[str]:
    """Return the number of trials that further trials and points lead to, unless a setting gives it."""
    more = wish.more_trials if wish.more_trials is not None else len(wish.points)
    return [f"search.num_trials={spec.search.num_trials + more}"] if more else []


def _with_points(spec: SweepSpec, points: Sequence[Point]) -> SweepSpec:
    if not points:
        return spec
    from orchestrator.planning.validation import check_spec  # noqa: PLC0415  validates further points alone

    search = spec.search.model_copy(update={"points": (*spec.search.points, *points)})
    return check_spec(spec.model_copy(update={"search": search}))


def _number_problems(plan: SweepPlan, spec: SweepSpec, num_existing: int) -> list[Problem]:
    """Return the numbers that are smaller than what the sweep has done."""
    problems = []
    if spec.search.num_trials < num_existing:
        requirement = f"must be >= {num_existing}, the trials that exist"
        problems.append(Problem("search.num_trials", f"{requirement}; got {spec.search.num_trials}"))
    if EPOCHS in plan.spec.space.names and EPOCHS not in plan.spec.trial and spec.trial.get(EPOCHS) is not None:
        problems.append(Problem("trial.epochs", "cannot be extended, as space.parameters searches it; use ravel fork"))
    elif max_epochs_of(spec) < plan.max_epochs:
        requirement = f"must be >= {plan.max_epochs}, the epochs that the sweep has"
        problems.append(Problem("trial.epochs", f"{requirement}; got {max_epochs_of(spec)}; ravel stop ends trials"))
    elif spec.search.seeds > 1 and max_epochs_of(spec) > plan.max_epochs:
        requirement = f"must stay {plan.max_epochs} with search.seeds above 1, as seeds that ended are not reopened"
        problems.append(Problem("trial.epochs", f"{requirement}; got {max_epochs_of(spec)}; use ravel fork"))
    return problems


def _scheduler_problems(plan: SweepPlan, spec: SweepSpec) -> list[Problem]:
    """Return the schedulers whose earlier decisions more epochs would make incomparable."""
    name = spec.scheduler.chosen
    if name == "pbt" and (spec.search.num_trials, max_epochs_of(spec)) != (
        plan.spec.search.num_trials,
        plan.max_epochs,
    ):
        requirement = "must not be pbt to get more trials, points or epochs, as its population began together"
        return [Problem("scheduler.name", f"{requirement}; use ravel fork")]
    if max_epochs_of(spec) == plan.max_epochs or (name not in {"pasha", "hyperband"} and spec.scheduler.brackets == 1):
        return []
    what = "the ceiling of its rungs follows" if name == "pasha" else "the bracket of each trial follows"
    got = quoted(name) + (f" with {spec.scheduler.brackets} brackets" if spec.scheduler.brackets > 1 else "")
    requirement = "must be asha with one bracket, median or none to get more epochs"
    return [Problem("scheduler.name", f"{requirement}, as {what} from them; got {got}; use ravel fork")]


def differences(before: SweepSpec, after: SweepSpec) -> dict[str, tuple[Any, Any]]:
    """Return the fields that orders have changed, each with its value before and after, as plain data.

    >>> from orchestrator.spec.model import SweepSpec
    >>> differences(SweepSpec(name="a"), SweepSpec(name="a", search={"num_trials": 96}))
    {'search.num_trials': (32, 96)}
    """
    pairs = {path: (_value(before, path), _value(after, path)) for path in (*CHANGEABLE, POINTS)}
    return {path: (old, new) for path, (old, new) in pairs.items() if old != new}


def _value(spec: SweepSpec, path: str) -> Any:
    section, _, field = path.partition(".")
    if section == "trial":
        return spec.trial.get(field)
    value = getattr(getattr(spec, section), field)
    return [dict(point) for point in value] if path == POINTS else value


def _schedule(plan: SweepPlan, spec: SweepSpec, *, max_epochs: int) -> RungSchedule | None:
    """Return the rung schedule of a budget for the new numbers: its rungs stay, and continue up to the new maximum."""
    if not spec.scheduler.is_budgeted:
        return None
    schedule = plan.rung_schedule or rung_schedule_of(plan.spec, max_epochs=plan.max_epochs, design=1)
    factor, fraction = spec.scheduler.reduction_factor, spec.scheduler.budget_fraction
    num_trials = max(1, spec.search.num_trials - 1)
    if (num_trials, max_epochs, fraction) == (
        schedule.num_trials,
        schedule.maximum,
        plan.spec.scheduler.budget_fraction,
    ):
        return schedule
    longer = schedule.extended(
        fraction_of(spec, design=schedule.design),
        num_trials=num_trials,
        maximum=max_epochs,
        factor=None if factor == "auto" else factor,
        least=least_complete(spec, design=schedule.design),
    )
    return longer if longer.mean_passes is None else replace(longer, mean_passes=mean_cost_of(spec))


def _plain(schedule: RungSchedule) -> dict[str, Any]:
    return {
        "rungs": list(schedule.rungs),
        "places": list(schedule.places),
        "num_trials": schedule.num_trials,
        "maximum": schedule.maximum,
        "budget": schedule.budget,
        **unusual(schedule),
    }


def _config(plan: SweepPlan) -> dict[str, Any]:
    """Return the values that more epochs change in the configuration of a trial."""
    config: dict[str, Any] = {EPOCHS: plan.max_epochs}
    if MEASURED in task_of(plan.spec.trial).parameter_names:
        own = plan.spec.trial.get(MEASURED) or ()
        config[MEASURED] = sorted({*compared_epochs(plan, plan.max_epochs), *own})
    return config


def _notes(before: SweepPlan, after: SweepPlan, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the changes for people, with what is no longer comparable."""
    lines = [
        f"{path}: {shown_value(_value(before.spec, path), path)} to {shown_value(new, path)}"
        for path, new in settings.items()
    ]
    if before.rungs != after.rungs:
        kept = ", ".join(str(rung) for rung in after.rungs if rung in before.rungs) or "none"
        added = ", ".join(str(rung) for rung in after.rungs if rung not in before.rungs)
        lines.append(f"rungs: {kept} stay" + (f", {added} are new" if added else ""))
    old, new = before.rung_schedule, after.rung_schedule
    if old is not None and new is not None and old != new:
        places = f"places at the rungs: {new.places}"
        (few, _), (more, unit) = _budget_words(before, old), _budget_words(after, new)
        lines.append(f"budget: {few:.0f} to {more:.0f} {unit}; {places}")
    if "search.num_trials" in settings and after.spec.search.sampler in {"nsga2", "nsga3"}:
        lines.append(f"search.sampler: the population of {after.spec.search.sampler} follows the number of trials")
    if after.spec.search.sampler == "auto" and num_random(after.spec) != num_random(before.spec):
        lines.append(f"search.sampler: {sampler_choice(after.spec)}")
    if after.max_epochs != before.max_epochs:
        lines += _epoch_notes(before, after)
    return tuple(lines)


def _budget_words(plan: SweepPlan, schedule: RungSchedule) -> tuple[float, str]:
    """Return what a budget pays for, since design 2 also the baseline with all its seeds, and its unit."""
    epochs = whole_budget(plan.spec, schedule)
    fixed = schedule.mean_passes
    return (epochs, "epochs") if fixed is None else (epochs * fixed, "gradient evaluations of each image")


def _epoch_notes(before: SweepPlan, after: SweepPlan) -> list[str]:
    spec, notes = after.spec, []
    task = task_of(spec.trial)
    if task is not CLASSIFIER:
        notes.append(f"what depends on `epochs` in a {task.name} was trained for {before.max_epochs} epochs so far")
    elif "optimizer.schedule" in spec.space.names or spec.trial.get("optimizer.schedule") != "constant":
        notes.append(
            f"optimizer.schedule is not constant: the trials so far followed that of {before.max_epochs} epochs, "
            f"and go on with that of {after.max_epochs}"
        )
    if spec.scheduler.chosen == "median" and spec.scheduler.grace_period == "auto":
        notes.append("scheduler.grace_period: auto follows the epochs; decisions that were made stay")
    return notes


def shown_value(value: Any, path: str) -> str:
    """Return the value of a field in words.

    >>> shown_value([{"lr": 0.1}], "search.points"), shown_value(None, "budget.gpu_s"), shown_value(8, "trial.epochs")
    ('1 point', 'unset', '8')
    """
    if path == POINTS:
        return num_points(len(value))
    return "unset" if value is None else str(value)


def num_points(count: int) -> str:
    """Return a number of points in words.

    >>> num_points(1), num_points(2)
    ('1 point', '2 points')
    """
    return f"{count} point{'' if count == 1 else 's'}"
