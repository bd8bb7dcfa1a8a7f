"""Preflight checks of what trials use: data, models, layers, and the code of a user."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import OrchestratorError, SpecError, cut, quoted
from orchestrator.planning.declared_metrics import declared_metrics, direction_problems, unnamed_problems
from orchestrator.planning.folders import located
from orchestrator.planning.provenance import find_own_code
from orchestrator.planning.validation import VALUES, configured
from orchestrator.simulation.imagined_sweep import decider_problems
from orchestrator.storage.locations import is_remote
from search_spaces import Problem
from trainables.config.trial import DataConfig, TrialConfig
from trainables.errors import ConfigError, TrainableError, mistakes
from trainables.errors import Problem as TrialProblem
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.own_code import signature_problems
from trainables.tasks.registry import TASK, task_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from orchestrator.spec.model import SweepSpec
    from trainables.models import TappedClassifier
    from trainables.tasks.gan import GanConfig
    from trainables.tasks.registry import AnyConfig

Mistake: TypeAlias = "Problem | TrialProblem | str"
"""A mistake of the spec, or what this machine lacks for it."""
UserLoop = FunctionConfig | LightningConfig
"""Configurations of trials whose loop, model and data are a user's own."""
MAX_NETWORKS = 32
MAX_SETS = 8
"""Of a user's own, of which each is built and run; a sweep may have as many as trials."""
MAX_LISTED = 200
WITHOUT_BATCH_NORM = ("mlp", "cnn")


def check_own_code(spec: SweepSpec) -> None:
    """Import the code of a user that the spec names, and check its arguments by signature; try deciders out.

    A spec without such code imports no torch.

    Raises:
        SpecError: lists every problem.
    """
    find_own_code(spec, Path.cwd())
    problems: dict[tuple[str, str], Problem] = {}
    for path, message in signature_problems(config for _, config in configured(spec)):
        problems.setdefault((path, VALUES.sub("", message)), Problem(_place(spec, path), message))
    placed = list(problems.values()) or _declaration_problems(spec) or unnamed_problems(spec)
    deciding = decider_problems(spec)
    if placed or deciding:
        raise SpecError([*placed, *deciding])


def trial_problems(spec: SweepSpec, launched_from: Path) -> list[Mistake]:
    """Check data sets, models and layers of the baseline, the corners and seeded samples; list each message once.

    A mistake of the spec is a ``Problem``, what this machine lacks is a text.
    """
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
    problems = dict[Mistake, None]()
    for config in configs:
        problems |= dict.fromkeys(_function_problems(config))
    configs = _on_few_sets(configs)
    problems |= dict.fromkeys(_data_problems(configs))
    problems |= {} if problems else dict.fromkeys(_declaration_problems(spec))
    if not problems:
        problems.update(dict.fromkeys(_model_problems(configs, spec.objective.metrics)))
        problems.update(dict.fromkeys(_metric_problems(configs, spec.objective.metrics)))
        for config in {_regularizers_key(config): config for config in configs}.values():
            problems.update(dict.fromkeys(_argument_problems(config)))
    return list(problems)


def _place(spec: SweepSpec, name: str) -> str:
    """Return the place of a parameter in the spec."""
    if name in spec.trial:
        return f"trial.{name}"
    return f"space.parameters.{name}" if name in spec.space.names else name


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


def _argument_problems(config: AnyConfig) -> Iterator[Mistake]:
    if not isinstance(config, TrialConfig) or not config.has_user_terms:
        return
    from trainables.regularizers.preflight_checks import check_arguments  # noqa: PLC0415  imports torch

    try:
        check_arguments(config)
    except TrainableError as error:
        yield from mistakes(error)


def _methods_on(config: AnyConfig) -> int:
    """Return the number of methods that use layers."""
    return (config.snnl.weight != 0) + (config.mixup.alpha > 0) if isinstance(config, TrialConfig) else 0


def _network_key(config: TrialConfig) -> tuple[Hashable, ...]:
    """Return the settings that decide if a model can be built."""
    return config.data.name, config.data.root, config.data.args, config.data.image_size, config.model


def _data_problems(configs: Iterable[AnyConfig]) -> Iterable[Mistake]:
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


def _model_problems(configs: Iterable[AnyConfig], metrics: Iterable[str]) -> Iterator[Mistake]:
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


def _gan_problems(config: GanConfig) -> Iterator[Mistake]:
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
        yield from mistakes(error)


def _classifier_problems(configs: Iterable[TrialConfig], metrics: Iterable[str]) -> Iterator[Mistake]:
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
            yield from mistakes(error)
        model = built[key]
        if model is None:
            continue
        problems = list(layer_problems(config, model, num_classes=num_classes))
        yield from problems
        taps = model.taps if problems else measured_taps(config.snnl.layers, model)
        for family, _, tap in (metric.partition("/") for metric in metrics):
            if family == "entanglement" and tap not in taps:
                yield TrialProblem("objective.metric", _unmeasured(config, model, tap, taps))
        if not problems and config.has_user_terms:
            try:
                check_regularizers(config)
            except TrainableError as error:
                yield from mistakes(error)


def _unmeasured(config: TrialConfig, model: TappedClassifier, tap: str, taps: Iterable[str]) -> str:
    if tap in model.readable:
        return f"must be a tap that is measured, got {quoted(tap)}; add it to snnl.layers, which may be off"
    return f"{config.model.name} has no tap {quoted(tap)}; it has {cut(', '.join(taps), MAX_LISTED)}"


def _declaration_problems(spec: SweepSpec) -> list[Problem]:
    """Return the problems of declared units and directions, and the objectives that contradict one."""
    try:
        return direction_problems(spec, declared_metrics(spec))
    except ConfigError as error:
        return [Problem(path, message) for path, message in error.problems]


def _metric_problems(configs: Iterable[AnyConfig], objectives: Iterable[str]) -> list[Mistake]:
    """Return the problems of a user's own metrics, the same in every trial, measured on random logits."""
    config = next((config for config in configs if isinstance(config, TrialConfig) and config.metrics.by_label), None)
    if config is None:
        return []
    from trainables.data import shape_of  # noqa: PLC0415  imports torch
    from trainables.evaluation.core.own_metrics import check_metrics  # noqa: PLC0415

    try:
        _, num_classes = shape_of(config.data)
        check_metrics(config.metrics, num_classes=num_classes, objectives=objectives)
    except TrainableError as error:
        return [*mistakes(error)]
    return []
