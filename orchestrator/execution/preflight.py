"""Preflight checks: find every problem that depends on the machine before the sweep costs money.

The text of the spec was checked when it was loaded. Here the models are built (on torch's ``meta`` device: shapes, no
memory), the data sets are located, the tracking server is queried, and the storage is written to.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.imagined_sweep import decider_problems
from orchestrator.errors import OrchestratorError, PreflightError, SpecError, cut, quoted
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.cores import cores_here
from orchestrator.execution.own_metric_checks import declaration_problems, metric_problems
from orchestrator.execution.ray_cluster import check_unconnected
from orchestrator.planning.declared_metrics import metrics_of
from orchestrator.planning.folders import located
from orchestrator.planning.own_modules import own_files, own_modules, size_problem
from orchestrator.planning.plan import tracking_store
from orchestrator.planning.provenance import code_folder, find_own_code
from orchestrator.planning.validation import configured
from orchestrator.redaction import without_password
from orchestrator.state.sweep_lookup import try_out
from orchestrator.storage.locations import is_remote
from orchestrator.tracking import reachable
from search_spaces import Problem
from trainables.config.trial import DataConfig, TrialConfig
from trainables.errors import ConfigError, TrainableError
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.registry import TASK, task_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from orchestrator.spec.model import SweepSpec
    from trainables.errors import Problem as TrialProblem
    from trainables.models import TappedClassifier
    from trainables.tasks.gan import GanConfig
    from trainables.tasks.registry import AnyConfig

UserLoop = FunctionConfig | LightningConfig
"""Configurations of trials whose loop, model and data are a user's own."""
MAX_NETWORKS = 32
MAX_SETS = 8
"""Of a user's own, of which each is built and run; a sweep may have as many as trials."""
MAX_LISTED = 200
WITHOUT_BATCH_NORM = ("mlp", "cnn")


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
        *map(str, decider_problems(spec)),
    ]
    if problems:
        raise PreflightError(problems)


def check_here(spec: SweepSpec, *, address: str) -> None:
    """Run ``check`` for a sweep that is launched from the working directory."""
    check_unconnected(address)
    files_to_send(spec, Path.cwd(), address=address)
    uri = tracking_store(spec, Path.cwd()) or os.environ.get("MLFLOW_TRACKING_URI")
    if address == "local":  # the driver checks a cluster when it connects
        check_devices(spec, cpus=cores_here(), gpus=_gpus_here())
    check(spec, spec.storage.uri, tracking_uri=uri)


def files_to_send(spec: SweepSpec, folder: Path, *, address: str) -> dict[str, Path]:
    """Return the files of users' own modules that a cluster is sent, by import path; a private Ray is sent none.

    Raises:
        PreflightError: they are too large.
    """
    if address == "local" or not find_own_code(spec, folder):
        return {}
    files = own_files(own_modules(spec), code_folder(folder))
    problem = size_problem(files)
    if problem is not None:
        raise PreflightError([f"--address {address}: {problem}"])
    return files


def unequal_networks(spec: SweepSpec) -> tuple[str, ...]:
    """Return the networks that several workers train otherwise than one: those with batch normalisation, by name.

    Those of a user are among them, as they may have it.
    """
    if spec.resources.workers == 1:
        return ()
    names = dict.fromkeys(config.model.name for _, config in configured(spec) if isinstance(config, TrialConfig))
    return tuple(name for name in names if name not in WITHOUT_BATCH_NORM)


def check_own_code(spec: SweepSpec) -> None:
    """Import the code of a user that the spec names, and check its arguments by signature; try deciders out.

    Raises:
        SpecError: lists every problem.
    """
    if not find_own_code(spec, Path.cwd()) and spec.search.own is None and spec.scheduler.own is None:
        return
    from trainables.evaluation.core.own_metrics import static_problems  # noqa: PLC0415  imports torch
    from trainables.models.own import argument_problems  # noqa: PLC0415
    from trainables.regularizers.preflight_checks import check_signatures  # noqa: PLC0415

    models = {config.model for _, config in configured(spec) if isinstance(config, TrialConfig) and config.model.is_own}
    problems = dict.fromkeys(problem for model in models for problem in argument_problems(model))
    problems |= dict.fromkeys(problem for _, config in configured(spec) for problem in _function_problems(config))
    for config in {_regularizers_key(config): config for _, config in configured(spec)}.values():
        if isinstance(config, TrialConfig):
            try:
                check_signatures(config)
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
    problems |= dict.fromkeys(static_problems(metrics_of(spec.trial)))
    placed = [Problem(_place(spec, path), message) for path, message in problems] or declaration_problems(spec)
    deciding = decider_problems(spec)
    if placed or deciding:
        raise SpecError([*placed, *deciding])


