"""Prepared views of a sweep in MLflow's own pages, as plain values. Imports no MLflow.

The pages keep a shared view as JSON in a tag of the experiment, and open it by its key. The format is not documented:
it is the one that the pages of 3.17 read, and tests open each view in a browser; hence `supports_views`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from orchestrator.spec.baseline import strengths_of
from search_spaces import Choice
from trainables.metrics import SYSTEM_METRICS
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from search_spaces.domains.types import Domain

TAG_PREFIX = "mlflow.sharedViewState."
SEEN = re.compile(r"3\.17(\.|$)")
OURS = "ravel"
COSTS = ("time/", "cost/")
"""Families of metrics that are last in the table, before those of the machine."""

PageMode: TypeAlias = Literal["CHART", "TABLE"]
PageState: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class PreparedView:
    """One prepared view: ``name`` is unique in its sweep, ``key`` in MLflow; ``state`` is the content of the pages.

    Example:
        >>> PreparedView("table", "ravel-digits-1-table", "all trials", "TABLE", {"orderByAsc": False}).tag
        ('mlflow.sharedViewState.ravel-digits-1-table', '{"orderByAsc":false}')
    """

    name: str
    key: str
    title: str
    mode: PageMode
    state: PageState

    @property
    def tag(self) -> tuple[str, str]:
        """Key and value of the experiment's tag that holds the view."""
        return TAG_PREFIX + self.key, json.dumps(self.state, separators=(",", ":"))


class TagsExperiments(Protocol):
    """Part of an ``MlflowClient`` that publishing uses."""

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> None:
        """Set one tag of an experiment."""


def supports_views(version: str) -> bool:
    """Return True if the pages of this version of MLflow are known to open such views.

    Example:
        >>> [supports_views(version) for version in ("3.17.2", "3.18.0", "3.1.7")]
        [True, False, False]
    """
    return SEEN.match(version) is not None


def publish(client: TagsExperiments, experiment: str, plan: SweepPlan) -> None:
    """Set the tags that hold a sweep's views. A second call changes nothing."""
    for view in views(plan):
        client.set_experiment_tag(experiment, *view.tag)


def views(plan: SweepPlan) -> tuple[PreparedView, ...]:
    """Return the views that a sweep's space allows; the first is the one to open first."""
    candidates = (_parallel(plan), _temperature(plan), _layers(plan), _curves(plan), _table(plan))
    return tuple(view for view in candidates if view is not None)


def _parallel(plan: SweepPlan) -> PreparedView | None:
    """Return parallel coordinates over the numeric axes of every trial: the pages omit a run that lacks one."""
    space, strengths = plan.spec.space, strengths_of(plan.spec)
    everywhere = [name for name in _searched(plan) if name in strengths or name not in space.when]
    axes = [name for name in everywhere if _is_numeric(space.parameters[name])]
    if not axes:
        return None
    return _charts(plan, "parallel", "parallel coordinates over all trials", [_parallel_card("all", axes, plan)])


def _temperature(plan: SweepPlan) -> PreparedView | None:
    x, y = "snnl.temperature", "snnl.weight"
    if not {x, y} <= set(_searched(plan)):
        return None
    return _charts(plan, "temperature", "SNNL: temperature x weight", [_contour_card(x, y, plan)])


def _layers(plan: SweepPlan) -> PreparedView | None:
    """Return a contour with parallel coordinates below it, because the contour interpolates between layers."""
    x, y = "mixup.alpha", "mixup.layers"
    if not {x, y} <= set(_searched(plan)):
        return None
    cards = [_contour_card(x, y, plan), _parallel_card("mixup", [y, x], plan)]
    return _charts(plan, "layers", "mixup: alpha x layers", cards)


def _curves(plan: SweepPlan) -> PreparedView:
    """Return one curve for each status and rung at which trials ended: mean, least and most."""
    keys = [{"mode": "tag", "groupByData": tag} for tag in ("ravel.status", "ravel.rung")]
    cards = [_line_card(metric) for metric in plan.spec.objective.metrics]
    groups = {"aggregateFunction": "average", "groupByKeys": keys}
    return _charts(plan, "curves", "learning curves by rung", cards, groupBy=groups)


