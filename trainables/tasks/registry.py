"""Tasks of a trial: a classifier, a generative adversarial network, a user's own training function or Lightning module.

A flat point names its task under `task`; that of a function is its import path, that of a `LightningModule` its import
path after `lightning:`.

A point without that name is a classifier's, as all points were before the second task. The name is not part of the
trial's configuration: `from_point` removes it.

>>> task_of({"epochs": 3}).name, task_of({"task": "gan"}).strengths
('classifier', ('gan.generator_snnl', 'gan.discriminator_snnl'))
>>> task_of({"task": "gna"})
Traceback (most recent call last):
trainables.errors.ConfigError: task: unknown task 'gna'; did you mean 'gan'?
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from trainables.config.regularizers import strengths_among
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError, Problem, short_repr, suggestion
from trainables.import_paths import is_import_path, registered
from trainables.metrics import CLASSIFIER_METRICS, GAN_METRICS, Metric
from trainables.tasks.function.config import FunctionConfig
from trainables.tasks.gan.config import GanConfig
from trainables.tasks.lightning.config import PREFIX, LightningConfig

if TYPE_CHECKING:
    from trainables.engine.epoch_loop import EpochLoop, TrialRun
    from trainables.engine.placement import Placement

__all__ = ["CLASSIFIER", "GAN", "TASK", "TASKS", "AnyConfig", "Task", "task_of"]

TASK = "task"
GROUP = "ravel.tasks"
AnyConfig: TypeAlias = TrialConfig | GanConfig | FunctionConfig | LightningConfig


@dataclass(frozen=True, slots=True)
class Task:
    """Kind of trial.

    `strengths` are the parameters that every trial has and that are 0 in the baseline, where all methods are off;
    `strengths_of` adds those of a sweep's own regularizers, and `optional_strengths` that it names.
    `fragments` of the catalog of search spaces are the default search space. `metrics` are those that it may
    report; with `any_metric`, others too, whose names it alone knows, and `remedy` says how to report one. `passes`
    returns the cost of an epoch of a trial, in epochs of plain training. With `has_shares`, several processes can
    train a trial together. `changeable` are the parameters that may change in the middle of training, each of which
    every step reads. `run` is the module with the functions `start` and `restore`, imported when a trial starts.
    `reader` says how to read what it trained.
    """

    name: str
    config: type[TrialConfig] | type[GanConfig] | type[FunctionConfig] | type[LightningConfig]
    strengths: tuple[str, ...]
    fragments: tuple[str, ...]
    metrics: tuple[Metric, ...]
    passes: Callable[[Any], int]
    run: str
    any_metric: bool = False
    remedy: str = "yield or return it"
    reader: str = "trainables.models.loading.load_model(CHECKPOINT)"
    has_shares: bool = False
    changeable: tuple[str, ...] = ()
    optional_strengths: tuple[str, ...] = ()

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Valid dotted names of a trial."""
        return self.config.parameter_names()

    def accepts(self, name: str) -> bool:
        """Return True if a trial may have a parameter of this dotted name, an argument of a user's own code included.

        >>> CLASSIFIER.accepts("model.args.depth"), GAN.accepts("model.args.depth")
        (True, False)
        """
        return self.config.accepts(name)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Default value of each parameter that has one."""
        return {name: value for name, value in self.config().to_point().items() if name != TASK}

    def strengths_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the strengths of trials that have parameters of these names: `strengths`, and those among the names.

        >>> CLASSIFIER.strengths_of(["regularizers.center.use", "regularizers.center.weight", "optimizer.sam_rho"])[3:]
        ('optimizer.sam_rho', 'regularizers.center.weight')
        """
        present = [name for name in names if self.accepts(name)]
        optional = (name for name in self.optional_strengths if name in present)
        return (*self.strengths, *optional, *strengths_among(present))

    def may_change(self, name: str) -> bool:
        """Return True if a parameter may change in the middle of training: a strength, or a setting of the optimizer.

        >>> CLASSIFIER.may_change("adversarial.epsilon"), CLASSIFIER.may_change("model.width")
        (True, False)
        """
        return name in self.changeable or bool(self.changeable and name in strengths_among([name]))

    def from_point(self, point: Mapping[str, object]) -> AnyConfig:
        """Return the configuration for a flat point of this task.

        Raises:
            ConfigError: unknown names or invalid values, all of them.

        >>> GAN.from_point({"task": "gan", "epochs": 3}).epochs
        3
        """
        own = {TASK: self.name} if TASK in self.config.model_fields else {}
        return self.config.from_point({**{name: value for name, value in point.items() if name != TASK}, **own})

    def passes_per_epoch(self, point: Mapping[str, object]) -> int:
        """Return the cost of an epoch of the trial, in epochs of plain training.

        >>> CLASSIFIER.passes_per_epoch({"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm_rs"})
        2
        """
        return self.passes(self.from_point(point))

    def measures(self, metric: str) -> bool:
        """Return True if a trial may report a metric of this name.

        >>> CLASSIFIER.measures("entanglement/conv1"), GAN.measures("entanglement/conv1")
        (True, False)
        """
        return self.any_metric or any(_is_of_family(metric, known.name) for known in self.metrics)

    def start(self, config: AnyConfig, *, placement: "Placement | None" = None) -> "EpochLoop[TrialRun]":
        """Return a trial before its first epoch; without a `placement`, on the device that it names. Imports torch.

        Raises:
            TrainableError: its data set is missing, or its model cannot be built.
        """
        loop: EpochLoop[TrialRun] = import_module(self.run).start(config, placement=placement)
        return loop

    def restore(
        self, directory: str, *, config: AnyConfig, placement: "Placement | None" = None
    ) -> "EpochLoop[TrialRun]":
        """Return a trial that continues from a checkpoint; imports torch.

        Raises:
            CheckpointError: the checkpoint cannot be read, or belongs to another trial.
        """
        loop: EpochLoop[TrialRun] = import_module(self.run).restore(directory, config=config, placement=placement)
        return loop

    def inherit(
        self, directory: str, *, config: AnyConfig, changed: Collection[str], placement: "Placement | None" = None
    ) -> "EpochLoop[TrialRun]":
        """Return a trial that continues the training of another one, whose checkpoint this is; imports torch.

        It may differ from that trial in its seed and in the ``changed`` parameters, which `may_change`.

        Raises:
            CheckpointError: the checkpoint cannot be read, or its trial differs in more.
        """
        run = import_module(self.run)
        loop: EpochLoop[TrialRun] = run.inherit(directory, config=config, changed=changed, placement=placement)
        return loop


