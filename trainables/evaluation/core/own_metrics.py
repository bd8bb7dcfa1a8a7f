"""Metrics of a user's own on the validation split: `metrics.LABEL.use`, reported as `val/LABEL`.

A metric is a function of the logits (N, K) and the labels (N,) of the whole split, or a class: an object of it is
called with them, and one of torchmetrics is updated and computed. It returns a number, or numbers by name:

    def expected_cost(logits: Tensor, labels: Tensor, missed: float = 20.0) -> float:
        ...

    expected_cost.unit, expected_cost.direction = "EUR", "min"

It gets copies on the CPU, logits in float32. An object is built for each epoch, so a resumed trial measures the same.
Shapes: N images, K classes.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainables._torchvision import import_torchvision
from trainables.config.own_metrics import GROUP, REGISTRY, MetricConfig, OwnMetrics, is_own
from trainables.data.own.user_code import reported
from trainables.errors import ConfigError, Problem, short_repr
from trainables.import_paths import argument_problems, call, load
from trainables.seeding import generator, global_streams

__all__ = ["OwnMetric", "check_metrics", "own_metrics", "static_problems", "target_of"]

IMAGES = 64
PROVIDED = ("num_classes",)


@dataclass(frozen=True, slots=True)
class OwnMetric:
    """Metric of a label; `arguments` are those of its function or class."""

    label: str
    use: str
    target: Callable[..., Any]
    arguments: Mapping[str, Any]
    num_classes: int

    @property
    def place(self) -> str:
        """Place of its parameters."""
        return f"{GROUP}.{self.label}"

    def measure(self, logits_NK: Tensor, labels_N: Tensor, *, seed: int = 0, epoch: int = 0) -> dict[str, float]:
        """Return its values by name; it draws from global generators that depend on the seed and the epoch alone.

        Raises:
            ConfigError: it raises, or returns what is no number.
        """
        inputs = logits_NK.detach().float().cpu().clone(), labels_N.detach().cpu().clone()
        return self.measured(*inputs, seed=seed, epoch=epoch)

    def measured(self, logits_NK: Tensor, labels_N: Tensor, *, seed: int, epoch: int) -> dict[str, float]:
        """Return its values for these very tensors, which it may change."""
        device, purpose = torch.device("cpu"), f"{self.place} {epoch}"
        with global_streams(seed, purpose, device=device), reported(self.use, parameter=self.place), torch.no_grad():
            result = self._result(logits_NK, labels_N)
        return self._named(result)

    def _result(self, logits_NK: Tensor, labels_N: Tensor) -> object:
        provided = {"num_classes": self.num_classes}
        if not isinstance(self.target, type):
            return call(_bound(self.target, logits_NK, labels_N), self.arguments, provided=provided)
        metric = call(self.target, self.arguments, provided=provided)
        if not is_torchmetric(self.target):
            return metric(logits_NK, labels_N)
        metric.update(logits_NK, labels_N)
        return metric.compute()

    def _named(self, result: object) -> dict[str, float]:
        if not isinstance(result, Mapping):
            return {f"val/{self.label}": self._number("", result)}
        if not result:
            raise self._error("must return at least one number, got an empty mapping")
        for key in result:
            if not isinstance(key, str) or not key.isidentifier():
                raise self._error(f"must name its numbers with letters, digits and _, got {short_repr(key)}")
        return {f"val/{self.label}/{key}": self._number(key, value) for key, value in result.items()}

    def _number(self, key: str, value: object) -> float:
        what = f"a number under {key!r}" if key else "a number, or numbers by name"
        shape = tuple(getattr(value, "shape", ()))
        if shape:
            remedy = "take its mean(), or return a mapping"
            raise self._error(f"must return {what}, got {type(value).__name__} of shape {shape}; {remedy}")
        number = value.item() if hasattr(value, "item") else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self._error(f"must return {what}, got {type(value).__name__} {short_repr(value)}")
        return float(number)

    def _error(self, what: str) -> ConfigError:
        return ConfigError.at(self.place, f"{self.use} {what}")


def is_torchmetric(target: object) -> bool:
    """Return True if a class has the protocol of torchmetrics: `update` with a batch, then `compute`."""
    return isinstance(target, type) and all(callable(getattr(target, name, None)) for name in ("update", "compute"))


def target_of(label: str, settings: MetricConfig) -> Callable[..., Any]:
    """Return the function or class of a metric.

    Raises:
        ConfigError: it cannot be imported, is none, or does not take logits and labels.
    """
    place = f"{GROUP}.{label}.use"
    if settings.use.startswith("torchmetrics."):
        import_torchvision()  # torchmetrics imports it, and fails on wheels that this function repairs
    target = load(settings.use, group=REGISTRY, place=place)
    problem = _protocol_problem(target)
    if problem is not None:
        raise ConfigError.at(place, f"{settings.use} {problem}")
    return target  # type: ignore[no-any-return]


def own_metrics(metrics: OwnMetrics, *, num_classes: int) -> tuple[OwnMetric, ...]:
    """Return the metrics of a trial, in the order of their labels.

    Raises:
        ConfigError: with every problem of their paths and arguments.
    """
    problems = static_problems(metrics)
    if problems:
        raise ConfigError(problems)
    return tuple(
        OwnMetric(label, settings.use, target_of(label, settings), settings.args.by_name, num_classes)
        for label, settings in metrics.by_label.items()
    )


def static_problems(metrics: OwnMetrics) -> list[Problem]:
    """Return the problems of paths and arguments, by import and signature; no metric is called."""
    problems = list[Problem]()
    for label, settings in metrics.by_label.items():
        try:
            target = target_of(label, settings)
        except ConfigError as error:
            problems += error.problems
            continue
        takes = target if isinstance(target, type) else _bound(target, None, None)
        place = f"{GROUP}.{label}.args"
        problems += argument_problems(takes, settings.args.by_name, place=place, provided=PROVIDED)
    return problems


def check_metrics(
    metrics: OwnMetrics, *, num_classes: int, objectives: Iterable[str] = (), seed: int = 0
) -> dict[str, float]:
    """Call each metric twice on random logits, and return what it measured.

    Args:
        metrics: of a trial.
        num_classes: the number of classes K of its data set.
        objectives: metrics that a sweep needs.
        seed: of the logits and of the global generators.

    Raises:
        ConfigError: with every problem: it raises, changes its inputs, returns another value for the same inputs, or
            one that is not finite though it does not declare `may_be_nan = True`; or an objective is not measured.
    """
    problems, values = list[Problem](), dict[str, float]()
    for metric in own_metrics(metrics, num_classes=num_classes):
        try:
            measured = _tried(metric, seed=seed)
        except ConfigError as error:
            problems += error.problems
            continue
        values |= measured
        for name in objectives:
            if is_own(name, [metric.label]) and name not in measured:
                requirement = f"must be measured by {metric.use}: {', '.join(measured)}"
                problems.append(Problem("objective.metric", f"{requirement}; got {short_repr(name)}"))
    if problems:
        raise ConfigError(problems)
    return values


def _tried(metric: OwnMetric, *, seed: int) -> dict[str, float]:
    count = max(IMAGES, 2 * metric.num_classes)
    logits_NK = torch.randn(count, metric.num_classes, generator=generator(seed, "metrics"))
    labels_N = torch.arange(count) % metric.num_classes
    inputs = logits_NK.clone(), labels_N.clone()
    first = metric.measured(*inputs, seed=seed, epoch=0)
    if not (torch.equal(inputs[0], logits_NK) and torch.equal(inputs[1], labels_N)):
        message = "must not change the logits or labels that it gets; work on a copy, such as logits.clone()"
        raise ConfigError.at(metric.place, f"{metric.use} {message}")
    second = metric.measured(logits_NK, labels_N, seed=seed, epoch=0)
    if repr(first) != repr(second):
        remedy = "draw from torch's, numpy's or random's global generators, which are seeded, and keep no state"
        got = f"got {short_repr(first)} and {short_repr(second)}"
        raise ConfigError.at(metric.place, f"{metric.use} must return the same for the same inputs, {got}; {remedy}")
    infinite = {name: value for name, value in first.items() if not math.isfinite(value)}
    if infinite and not getattr(metric.target, "may_be_nan", False):
        remedy = "if it can be undefined, give it the attribute may_be_nan = True: the epoch then lacks the value"
        name, value = next(iter(infinite.items()))
        message = f"must return a finite number, got {value} for {name} on random logits; {remedy}"
        raise ConfigError.at(metric.place, f"{metric.use} {message}")
    return first


def _protocol_problem(target: object) -> str | None:
    """Return why an object is no metric, if it is none."""
    if isinstance(target, type):
        if is_torchmetric(target) or "__call__" in dir(target):
            return None
        return f"must be a function of (logits, labels), or a class with __call__, got the class {target.__name__}"
    if not callable(target):
        return f"must be a function of (logits, labels), or a class, got {type(target).__name__} {short_repr(target)}"
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # written in C
        return None
    try:
        signature.bind_partial(None, None)
    except TypeError:
        return f"must take the logits and the labels as its first two arguments, got {signature}"
    return None


def _bound(target: Callable[..., Any], logits_NK: Tensor | None, labels_N: Tensor | None) -> Callable[..., Any]:
    """Return a function of a metric's own arguments, under the metric's name."""
    bound = partial(target, logits_NK, labels_N)
    bound.__name__ = getattr(target, "__name__", type(target).__name__)  # type: ignore[attr-defined]
    return bound
