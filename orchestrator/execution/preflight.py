"""Preflight checks: find every problem that depends on the machine before the sweep costs money.

The text of the spec was checked when it was loaded. Here the models are built (on torch's ``meta`` device: shapes, no
memory), the data sets are located, the tracking server is queried, and the storage is written to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError, PreflightError, quoted
from orchestrator.execution.cores import cores_here
from orchestrator.execution.ray_cluster import Capacity, Node, check_unconnected
from orchestrator.planning.plan import tracking_store
from orchestrator.planning.trial_configs import located
from orchestrator.planning.validation import configured
from orchestrator.redaction import without_password
from orchestrator.state.sweep_lookup import try_out
from orchestrator.storage.locations import is_remote
from orchestrator.tracking import reachable
from trainables.config.trial import DataConfig, TrialConfig
from trainables.errors import TrainableError
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from orchestrator.spec.model import SweepSpec
    from trainables.tasks.gan import GanConfig
    from trainables.tasks.registry import AnyConfig


def check(spec: SweepSpec, storage: str, *, tracking_uri: str | None = None, launched_from: Path | None = None) -> None:
    """Check everything that the sweep will need.

    Args:
        spec: the checked spec.
        storage: a folder, or ``s3://bucket/prefix``, for sweeps.
        tracking_uri: the MLflow store that runs are sent to; not checked if None.
        launched_from: the folder that relative paths start from; by default the working directory.

    Raises:
        PreflightError: lists every problem, each with its remedy.
    """
    problems = [
        *_storage_problems(storage),
        *_tracking_problems(tracking_uri or ""),
        *_trial_problems(spec, launched_from or Path.cwd()),
    ]
    if problems:
        raise PreflightError(problems)


def check_here(spec: SweepSpec, *, address: str) -> None:
    """Run ``check`` for a sweep that is launched from the working directory."""
    check_unconnected(address)
    uri = tracking_store(spec, Path.cwd()) or os.environ.get("MLFLOW_TRACKING_URI")
    if address == "local":  # the driver checks a cluster when it connects
        check_devices(spec, cpus=cores_here(), gpus=_gpus_here())
    check(spec, spec.storage.uri, tracking_uri=uri)


def check_devices(spec: SweepSpec, *, cpus: int, gpus: int) -> None:
    """Refuse a sweep whose trials need more than one machine of so many CPUs and GPUs has.

    Raises:
        PreflightError: no trial fits, or the field that names or counts a GPU.
    """
    machine = Capacity((Node(cpus=cpus, gpus=gpus),))
    per_trial = machine.gpus_per_trial(spec.resources)
    machine.slots(spec.resources, per_trial)
    check_gpu_seconds(spec, gpus=per_trial)
    names = dict.fromkeys(config.device for _, config in configured(spec))
    absent = [name for name in names if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= gpus]
    place = "trial.device" if "device" in spec.trial else "space.parameters.device"
    requirement = f"must be one of the {gpus} GPUs that torch finds on this machine"
    if absent:
        raise PreflightError([f"{place}: {requirement}, got {quoted(name)}; use auto or cpu" for name in absent])


def _gpus_here() -> int:
    import torch  # noqa: PLC0415

    return torch.cuda.device_count()


def check_gpu_seconds(spec: SweepSpec, *, gpus: float) -> None:
    """Refuse a sweep that counts GPU seconds if trials have no GPU.

    Raises:
        PreflightError: names the fields that count them.
    """
    counted = {
        "scheduler.resource": spec.scheduler.resource == "gpu_seconds",
        "budget.gpu_s": spec.budget.gpu_s is not None,
    }
    problem = "counts GPU seconds, and trials here have no GPU; use another unit, or request GPUs in resources.gpus"
    if not gpus and any(counted.values()):
        raise PreflightError([f"{place}: {problem}" for place, counts in counted.items() if counts])


def _storage_problems(storage: str) -> Iterator[str]:
    try:
        try_out(storage)
    except OrchestratorError as error:  # errors of S3 name the place and the remedy
        yield f"storage.uri: {error}"
    except OSError as error:
        yield f"storage.uri: {storage} cannot be written ({os.strerror(error.errno or 0)}); choose another folder"


def _tracking_problems(uri: str) -> Iterator[str]:
    problem = reachable.problem_of(uri)
    if problem is not None:
        remedy = "fix it, or unset tracking.uri and MLFLOW_TRACKING_URI to track in a file of the working directory"
        yield f"tracking.uri: {without_password(uri)}: {problem}; {remedy}"


def _trial_problems(spec: SweepSpec, launched_from: Path) -> list[str]:
    """Check data sets, models and layers of the baseline, the corners and seeded samples; list each message once."""
    different: dict[Hashable, dict[str, Any]] = {}
    for point, config in configured(spec):
        different.setdefault((_data_key(config), _model_key(config)), point)
    located_points = [located({**spec.trial, **point}, launched_from) for point in different.values()]
    try:
        staged = _staged(located_points)
    except OrchestratorError as error:  # errors of S3 name the place and the remedy
        return [f"data.root: {error}"]
    configs = [task_of(spec.trial).from_point(point) for point in staged]
    problems: dict[str, None] = {}
    for config in {_data_key(config): config for config in configs}.values():
        problems.update(dict.fromkeys(_data_problems(config.data)))
    if not problems:
        for config in {_model_key(config): config for config in configs}.values():
            problems.update(dict.fromkeys(_model_problems(config, spec.objective.metrics)))
    return list(problems)


def _staged(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace data sets in S3 by copies on this machine, downloaded once, as each worker does."""
    remote = {_source(point) for point in points if is_remote(point.get("data.root") or "")}
    if not remote:
        return points
    from orchestrator.storage.staging import stage  # noqa: PLC0415  not every sweep stages data
    from trainables.data import cache_folder  # noqa: PLC0415  imports torch

    staged = {(root, cache): str(stage(root, cache_folder(DataConfig(cache=cache)))) for root, cache in remote}
    return [{**point, "data.root": staged.get(_source(point), point.get("data.root"))} for point in points]