def _is_of_family(metric: str, name: str) -> bool:
    family, bracket, _ = name.partition("<")
    return metric.startswith(family) and metric != family if bracket else metric == name


def _passes_of_classifier(config: TrialConfig) -> int:
    """Return 1, plus k for an attack of k steps, 1 at perturbed weights, and those of regularizers that are on."""
    attack = config.adversarial.num_steps if config.adversarial.epsilon else 0
    perturbed = int(config.adversarial.perturbs_weights or bool(config.optimizer.sam_rho))
    return 1 + attack + perturbed + sum(term.passes for term in config.regularizers.by_label.values() if term.weight)


def _one_pass(_: GanConfig | FunctionConfig | LightningConfig) -> int:
    return 1


CLASSIFIER = Task(
    name="classifier",
    config=TrialConfig,
    strengths=("snnl.weight", "mixup.alpha", "adversarial.epsilon"),
    optional_strengths=("adversarial.awp_gamma", "optimizer.sam_rho"),
    fragments=("optimizer", "snnl", "mixup", "adversarial"),
    metrics=CLASSIFIER_METRICS,
    passes=_passes_of_classifier,
    run="trainables.tasks.classifier.run",
    has_shares=True,
    changeable=(
        *("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "optimizer.clip_norm"),
        *("loss.label_smoothing", "snnl.weight", "snnl.temperature", "mixup.alpha"),
        *("adversarial.epsilon", "adversarial.relative_step", "adversarial.clean_fraction", "adversarial.trades_beta"),
        *("adversarial.noise_k", "adversarial.mart_lambda", "adversarial.awp_gamma", "optimizer.sam_rho"),
        *("data.rotation", "data.shear", "data.zoom", "data.erasing", "data.policy_magnitude"),
    ),
)
GAN = Task(
    name="gan",
    config=GanConfig,
    strengths=("gan.generator_snnl", "gan.discriminator_snnl"),
    fragments=("gan",),
    metrics=GAN_METRICS,
    passes=_one_pass,
    run="trainables.tasks.gan.run",
    reader="trainables.tasks.gan.load_generator(CHECKPOINT)",
)


@lru_cache
def function_task(path: str) -> Task:
    """Return the task of a training function; it is imported when a trial starts.

    >>> function_task("training:train").from_point({"epochs": 3, "lr": 0.1}).arguments
    {'lr': 0.1}
    """
    return Task(
        name=path,
        config=FunctionConfig,
        strengths=(),
        fragments=(),
        metrics=(),
        passes=_one_pass,
        run="trainables.tasks.function.run",
        any_metric=True,
        reader="trainables.engine.checkpoint.load(CHECKPOINT).model['state']",
    )


@lru_cache
def lightning_task(name: str) -> Task:
    """Return the task of a `LightningModule`; it is imported when a trial starts.

    >>> lightning_task("lightning:nets:LitNet").from_point({"model.args.width": 3}).module
    'nets:LitNet'
    """
    return Task(
        name=name,
        config=LightningConfig,
        strengths=(),
        fragments=(),
        metrics=(),
        passes=_one_pass,
        run="trainables.tasks.lightning.run",
        any_metric=True,
        reader="trainables.tasks.lightning.run.load_module(CHECKPOINT)",
        remedy="log it with self.log(..., on_epoch=True), as metrics of single steps are not reported",
    )


TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (CLASSIFIER, GAN)})


def task_of(point: Mapping[str, object]) -> Task:
    """Return the task of a flat point; None counts as absent, and a point without a task is a classifier's.

    Raises:
        ConfigError: the task is unknown.
    """
    name = CLASSIFIER.name if point.get(TASK) is None else point[TASK]
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    if isinstance(name, str) and name.startswith(PREFIX):
        if not is_import_path(name.removeprefix(PREFIX)):
            raise ConfigError.at(TASK, f"must be {PREFIX}module:Class, got {short_repr(name)}")
        return lightning_task(name)
    if isinstance(name, str) and (is_import_path(name) or name in registered(GROUP)):
        return function_task(name)
    hint = suggestion(str(name), [*TASKS, *registered(GROUP)])
    raise ConfigError([Problem(TASK, f"unknown task {short_repr(name)}; {hint}")])
