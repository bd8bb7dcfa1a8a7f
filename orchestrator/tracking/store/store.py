"""MLflow's tracking store: open it quietly, find or create the sweep's experiment, search its runs."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.redaction import without_password
from orchestrator.storage.locations import cache_folder
from orchestrator.tracking import runs
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.store.mlflow_errors import store_errors
from orchestrator.tracking.store.sqlite import create_whole, store_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan

MAX_NAME = 200
"""Bytes of a folder's name; file systems take 255."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # If an answer is lost, MLflow's own retry would create a second run; the exporter finds the first by its tag.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
QUIET_LOGGERS = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,  # a page of traceback at every retry, for an error that it raises anyway
    "urllib3": logging.ERROR,  # its warning at each retry; the exporter says once that MLflow is away
}


def open_store(uri: str) -> MlflowClient:
    """Return a client of the store at an address, with MLflow's messages turned off; create a local sqlite store."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    from mlflow import MlflowClient, __version__  # noqa: PLC0415  takes seconds

    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    kept = cache_folder() / f"mlflow-{__version__}.db"
    create_whole(uri, lambda draft: MlflowClient(draft).search_experiments(max_results=1), kept=kept)
    return MlflowClient(uri)


def experiment_of(client: MlflowClient, plan: SweepPlan) -> str:
    """Return the id of the sweep's experiment, which is created if it does not exist.

    A sqlite store keeps artifacts next to its file, any other database in the folder the sweep was launched from. A
    server decides for itself.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    experiment = client.get_experiment_by_name(plan.experiment)
    if experiment is None:
        uri = tracking_uri(plan)
        local = not uri.startswith("http")
        folder = Path(uri.removeprefix("sqlite:///")).resolve().parent if uri.startswith("sqlite:///") else None
        artifacts = artifact_folder((folder or Path(plan.working_directory)) / "mlartifacts", plan.experiment).as_uri()
        try:
            return str(client.create_experiment(plan.experiment, artifact_location=artifacts if local else None))
        except MlflowException:  # another sweep of the family has just created it
            experiment = client.get_experiment_by_name(plan.experiment)
            if experiment is None:
                raise
    refuse_deleted(experiment)
    return str(experiment.experiment_id)


def artifact_folder(parent: Path, experiment: str) -> Path:
    """Return the folder of an experiment's artifacts below ``parent``, whatever its name.

    >>> artifact_folder(Path("/mlartifacts"), "team/digits").as_posix()
    '/mlartifacts/team/digits'
    >>> artifact_folder(Path("/mlartifacts"), "../../escape").as_posix()
    '/mlartifacts/%2E%2E%2F%2E%2E%2Fescape'
    """
    parts = experiment.split("/")
    is_plain = all(part not in {"", ".", ".."} and len(part.encode()) < MAX_NAME for part in parts)
    if is_plain and "\0" not in experiment:
        return parent / experiment
    name = urllib.parse.quote(experiment, safe="").replace(".", "%2E")
    return parent / (name if len(name) < MAX_NAME else hashlib.sha256(experiment.encode()).hexdigest())


def look_up(plan: SweepPlan) -> Cursor:
    """Find the runs of a sweep by their tags, on a machine that did not send them. Nothing is written.

    Raises:
        OrchestratorError: the store does not answer, or the experiment is deleted.
    """
    uri = tracking_uri(plan)
    cursor = Cursor(store=without_password(uri))
    file = store_file(uri)
    if file is not None and not file.exists():  # MLflow's client would create it
        return cursor
    with store_errors(uri, "mend that, or name its store in MLFLOW_TRACKING_URI if it is tracked in another"):
        client = open_store(uri)
        experiment = client.get_experiment_by_name(plan.experiment)
        if experiment is None:
            return cursor
        refuse_deleted(experiment)
        cursor.experiment = str(experiment.experiment_id)
        matches = search(client, cursor.experiment, plan.sweep)
        active = [run for run in matches if run.info.lifecycle_stage == "active"]
        named = {runs.run_name(plan.sweep, run.data.tags): run.info.run_id for run in active}
    cursor.runs = {name: named[name] for name in sorted(filter(None, named))}
    cursor.sweep_run = cursor.runs.pop(plan.sweep, None)
    return cursor


def refuse_deleted(experiment: Any) -> None:
    """Return if an experiment exists.

    Raises:
        OrchestratorError: it was deleted; names the command that restores it.
    """
    if experiment.lifecycle_stage != "active":
        raise OrchestratorError(
            f"MLflow's experiment {experiment.name!r} is deleted; restore it "
            f"(`mlflow experiments restore --experiment-id {experiment.experiment_id}`), "
            "or launch with another tracking.experiment"
        )


def search(client: MlflowClient, experiment: str | None, sweep: str) -> Iterator[Any]:
    """Yield every run of a sweep, including deleted ones."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    query, token = f"tags.`ravel.sweep` = '{sweep}'", None
    while True:
        page = client.search_runs([experiment], query, run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def store_here() -> str:
    """Return the address of the store in the working directory; whole, as MLflow keeps connections by address."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def tracking_uri(plan: SweepPlan) -> str:
    """Return the address of the store that tracks a sweep."""
    return plan.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store_here()