def _source(point: dict[str, Any]) -> tuple[Any, Any]:
    return point.get("data.root"), point.get("data.cache")


def _data_key(config: AnyConfig) -> tuple[Hashable, ...]:
    """Return the settings on which reading a data set depends: not those that vary its images."""
    data = config.data
    return data.name, data.root, data.download, data.cache, data.image_size


def _model_key(config: AnyConfig) -> tuple[Hashable, ...]:
    """Return the settings that decide if a model can be built and has the layers and classes that a trial uses."""
    data = config.data
    shape = data.name, data.root, data.image_size
    if not isinstance(config, TrialConfig):
        gan = config.gan
        return *shape, gan.generator_width, gan.discriminator_width, gan.latent_dim, gan.classifier
    return *shape, config.model, config.snnl.layers, config.mixup.layers, config.classes_per_batch


def _data_problems(data: Any) -> Iterator[str]:
    from trainables.data import available  # noqa: PLC0415  imports torch

    try:
        available(data)
    except TrainableError as error:
        yield str(error)


def _model_problems(config: AnyConfig, metrics: Iterable[str]) -> Iterator[str]:
    if isinstance(config, TrialConfig):
        return _classifier_problems(config, metrics)
    return _gan_problems(config)


def _gan_problems(config: GanConfig) -> Iterator[str]:
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.tasks.gan.classifier import classifier_of  # noqa: PLC0415
    from trainables.tasks.gan.networks import build_networks  # noqa: PLC0415

    try:
        image_shape, _ = shape_of(config.data)
        build_networks(config.gan, image_shape=image_shape, device="meta")
        if config.gan.classifier is not None:  # else each worker trains its own
            classifier_of(config.model_copy(update={"device": "cpu"}))
    except TrainableError as error:
        yield from str(error).splitlines()


def _classifier_problems(config: TrialConfig, metrics: Iterable[str]) -> Iterator[str]:
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.models import build, check_layers  # noqa: PLC0415

    try:
        image_shape, num_classes = shape_of(config.data)
        taps = build(config.model, image_shape=image_shape, num_classes=num_classes, device="meta").taps
    except TrainableError as error:
        yield from str(error).splitlines()
        return
    for family, _, tap in (metric.partition("/") for metric in metrics):
        if family == "entanglement" and tap not in taps:
            yield f"objective.metric: {config.model.name} has no tap {quoted(tap)}; it has {', '.join(taps)}"
    try:
        check_layers(config)
    except TrainableError as error:
        yield from str(error).splitlines()