def _place(spec: SweepSpec, name: str) -> str:
    """Return the place of a parameter in the spec."""
    if name in spec.trial:
        return f"trial.{name}"
    return f"space.parameters.{name}" if name in spec.space.names else name


def check_devices(spec: SweepSpec, *, cpus: int, gpus: int) -> None:
    """Refuse a sweep whose trials need more than one machine of so many CPUs and GPUs has.

    Raises:
        PreflightError: no trial fits, or the field that names or counts a GPU.
    """
    machine = Capacity((Node(cpus=cpus, gpus=gpus),))
    per_trial = machine.gpus_per_trial(spec.resources)
    machine.slots(spec.resources.model_copy(update={"custom": {}}), per_trial)  # Ray knows the custom ones
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
    find_own_code(spec, launched_from)
    different: dict[Hashable, dict[str, Any]] = {}
    strength: dict[Hashable, int] = {}
    for point, config in configured(spec):
        key = _data_key(config), _model_key(config), _regularizers_key(config)
        methods = _methods_on(config)
        if methods > strength.get(key, -1):  # layers that no method uses may be none
            different[key], strength[key] = point, methods
    located_points = [located({**spec.trial, **point}, launched_from) for point in different.values()]
    try:
        staged = _staged(located_points)
    except OrchestratorError as error:  # errors of S3 name the place and the remedy
        return [f"data.root: {error}"]
    configs = [task_of(spec.trial).from_point(point) for point in staged]
    problems = dict.fromkeys(str(problem) for config in configs for problem in _function_problems(config))
    configs = _on_few_sets(configs)
    problems |= dict.fromkeys(_data_problems(configs))
    problems |= {} if problems else dict.fromkeys(map(str, declaration_problems(spec)))
    if not problems:
        problems.update(dict.fromkeys(_model_problems(configs, spec.objective.metrics)))
        problems.update(dict.fromkeys(metric_problems(configs, spec.objective.metrics)))
        for config in {_regularizers_key(config): config for config in configs}.values():
            problems.update(dict.fromkeys(_argument_problems(config)))
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
    if isinstance(config, UserLoop):
        return tuple((name, type(value)) for name, value in sorted(config.arguments.items()))
    data = config.data
    return data.name, data.root, data.download, data.cache, data.args, data.image_size, data.fraction, data.part


def _model_key(config: AnyConfig) -> tuple[Hashable, ...]:
    """Return the settings that decide if a model can be built and has the layers and classes that a trial uses."""
    if isinstance(config, UserLoop):
        return ()
    data = config.data
    shape = data.name, data.root, data.args, data.image_size
    if not isinstance(config, TrialConfig):
        gan = config.gan
        return *shape, gan.generator_width, gan.discriminator_width, gan.latent_dim, gan.classifier
    own = config.regularizers.kinds, config.adversarial.attack, config.mixup.kind, config.optimizer.name
    methods = config.snnl.layers, config.mixup.layers, *own
    return *shape, config.model, *methods, config.classes_per_batch


def _regularizers_key(config: AnyConfig) -> Hashable:
    """Return the settings that decide if users' code in a step takes its arguments."""
    if not isinstance(config, TrialConfig):
        return ()
    optimizer = config.optimizer if config.optimizer.is_own else None
    mixture = config.mixup if config.mixup.is_own else None
    return config.regularizers.of_any_strength, config.adversarial.attack, config.adversarial.args, optimizer, mixture


def _argument_problems(config: AnyConfig) -> Iterator[str]:
    if not isinstance(config, TrialConfig) or not config.has_user_terms:
        return
    from trainables.regularizers.preflight_checks import check_arguments  # noqa: PLC0415  imports torch

    try:
        check_arguments(config)
    except TrainableError as error:
        yield from str(error).splitlines()


