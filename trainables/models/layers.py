"""Layers of one model: every name with its module, and the names that a text ('conv1+conv2', 'hidden') means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from trainables.attacks import evaluating
from trainables.errors import ConfigError, Problem, short_repr, suggestion
from trainables.models.tapped import ALL, HIDDEN, INPUT, LOGITS, PENULTIMATE, TappedClassifier

__all__ = ["Layer", "describe", "measured_taps", "resolve_boundaries", "resolve_taps"]


@dataclass(frozen=True, slots=True)
class Layer:
    """Name of a model: the class of its module and its parameters, if it has one, and the shape of an image's values.

    tap, boundary: the smallest group that has it ('hidden', 'all'), '' if it must be named, None if it is not one.
    """

    name: str
    kind: str | None
    shape: tuple[int, ...]
    parameters: int | None
    tap: str | None
    boundary: str | None


def describe(model: TappedClassifier, image_shape: tuple[int, int, int]) -> tuple[Layer, ...]:
    """Return every tap and boundary of a model that can be named, in order."""
    device = model.mean.device
    with torch.no_grad(), torch.device(device), evaluating(model):
        read = model.features(torch.zeros(2, *image_shape), taps=model.readable).taps
    shapes = {INPUT: image_shape, **{tap: tuple(values.shape[1:]) for tap, values in read.items()}}
    taps = _groups(model.readable, {HIDDEN: resolve_taps(HIDDEN, model), ALL: model.taps})
    boundaries = _groups(model.mixable, {HIDDEN: resolve_boundaries(HIDDEN, model), ALL: model.boundaries})
    layers = []
    for name, shape in shapes.items():
        part = None if name == INPUT else model.part(name)
        kind, parameters = (None, None) if part is None else (part.kind, part.parameters)
        layers.append(Layer(name, kind, shape, parameters, taps.get(name), boundaries.get(name)))
    return tuple(layers)


def _groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {name: next((group for group, members in groups.items() if name in members), "") for name in names}


def resolve_taps(spec: str, model: TappedClassifier) -> tuple[str, ...]:
    """Return taps in the model's order: 'all', 'hidden' (all but penultimate and logits), or names joined by '+'.

    Raises:
        ConfigError: unknown names, under the path snnl.layers.
    """
    hidden = [tap for tap in model.taps if tap not in {PENULTIMATE, LOGITS}]
    return _resolve(spec, model.readable, groups={ALL: model.taps, HIDDEN: hidden}, model=model, path="snnl.layers")


def resolve_boundaries(spec: str, model: TappedClassifier) -> tuple[str, ...]:
    """Return boundaries in the model's order: 'all', 'hidden' (all but the input), or names joined by '+'.

    Raises:
        ConfigError: unknown names, under the path mixup.layers.
    """
    hidden = [boundary for boundary in model.boundaries if boundary != INPUT]
    groups = {ALL: model.boundaries, HIDDEN: hidden}
    return _resolve(spec, model.mixable, groups=groups, model=model, path="mixup.layers")


def measured_taps(spec: str, model: TappedClassifier) -> tuple[str, ...]:
    """Return the taps that are measured in training: those of the group 'all', and those that `snnl.layers` names.

    Raises:
        ConfigError: as `resolve_taps`.
    """
    chosen = {*model.taps, *resolve_taps(spec, model)}
    return tuple(tap for tap in model.readable if tap in chosen)


def _resolve(
    spec: str, names: Sequence[str], *, groups: Mapping[str, Sequence[str]], model: TappedClassifier, path: str
) -> tuple[str, ...]:
    parts = spec.split("+")
    unknown = [part for part in parts if part not in names and part not in groups]
    if unknown:
        raise ConfigError(Problem(path, _refusal(part, [*groups, *names], model)) for part in unknown)
    chosen = {name for part in parts for name in groups.get(part, (part,))}
    return tuple(name for name in names if name in chosen)


def _refusal(part: str, valid: Sequence[str], model: TappedClassifier) -> str:
    if part in model.unnamed:
        return f"{short_repr(part)} cannot be named, as {model.unnamed[part]}; name another module"
    if part in model.readable:
        return f"{short_repr(part)} can be read but not mixed at; {suggestion(part, valid)}"
    return f"{short_repr(part)} is no layer of this model; {suggestion(part, valid)}"
