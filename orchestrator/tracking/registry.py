"""Model registry: a trial's model under a name and an alias, with its signature, its metrics and its lineage.

A model is a checkpoint and a file of code that reads it, never a pickle. It is an artifact of its trial's own run. To
register a trial twice adds no version; a trial that trained on since then becomes a new version.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.errors import OrchestratorError, SpecError, quoted
from orchestrator.formatting import shown
from orchestrator.planning.provenance import find_code, uses_own_code
from orchestrator.state.sweep_folder import reference
from orchestrator.tracking.store.mlflow_errors import store_errors
from orchestrator.tracking.store.store import open_store, refuse_deleted, tracking_uri
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial

CODE = Path(__file__).with_name("served_model.py")
NEEDS = ("ravel-sweeps", "torch", "numpy")
"""Packages that a served model imports, apart from MLflow, which adds itself."""

QUIET_LOGGERS = ("mlflow.pyfunc", "mlflow.store.model_registry.abstract_store")

NAME = re.compile(r"[^/:'\"]+")
ALIAS = re.compile(r"(?!(?i:latest|v\d+)$)[A-Za-z0-9_-]+")
"""Form of an alias: MLflow reserves ``latest`` and ``v1``, and its filters cannot hold quotes."""


class TrainedTrial(Protocol):
    """A trained trial, as far as its registration needs it; ``TrialResult`` of ``orchestrator.analysis`` is one."""

    @property
    def trial(self) -> Trial:
        """State of the trial."""

    @property
    def score(self) -> float:
        """Objective at the last epoch."""

    @property
    def folder(self) -> SweepFolder:
        """Files of its sweep."""

    @property
    def name(self) -> str:
        """Its sweep and its id, as MLflow's tags name it."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metrics of the last epoch."""

    def require_classifier(self) -> None:
        """Raise an ``OrchestratorError`` unless the trial trained a classifier."""

    def checkpoint(self) -> Path:
        """Return the folder of its last checkpoint, fetched if the sweep is in S3."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model, and its alias; ``is_new`` if this call created it."""

    model: str
    version: int
    alias: str
    trial: str
    run: str
    is_new: bool

    @property
    def uri(self) -> str:
        """Address for ``mlflow.pyfunc.load_model``.

        >>> RegisteredVersion("digits", 1, "champion", "digits-1/t003", "ab", is_new=True).uri
        'models:/digits@champion'
        """
        return f"models:/{self.model}@{self.alias}"


def register(
    plan: SweepPlan, result: TrainedTrial, *, name: str | None = None, alias: str = "champion"
) -> RegisteredVersion:
    """Register a trial's model in the store of its sweep, and point the alias at it.

    Args:
        plan: Plan of the trial's sweep.
        result: The trial; its last checkpoint is the model.
        name: Name of the registered model; by default the spec's name, which all sweeps of that spec share.
        alias: Alias, which moves here from the version that has it.

    Raises:
        SpecError: MLflow does not take the name or the alias.
        OrchestratorError: no checkpoint, no run in MLflow, or MLflow refused; names the remedy.

    Example:
        >>> register(result.plan, result.best()).uri  # doctest: +SKIP
        'models:/digits@champion'
    """
    name = plan.spec.name if name is None else name
    _refuse_names(name, alias)
    result.require_classifier()
    checkpoint = result.checkpoint()
    uri, sweep = tracking_uri(plan), reference(result.folder)
    with store_errors(uri, f"nothing is lost; try again later: ravel register {sweep}"):
        client = _open(uri)
        run = _run_of(client, plan, result)
        existing = _version_of(client, name, run.info.run_id, result)
        number = existing or _add_version(client, name, run, plan=plan, result=result, checkpoint=checkpoint)
        client.set_registered_model_alias(name, alias, str(number))
    return RegisteredVersion(name, number, alias, result.name, run.info.run_id, is_new=existing is None)


def version_tags(plan: SweepPlan, result: TrainedTrial) -> dict[str, str]:
    """Return the tags of a version: its origin, and each metric of its last epoch under the metric's own name."""
    objective, source = plan.spec.objective, plan.provenance
    tags = {
        "ravel.sweep": plan.sweep,
        "ravel.trial": result.name,
        "ravel.epoch": str(result.trial.epoch),
        "ravel.status": result.trial.status,
        "ravel.objective": f"{objective.metric} {objective.mode}",
        "ravel.score": repr(result.score),
        "ravel.spec_fingerprint": plan.fingerprint,
    }
    if source.git_commit:
        tags |= {"ravel.git_commit": source.git_commit, "ravel.git_dirty": str(source.git_dirty).lower()}
    return {**{name: json.dumps(value) for name, value in result.metrics.items()}, **tags}


def description(plan: SweepPlan, result: TrainedTrial) -> str:
    """Describe a version in Markdown, for MLflow's page."""
    trial, metric = result.trial, plan.spec.objective.metric
    title = f"Trial {trial.id} ({trial.status}) of sweep {plan.sweep}, after epoch {trial.epoch} of {trial.budget}: "
    measured = f"{metric} {shown(result.score)} on the validation split."
    lines = [f"- `{name}`: {shown(value)}" for name, value in trial.point.items()]
    return "\n".join([title + measured, "", *lines])