def _methods_on(config: AnyConfig) -> int:
    """Return the number of methods that use layers."""
    return (config.snnl.weight != 0) + (config.mixup.alpha > 0) if isinstance(config, TrialConfig) else 0


def _network_key(config: TrialConfig) -> tuple[Hashable, ...]:
    """Return the settings that decide if a model can be built."""
    return config.data.name, config.data.root, config.data.args, config.data.image_size, config.model


def _data_problems(configs: Iterable[AnyConfig]) -> Iterable[str]:
    with_data = {_data_key(config): config.data for config in configs if not isinstance(config, UserLoop)}
    if not with_data:
        return ()
    from trainables.data.checks import data_problems  # noqa: PLC0415  imports torch

    return data_problems(with_data.values())


def _on_few_sets(configs: Sequence[AnyConfig]) -> list[AnyConfig]:
    """Leave out trials on a user's own sets after the first ones, as each set that is checked is prepared."""
    of_users = {
        config: (config.data.name, config.data.args)
        for config in configs
        if not isinstance(config, UserLoop) and config.data.is_own
    }
    first = set(list(dict.fromkeys(of_users.values()))[:MAX_SETS])
    return [config for config in configs if config not in of_users or of_users[config] in first]


def _model_problems(configs: Iterable[AnyConfig], metrics: Iterable[str]) -> Iterator[str]:
    different = list({_model_key(config): config for config in configs}.values())
    yield from _classifier_problems((config for config in different if isinstance(config, TrialConfig)), metrics)
    for config in different:
        if not isinstance(config, TrialConfig | UserLoop):
            yield from _gan_problems(config)


def _function_problems(config: AnyConfig) -> tuple[TrialProblem, ...]:
    if not isinstance(config, UserLoop):
        return ()
    try:
        import_module(task_of({TASK: config.task}).run).check(config)  # imports torch
    except ConfigError as error:
        return error.problems
    return ()


def _gan_problems(config: GanConfig) -> Iterator[str]:
    import torch  # noqa: PLC0415

    from trainables.data import shape_of  # noqa: PLC0415
    from trainables.engine.placement import Placement  # noqa: PLC0415
    from trainables.tasks.gan.classifier import classifier_of  # noqa: PLC0415
    from trainables.tasks.gan.networks import build_networks  # noqa: PLC0415

    try:
        image_shape, _ = shape_of(config.data)
        build_networks(config.gan, image_shape=image_shape, device="meta")
        if config.gan.classifier is not None:  # else each worker trains its own
            classifier_of(config, Placement(torch.device("cpu")))
    except TrainableError as error:
        yield from str(error).splitlines()


def _classifier_problems(configs: Iterable[TrialConfig], metrics: Iterable[str]) -> Iterator[str]:
    """Yield the problems of models and layers; a network of a user is built for the first points and samples alone."""
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.models import build, layer_problems, measured_taps  # noqa: PLC0415
    from trainables.regularizers.preflight_checks import check_regularizers  # noqa: PLC0415

    built: dict[Hashable, TappedClassifier | None] = {}
    for config in configs:
        key = _network_key(config)
        if key not in built and config.model.is_own and len(built) >= MAX_NETWORKS:
            continue
        try:
            image_shape, num_classes = shape_of(config.data)
            if key not in built:
                built[key] = None
                built[key] = build(config.model, image_shape=image_shape, num_classes=num_classes, device="meta")
        except TrainableError as error:
            yield from str(error).splitlines()
        model = built[key]
        if model is None:
            continue
        problems = [str(problem) for problem in layer_problems(config, model, num_classes=num_classes)]
        yield from problems
        taps = model.taps if problems else measured_taps(config.snnl.layers, model)
        for family, _, tap in (metric.partition("/") for metric in metrics):
            if family == "entanglement" and tap not in taps:
                yield f"objective.metric: {_unmeasured(config, model, tap, taps)}"
        if not problems and config.has_user_terms:
            try:
                check_regularizers(config)
            except TrainableError as error:
                yield from str(error).splitlines()


def _unmeasured(config: TrialConfig, model: TappedClassifier, tap: str, taps: Iterable[str]) -> str:
    if tap in model.readable:
        return f"must be a tap that is measured, got {quoted(tap)}; add it to snnl.layers, which may be off"
    return f"{config.model.name} has no tap {quoted(tap)}; it has {cut(', '.join(taps), MAX_LISTED)}"
