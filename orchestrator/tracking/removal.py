"""Removal of a sweep from MLflow: its runs with their artifacts, and its prepared views."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.redaction import without_password
from orchestrator.tracking.store.store import open_store, search, tracking_uri
from orchestrator.tracking.views import views

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Traces:
    """Content of MLflow that belongs to one sweep; ``models`` are registered versions, as ``NAME version N``."""

    store: str
    runs: tuple[str, ...]
    views: tuple[str, ...]
    models: tuple[str, ...]
    for_good: bool
    """True if the store deletes at once; a server keeps deleted runs until its ``mlflow gc``."""


def traces(plan: SweepPlan) -> Traces:
    """Find the content of MLflow that belongs to a sweep. Nothing is changed.

    Raises:
        Exception: any error of MLflow, as when it cannot be reached.
    """
    uri = tracking_uri(plan)
    client = open_store(uri)
    experiment = client.get_experiment_by_name(plan.experiment)
    if experiment is None:
        return Traces(without_password(uri), (), (), (), for_good=True)
    run_ids = tuple(run.info.run_id for run in search(client, experiment.experiment_id, plan.sweep))
    keys = {f"mlflow.sharedViewState.{view.key}" for view in views(plan)}
    return Traces(
        store=without_password(uri),
        runs=run_ids,
        views=tuple(sorted(keys & experiment.tags.keys())),
        models=tuple(_models(client, set(run_ids))),
        for_good=not uri.startswith("http"),
    )


def remove(plan: SweepPlan, traces: Traces) -> None:
    """Delete the runs, with their artifacts, and the prepared views. Content that is gone is no error.

    Raises:
        Exception: any error of MLflow; a second call deletes the rest.
    """
    uri = tracking_uri(plan)
    client = open_store(uri)
    for run in traces.runs:
        _remove_artifacts(client, run, uri)
        if traces.for_good:
            _store(client)._hard_delete_run(run)  # noqa: SLF001  as `mlflow gc` does: there is no public way
        else:
            client.delete_run(run)
    experiment = client.get_experiment_by_name(plan.experiment)
    for key in traces.views:
        client.delete_experiment_tag(experiment.experiment_id, key)


def _models(client: MlflowClient, run_ids: set[str]) -> list[str]:
    versions = (version for run in run_ids for version in client.search_model_versions(f"run_id = '{run}'"))
    numbers = sorted((version.name, int(version.version)) for version in versions)
    return [f"{name} version {number}" for name, number in numbers]


def _remove_artifacts(client: MlflowClient, run: str, uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

    address = client.get_run(run).info.artifact_uri
    # without the address of the store, MLflow would delete at the server that the environment names
    get_artifact_repository(address, tracking_uri=uri).delete_artifacts()
    if address.startswith(("file:", "/")):
        with contextlib.suppress(OSError):  # MLflow leaves the folder that held them
            Path(address.removeprefix("file://")).parent.rmdir()


def _store(client: MlflowClient) -> Any:
    return client._tracking_client.store  # noqa: SLF001  as `mlflow gc` does