def requirements() -> list[str]:
    """Return the packages that a served model needs, pinned to the installed versions."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in NEEDS]


def image_shape(checkpoint: Path) -> tuple[tuple[int, int, int], int]:
    """Return the shape (C, H, W) of the images that a checkpoint's model takes, and its number of classes."""
    from trainables.data import shape_of  # noqa: PLC0415
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch
    from trainables.models.loading import saved_config  # noqa: PLC0415

    saved = state.load(checkpoint)
    if saved.image_shape is None or saved.num_classes is None:  # format 1
        return shape_of(saved_config(checkpoint, saved).data)
    channels, height, width = saved.image_shape
    return (channels, height, width), saved.num_classes


def class_names(checkpoint: Path) -> list[str]:
    """Return the names of the classes in the order of the model's outputs; none if its data set has none."""
    from trainables.engine import checkpoint as state  # noqa: PLC0415  imports torch

    return list(state.load(checkpoint).class_names)


def own_code(plan: SweepPlan, folder: Path) -> list[str]:
    """Copy the user's own modules that a sweep imported to a new folder, and return its files and folders.

    They are found in the folder of the launch; modules of installed packages are not among them.
    """
    if not uses_own_code(plan.spec):
        return []
    home = find_code(plan.working_directory)
    for name in plan.provenance.code:
        if (home / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(home / name, folder / name)
    return sorted(map(str, folder.iterdir())) if folder.is_dir() else []


def save_model(checkpoint: Path, folder: Path, *, code: Sequence[str] = ()) -> None:
    """Write a checkpoint as an MLflow model to a new folder, and run it on one image.

    Its metadata have the names of the classes, as ``class_names``, if the checkpoint has them. ``code`` are files and
    folders with the user's own modules that its network needs; MLflow has them found wherever the model is loaded.
    """
    shape_CHW, num_classes = image_shape(checkpoint)
    names = class_names(checkpoint)
    with _quietly():
        import numpy as np  # noqa: PLC0415
        from mlflow import pyfunc  # noqa: PLC0415
        from mlflow.models import ModelSignature  # noqa: PLC0415
        from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

        float32 = np.dtype("float32")
        pyfunc.save_model(
            folder,
            python_model=str(CODE),
            artifacts={"checkpoint": str(checkpoint)},
            signature=ModelSignature(
                inputs=Schema([TensorSpec(float32, (-1, *shape_CHW))]),
                outputs=Schema([TensorSpec(float32, (-1, num_classes), name="logits")]),
            ),
            input_example=np.zeros((1, *shape_CHW), dtype=float32),
            pip_requirements=requirements(),
            model_config={"device": "cpu"},
            metadata={"class_names": names} if names else None,
            code_paths=list(code) or None,
        )


def _add_version(
    client: MlflowClient, name: str, run: Any, *, plan: SweepPlan, result: TrainedTrial, checkpoint: Path
) -> int:
    place = f"model/epoch-{result.trial.epoch}"
    with tempfile.TemporaryDirectory(prefix="ravel-model-") as folder:
        code = own_code(plan, Path(folder) / "code")
        save_model(checkpoint, Path(folder) / "model", code=code)
        client.log_artifacts(run.info.run_id, str(Path(folder) / "model"), place)
    _make_registered_model(client, name)
    created = client.create_model_version(
        name,
        f"{run.info.artifact_uri}/{place}",
        run.info.run_id,
        tags=version_tags(plan, result),
        description=description(plan, result),
    )
    return int(created.version)


def _make_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_of(client: MlflowClient, name: str, run: str, result: TrainedTrial) -> int | None:
    """Return the version that holds this trial's model, or None."""
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run}'")
    epoch = str(result.trial.epoch)
    return next((int(version.version) for version in versions if version.tags.get("ravel.epoch") == epoch), None)


def _run_of(client: MlflowClient, plan: SweepPlan, result: TrainedTrial) -> Any:
    experiment = client.get_experiment_by_name(plan.experiment)
    if experiment is not None:
        refuse_deleted(experiment)
        matches = client.search_runs([experiment.experiment_id], f"tags.`ravel.trial` = '{result.name}'")
        if matches:
            return matches[0]
    raise OrchestratorError(
        f"{result.name}: MLflow has no run of it yet, which the model belongs to; "
        f"first: ravel sync {reference(result.folder)}"
    )


def _open(uri: str) -> MlflowClient:
    """Open the registry in the tracking store, which may not be MLflow's default registry."""
    open_store(uri)
    from mlflow import MlflowClient  # noqa: PLC0415

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence MLflow's progress bars, and its advice on models that are not ours."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refuse_names(name: str, alias: str) -> None:
    problems = []
    if not NAME.fullmatch(name):
        problems.append(Problem("--name", f"must be a text without '/', ':' and quotes, got {quoted(name)}"))
    if not ALIAS.fullmatch(alias):
        rule = "must be of letters, digits, '_' and '-', and neither 'latest' nor 'v1'"
        problems.append(Problem("--alias", f"{rule}, got {quoted(alias)}"))
    if problems:
        raise SpecError(problems)
