"""MLflow's tracking store: opened quietly, its experiment made or found, its runs searched."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.redaction import without_password
from orchestrator.tracking import runs
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.mlflow_errors import store_errors
from orchestrator.tracking.sqlite import store_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan

DEFAULT_URI = "sqlite:///mlflow.db"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # To ask again whether a lost answer made a run makes a second one; the exporter looks for it by its tag.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
QUIET_LOGGERS = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,  # a page of traceback for what it raises anyway, at every retry
    "urllib3": logging.ERROR,  # its warning at each retry; the exporter says once that MLflow is away
}


def open_store(uri: str) -> MlflowClient:
    """A client of the store at an address, with MLflow's chatter off."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    from mlflow import MlflowClient  # noqa: PLC0415  costs seconds: only who tracks pays them

    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    return MlflowClient(uri)


def experiment_of(client: MlflowClient, plan: SweepPlan) -> str:
    """The id of the sweep's experiment, made if it is not there; a database keeps its artifacts beside its file.

    One that is no file keeps them in the folder the sweep was launched from; a server decides for itself.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    found = client.get_experiment_by_name(plan.experiment)
    if found is None:
        uri = tracking_uri(plan)
        local = not uri.startswith("http")
        beside = Path(uri.removeprefix("sqlite:///")).resolve().parent if uri.startswith("sqlite:///") else None
        artifacts = ((beside or Path(plan.working_directory)) / "mlartifacts" / plan.experiment).as_uri()
        try:
            return str(client.create_experiment(plan.experiment, artifact_location=artifacts if local else None))
        except MlflowException:  # another sweep of the family made it a moment ago
            found = client.get_experiment_by_name(plan.experiment)
            if found is None:
                raise
    refuse_deleted(found)
    return str(found.experiment_id)


def look_up(plan: SweepPlan) -> Cursor:
    """The runs MLflow has of a sweep, found by their tags: for a machine that did not send them. Writes nothing.

    Raises:
        OrchestratorError: the store does not answer, or the experiment is deleted.
    """
    uri = tracking_uri(plan)
    found = Cursor(store=without_password(uri))
    file = store_file(uri)
    if file is not None and not file.exists():  # MLflow's client would make it
        return found
    with store_errors(uri, "mend that, or name its store in MLFLOW_TRACKING_URI if it is tracked in another"):
        client = open_store(uri)
        experiment = client.get_experiment_by_name(plan.experiment)
        if experiment is None:
            return found
        refuse_deleted(experiment)
        found.experiment = str(experiment.experiment_id)
        there = [run for run in search(client, found.experiment, plan.sweep) if run.info.lifecycle_stage == "active"]
        named = {runs.run_name(plan.sweep, run.data.tags): run.info.run_id for run in there}
    found.runs = {name: named[name] for name in sorted(filter(None, named))}
    found.sweep_run = found.runs.pop(plan.sweep, None)
    return found


def refuse_deleted(experiment: Any) -> None:
    """Ask for a remedy where an experiment was deleted.

    Raises:
        OrchestratorError: it is; says how to restore it.
    """
    if experiment.lifecycle_stage != "active":
        raise OrchestratorError(
            f"MLflow's experiment {experiment.name!r} is deleted; restore it "
            f"(`mlflow experiments restore --experiment-id {experiment.experiment_id}`), "
            "or launch with another tracking.experiment"
        )


def search(client: MlflowClient, experiment: str | None, sweep: str) -> Iterator[Any]:
    """Every run of a sweep, the deleted ones too."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    wanted, token = f"tags.`ravel.sweep` = '{sweep}'", None
    while True:
        page = client.search_runs([experiment], wanted, run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def tracking_uri(plan: SweepPlan) -> str:
    """Where this sweep is tracked."""
    return plan.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
