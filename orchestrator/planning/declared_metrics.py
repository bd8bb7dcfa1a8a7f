"""Units and directions that a user's own code declares for what it measures.

They are kept in the plan, because commands that read a sweep import no code of a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.errors import cut, quoted
from search_spaces import Problem
from trainables.config.own_metrics import GROUP, is_own, labels_among
from trainables.config.trial import TrialConfig
from trainables.import_paths import load
from trainables.metrics import declared_by
from trainables.tasks.lightning.config import PREFIX
from trainables.tasks.registry import GROUP as TASKS
from trainables.tasks.registry import TASK, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.spec.model import SweepSpec
    from trainables.config.own_metrics import OwnMetrics


MAX_NAMES = 200
"""Characters of the valid names in a message."""


class DeclaredMetric(BaseModel):
    """Unit and direction of a metric, as its author declares them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str = ""
    direction: Literal["max", "min"] | None = None


def declared_metrics(spec: SweepSpec) -> dict[str, DeclaredMetric]:
    """Import the code that measures, and return what it declares, by metric; empty where none is the user's.

    The declaration of `val/LABEL` is that of each `val/LABEL/NAME` without one of its own.

    Raises:
        ConfigError: the code cannot be imported, or declares something else.
    """
    task = task_of(spec.trial)
    if task.name.startswith(PREFIX):  # a LightningModule declares none: its attributes are for Lightning
        return {}
    if task.any_metric:
        measures = declared_by(load(task.name, group=TASKS, place=TASK), place=TASK)
        return {name: DeclaredMetric(unit=one.unit, direction=one.direction) for name, one in measures.items() if name}
    if not labels_among(spec.trial):
        return {}
    from trainables.evaluation.core.own_metrics import target_of  # noqa: PLC0415  imports torch

    declared: dict[str, DeclaredMetric] = {}
    for label, settings in metrics_of(spec.trial).by_label.items():
        measures = declared_by(target_of(label, settings), place=f"{GROUP}.{label}.use")
        for name, one in measures.items():
            metric = f"val/{label}/{name}" if name else f"val/{label}"
            declared[metric] = DeclaredMetric(unit=one.unit, direction=one.direction)
    return declared


def metrics_of(trial: Mapping[str, Any]) -> OwnMetrics:
    """Return a user's own metrics of classifiers, which ``trial`` alone names.

    >>> list(metrics_of({"metrics.cost.use": "pricing:cost", "epochs": 3}).by_label)
    ['cost']
    """
    return TrialConfig.from_point(
        {name: value for name, value in trial.items() if name.startswith(f"{GROUP}.")}
    ).metrics


def declaration_of(metric: str, declared: Mapping[str, DeclaredMetric]) -> DeclaredMetric:
    """Return what is declared of a metric, or of the one that it is a part of.

    >>> declaration_of("val/cost/worst", {"val/cost": DeclaredMetric(unit="EUR")}).unit
    'EUR'
    """
    return declared.get(metric) or declared.get(metric.rpartition("/")[0]) or DeclaredMetric()


def unnamed_problems(spec: SweepSpec) -> list[Problem]:
    """Return the objectives that a user's own metric leaves out where it names its numbers, in its `metrics`.

    A metric with a `unit` or a `direction` too may have numbers without a name there, of which these are.

    Raises:
        ConfigError: the code cannot be imported, or declares something else.
    """
    if not labels_among(spec.trial):
        return []
    from trainables.evaluation.core.own_metrics import target_of  # noqa: PLC0415  imports torch

    problems = []
    for label, settings in metrics_of(spec.trial).by_label.items():
        target = target_of(label, settings)
        has_rest = "" in declared_by(target, place=f"{GROUP}.{label}.use")
        names = [f"val/{label}/{name}" for name in getattr(target, "metrics", None) or {} if name]
        for index, metric in enumerate(spec.objective.metrics):
            is_rest = has_rest and metric != f"val/{label}"
            if names and is_own(metric, [label]) and metric not in names and not is_rest:
                place = f"objective.{index}.metric" if index else "objective.metric"
                remedy = f"correct it, or add the number to {settings.use}.metrics"
                message = f"must be one that {settings.use} declares: {cut(', '.join(names), MAX_NAMES)}"
                problems.append(Problem(place, f"{message}; got {quoted(metric)}; {remedy}"))
    return problems


def direction_problems(spec: SweepSpec, declared: Mapping[str, DeclaredMetric]) -> list[Problem]:
    """Return the objectives whose mode contradicts the direction that their author declares."""
    problems = []
    for index, objective in enumerate(spec.objective.all):
        direction = declaration_of(objective.metric, declared).direction
        if direction not in {None, objective.mode}:
            place = f"objective.{index}.mode" if index else "objective.mode"
            message = f"must be {direction!r} for {quoted(objective.metric)}, as its code declares"
            problems.append(Problem(place, f"{message}, got {objective.mode!r}; change the mode or the declaration"))
    return problems
