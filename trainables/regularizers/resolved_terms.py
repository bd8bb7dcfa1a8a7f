"""Regularizers of one trial that are added to its loss, with their layers resolved against its model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from trainables.config.regularizers import RegularizerConfig
from trainables.config.trial import SnnlConfig, TrialConfig
from trainables.errors import ConfigError, Problem
from trainables.models import TappedClassifier, resolve_taps
from trainables.regularizers.protocol import Batch, Memory, Regularizer, Term
from trainables.regularizers.terms.activation_l2 import ActivationL2
from trainables.regularizers.terms.class_mean import ClassMean
from trainables.regularizers.terms.snnl import SoftNearestNeighbors
from trainables.regularizers.user_terms import UserTerm, build

__all__ = ["SNNL", "WeightedTerm", "check_first_step", "resolve_terms"]

SNNL = "snnl"


@dataclass(frozen=True, slots=True)
class WeightedTerm:
    """Regularizer with its weight, and the taps that it reads.

    `place` is that of its parameters, and the key of its memory; `name` is that of its value below `train/`, and of
    its metrics after a `separator`.
    """

    regularizer: Regularizer
    place: str
    name: str
    weight: float
    taps: tuple[str, ...]
    on_mixed: bool = False
    separator: str = "/"

    def measure(self, batch: Batch, memory: Memory) -> Term:
        """Return the term of one step, before its weight."""
        term = self.regularizer.term(batch, memory)
        return Term(term) if isinstance(term, Tensor) else term

    def named(self, term: Term) -> dict[str, Tensor]:
        """Return the value and the metrics of a term under the names to report."""
        return {self.name: term.value, **{f"{self.name}{self.separator}{key}": x for key, x in term.metrics.items()}}


def resolve_terms(config: TrialConfig, model: TappedClassifier, *, num_classes: int) -> tuple[WeightedTerm, ...]:
    """Return the regularizers of a trial, also those of weight 0: a wrong layer or argument is always an error.

    Raises:
        ConfigError: with every problem.
    """
    problems, terms = list[Problem](), list[WeightedTerm]()
    parts: list[Callable[[], WeightedTerm]] = [partial(_snnl, config.snnl, model)]
    for label, settings in config.regularizers.by_label.items():
        parts.append(partial(_labelled, label, settings, model, num_classes=num_classes))
    for part in parts:
        try:
            terms.append(part())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return tuple(terms)


def _snnl(settings: SnnlConfig, model: TappedClassifier) -> WeightedTerm:
    regularizer: Regularizer
    match settings.penalty:
        case "soft_nearest_neighbor":
            regularizer = SoftNearestNeighbors(settings.temperature, settings.temperature_mode, settings.distance)
        case "class_mean":
            regularizer = ClassMean(settings.distance)
        case "activation_l2":
            regularizer = ActivationL2()
    name = SNNL if settings.penalty == "soft_nearest_neighbor" else "control"
    taps = resolve_taps(settings.layers, model)
    return WeightedTerm(
        regularizer, SNNL, name, weight=settings.weight, taps=taps, on_mixed=settings.on_mixed, separator="_"
    )


def _labelled(label: str, settings: RegularizerConfig, model: TappedClassifier, *, num_classes: int) -> WeightedTerm:
    regularizer = build(label, settings, num_classes=num_classes)
    taps = _taps(settings.layers or regularizer.needs.layers, model, place=f"{regularizer.place}.layers")
    return WeightedTerm(
        regularizer, regularizer.place, label, weight=settings.weight, taps=taps, on_mixed=settings.on_mixed
    )


def _taps(layers: str | None, model: TappedClassifier, *, place: str) -> tuple[str, ...]:
    try:
        return () if layers is None else resolve_taps(layers, model)
    except ConfigError as error:
        raise ConfigError(Problem(place, problem.message) for problem in error.problems) from error


def check_first_step(terms: Iterable[WeightedTerm], reported: Mapping[str, Tensor], model: nn.Module) -> None:
    """Check that the value of each user's term, as a first step reported it, depends on the model's parameters.

    Raises:
        ConfigError: one does not, and would not change training whatever its weight.
    """
    for term in terms:
        if isinstance(term.regularizer, UserTerm):
            term.regularizer.check_gradient(reported[term.name], model)
