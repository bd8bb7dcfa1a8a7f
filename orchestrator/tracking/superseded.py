"""Runs of MLflow that have points which the log lacks, since the log was restored from an older copy.

MLflow cannot remove a point of a metric. So such a run is set aside: it loses the tags by which it is known and is
deleted (restorably), and the log is sent to a new run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from orchestrator.state.event_log import read_events
from orchestrator.state.events import EpochReported, SweepEnded, SweepStarted
from orchestrator.tracking import runs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlflow import MlflowClient

logger = logging.getLogger(__name__)
IDENTIFYING = ("ravel.trial", "ravel.kind")


def set_aside(client: MlflowClient, existing: Iterable[Any], *, sweep: str, log: Path) -> tuple[str, ...]:
    """Set aside the active runs that are ahead of the log; return the names of their trials, or of the sweep.

    Raises:
        Exception: any error of MLflow; a second call sets aside the rest.
    """
    points, names = _points_of(log, sweep), []
    for run in existing:
        name = runs.run_name(sweep, run.data.tags)
        if name is None or run.info.lifecycle_stage != "active" or not _is_ahead(client, run, points.get(name)):
            continue
        client.set_tag(run.info.run_id, "ravel.superseded", f"{sweep}/{name}")
        for tag in IDENTIFYING:
            if tag in run.data.tags:
                client.delete_tag(run.info.run_id, tag)
        client.delete_run(run.info.run_id)
        names.append(name)
    names.sort()
    if names:
        logger.warning(
            "MLflow was ahead of the log, which was restored from an older copy: the runs of %s have points that the "
            "log lacks; they are deleted (restorable, tag ravel.superseded), and new runs get what the log has",
            ", ".join(names[:5]) + ("" if len(names) <= 5 else f" and {len(names) - 5} more"),
        )
    return tuple(names)


Points = dict[str, set[tuple[int, int]]]


def _points_of(log: Path, sweep: str) -> dict[str, Points]:
    """Return the step and the time in milliseconds of each point that the log gives a run, by run and metric.

    The metrics of the summary run are all sent with the end of the sweep; their points are under an empty name.
    """
    points: dict[str, Points] = {sweep: {"": set()}}
    generation = 0
    for event, _ in read_events(log):
        match event:
            case SweepStarted():
                generation = event.generation
            case SweepEnded():
                points[sweep][""].add((generation, runs.milliseconds(event.time)))
            case EpochReported():
                for metric in event.metrics:
                    own = points.setdefault(event.trial, {}).setdefault(metric, set())
                    own.add((event.epoch, runs.milliseconds(event.time)))
            case _ if hasattr(event, "trial"):
                points.setdefault(event.trial, {})
    return points


def _is_ahead(client: MlflowClient, run: Any, points: Points | None) -> bool:
    """Return True if a run has a point that the log lacks, or a trial that the log lacks.

    Metrics that no event has were logged by others, as evaluations are.
    """
    if points is None:
        return True
    for metric in run.data.metrics:
        own = points.get(metric, points.get(""))
        if own is not None:
            history = client.get_metric_history(run.info.run_id, metric)
            if any((point.step, point.timestamp) not in own for point in history):
                return True
    return False
