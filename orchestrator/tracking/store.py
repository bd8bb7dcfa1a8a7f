"""MLflow's tracking store: opened quietly, its experiment made or found, its runs searched."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.addresses import tracking_uri
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from orchestrator.plan import SweepPlan

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the follower retries by itself, and must be able to stop
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
QUIET_LOGGERS = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,  # a page of traceback for what it raises anyway, at every retry
    "urllib3": logging.ERROR,  # its warning at each retry; the follower says once that MLflow is away
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