def _table(plan: SweepPlan) -> PreparedView:
    """Return the table: objectives, how trials ended, searched parameters, other metrics, and last costs and system."""
    objectives = plan.spec.objective.metrics
    rest = [
        metric.name
        for metric in task_of(plan.spec.trial).metrics
        if not metric.minor and "<" not in metric.name and metric.name not in objectives
    ]
    measured = [name for name in rest if not name.startswith(COSTS)]
    costs = [*(name for name in rest if name.startswith(COSTS)), *_system(plan)]
    columns = [
        *(f"metrics.`{metric}`" for metric in objectives),
        *("tags.`ravel.status`", "tags.`ravel.rung`"),
        *(f"params.`{name}`" for name in _searched(plan)),
        *(f"metrics.`{metric}`" for metric in [*measured, *costs]),
    ]
    order = {"selectedColumns": columns, "columnOrder": columns}
    return _view(plan, "table", "table, the best trial first", mode="TABLE", state=order)


def _system(plan: SweepPlan) -> list[str]:
    return list(SYSTEM_METRICS) if plan.spec.tracking.system_metrics else []


def _charts(plan: SweepPlan, name: str, title: str, cards: list[PageState], **state: Any) -> PreparedView:
    """Return a view with our charts on top, and a folded section below for each group of metrics."""
    ours = {"uuid": OURS, "name": title, "display": True, "columns": 1, "cardHeight": 560 if len(cards) == 1 else 400}
    groups = dict.fromkeys(metric.name.partition("/")[0] for metric in task_of(plan.spec.trial).metrics)
    folded = [{"uuid": f"{OURS}-{group}", "name": group, "display": False} for group in groups]
    shown = {
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": cards,
        "compareRunSections": [{"isReordered": False, **section} for section in (ours, *folded)],
        "isAccordionReordered": True,  # or else the pages sort the sections by name
    }
    return _view(plan, name, title, mode="CHART", state={**shown, **state})


def _view(plan: SweepPlan, name: str, title: str, *, mode: PageMode, state: PageState) -> PreparedView:
    objective = plan.spec.objective
    rows = {
        "searchFilter": f"tags.`ravel.sweep` = '{plan.sweep}' and tags.`ravel.kind` = 'trial'",
        "orderByKey": f"metrics.`{objective.metric}`",
        "orderByAsc": objective.mode == "min",
    }
    return PreparedView(name, f"{OURS}-{plan.sweep}-{name}", title, mode, {**rows, **state})


def _parallel_card(name: str, parameters: list[str], plan: SweepPlan) -> PageState:
    """Return a chart whose last axis is the first objective: that axis colours the lines."""
    metrics = list(reversed(plan.spec.objective.metrics))
    return _card("PARALLEL", name, selectedParams=parameters, selectedMetrics=metrics, showAllRuns=True)


def _contour_card(x: str, y: str, plan: SweepPlan) -> PageState:
    axes = {"xaxis": {"key": x, "type": "PARAM"}, "yaxis": {"key": y, "type": "PARAM"}}
    return _card("CONTOUR", f"{x}-{y}", **axes, zaxis={"key": plan.spec.objective.metric, "type": "METRIC"})


def _line_card(metric: str) -> PageState:
    axis = {"xAxisKey": "step", "lineSmoothness": 0}  # the default of the pages smooths the curves
    return _card("LINE", metric, metricKey=metric, selectedMetricKeys=[metric], **axis)


def _card(kind: str, name: str, **settings: Any) -> PageState:
    common = {"uuid": f"{OURS}-{name}", "metricSectionId": OURS, "deleted": False, "isGenerated": False}
    return {"type": kind, **common, **settings}


def _searched(plan: SweepPlan) -> list[str]:
    """Return the parameters that differ between trials, strengths first; on a constant axis all lines would meet."""
    space, strengths = plan.spec.space.parameters, strengths_of(plan.spec)
    names = [name for name, domain in space.items() if domain.from_unit(0.0) != domain.from_unit(1.0)]
    return sorted(names, key=lambda name: (*strengths, name).index(name))


def _is_numeric(domain: Domain) -> bool:
    values = domain.options if isinstance(domain, Choice) else (domain.from_unit(0.0),)
    return all(type(value) in {int, float} for value in values)
