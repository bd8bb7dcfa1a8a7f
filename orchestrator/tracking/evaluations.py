"""Evaluations in MLflow: numbers as metrics of the trial's own run, tables and figures as its artifacts.

A run shows the last report that was sent. Sending the same report twice changes nothing.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.tracking.note import FIGURES
from orchestrator.tracking.store.mlflow_errors import store_errors
from orchestrator.tracking.store.store import open_store, refuse_deleted, store_here, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan
    from trainables.evaluation.core.report import Analysis, Report

FOLDER = "evaluation"
TABLES_TAG = "mlflow.loggedArtifacts"
"""Tag that lists, for MLflow's pages, the artifacts that are tables to compare over runs."""


def trial_of_run(run_id: str) -> str:
    """Return the trial, as SWEEP/TRIAL, of a run in the store that the environment names, or in the default one.

    Raises:
        OrchestratorError: the run does not exist, or is no trial of ours.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or store_here()
    with store_errors(uri, "name a run of this store, SWEEP/TRIAL, or a checkpoint folder"):
        tags = open_store(uri).get_run(run_id).data.tags
    if "ravel.trial" not in tags:
        raise OrchestratorError(
            f"run {run_id}: must be a trial of a sweep, but has no tag ravel.trial; name a checkpoint folder"
        )
    return str(tags["ravel.trial"])


def log_report(plan: SweepPlan, report: Report, *, epoch: int | None = None, trial: str | None = None) -> str:
    """Send a report to the run of a trial, or to the summary run if no trial is named; return the run's id.

    Raises:
        OrchestratorError: MLflow has no such run, or refused.
    """
    uri = tracking_uri(plan)
    with store_errors(uri, "nothing is lost: the report is kept, and the same command sends it later"):
        client = open_store(uri)
        run = _run(client, plan, trial)
        _log_metrics(client, run, report, epoch=epoch or 0)
        for analysis in report.analyses:
            _log_artifacts(client, run, report.folder, analysis=analysis)
        _name_tables(client, run, report)
    return run


def log_figure(plan: SweepPlan, name: str, html: str) -> str:
    """Send a figure of a sweep to its summary run, as an artifact that replaces an earlier one; return the run's id.

    Raises:
        OrchestratorError: MLflow has no such run, or refused.
    """
    uri = tracking_uri(plan)
    with store_errors(uri, "the figure is kept, and the same command sends it later"):
        client = open_store(uri)
        run = _run(client, plan, None)
        client.log_text(run, html, f"{FIGURES}/{name}.html")
    return run


def tracked_name(metric: str) -> str:
    """Return a metric's name without ``@``, which MLflow does not take.

    >>> tracked_name("robust/pgd-20@0.1")
    'robust/pgd-20:0.1'
    """
    return metric.replace("@", ":")


def page(analysis: Analysis) -> str:
    """Render a figure as a page of HTML. Its script comes from plotly's own server, as for MLflow's figures."""
    import plotly.io  # noqa: PLC0415  slow, and few commands draw

    return str(plotly.io.to_html(analysis.figure, include_plotlyjs="cdn"))


def _log_metrics(client: MlflowClient, run: str, report: Report, *, epoch: int) -> None:
    from mlflow.entities import Metric  # noqa: PLC0415

    latest, now = client.get_run(run).data.metrics, round(time.time() * 1000)
    named = {tracked_name(name): value for name, value in report.metrics.items()}
    points = [Metric(name, value, now, epoch) for name, value in named.items() if latest.get(name) != value]
    client.log_batch(run, metrics=points, tags=[])


def _log_artifacts(client: MlflowClient, run: str, suite: str, *, analysis: Analysis) -> None:
    table = {"columns": list(analysis.table.columns), "data": [list(row) for row in analysis.table.rows]}
    client.log_text(run, json.dumps(table), _table(suite, analysis))
    client.log_text(run, page(analysis), f"{FOLDER}/{suite}/{analysis.name}.html")
    lines = [*(f"refused: {line}" for line in analysis.refusals), *analysis.limits]
    client.log_text(run, "\n".join([*lines, ""]), f"{FOLDER}/{suite}/{analysis.name}.txt")


def _name_tables(client: MlflowClient, run: str, report: Report) -> None:
    known: list[dict[str, Any]] = json.loads(client.get_run(run).data.tags.get(TABLES_TAG, "[]"))
    ours = [{"path": _table(report.folder, analysis), "type": "table"} for analysis in report.analyses]
    client.set_tag(run, TABLES_TAG, json.dumps([*known, *(table for table in ours if table not in known)]))


def _table(suite: str, analysis: Analysis) -> str:
    return f"{FOLDER}/{suite}/{analysis.name}.json"


def _run(client: MlflowClient, plan: SweepPlan, trial: str | None) -> str:
    experiment = client.get_experiment_by_name(plan.experiment)
    if experiment is not None:
        refuse_deleted(experiment)
        named = f"tags.`ravel.trial` = '{plan.sweep}/{trial}'"
        summary = f"tags.`ravel.sweep` = '{plan.sweep}' and tags.`ravel.kind` = 'sweep'"
        matches = client.search_runs([experiment.experiment_id], summary if trial is None else named)
        if matches:
            return str(matches[0].info.run_id)
    raise OrchestratorError(
        f"{plan.sweep}{f'/{trial}' if trial else ''}: MLflow has no run of it yet; first: ravel sync {plan.sweep}"
    )
