"""The models by name, and how one is built: on the meta device first, then filled from a generator."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import torch
from torch import nn

from trainables.config import ModelConfig, TrialConfig
from trainables.data import shape_of
from trainables.errors import ConfigError, Problem
from trainables.models.cnn import cnn
from trainables.models.layers import resolve_boundaries, resolve_taps
from trainables.models.mlp import mlp
from trainables.models.staged import StagedClassifier
from trainables.seeding import generator

__all__ = ["MODELS", "build", "check_layers"]


class Architecture(Protocol):
    """Builds a model of this shape, with whatever weights."""

    def __call__(self, image_shape: tuple[int, int, int], num_classes: int, /, *, width: float) -> StagedClassifier: ...


MODELS: Mapping[str, Architecture] = MappingProxyType({"mlp": mlp, "cnn": cnn})


def build(
    config: ModelConfig,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int = 0,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    device: torch.device | str = "cpu",
) -> StagedClassifier:
    """A freshly initialised classifier for images of shape (C, H, W) in [0, 1].

    `mean` and `std` (one number, or one per channel) are those of the training images. The weights
    depend on `seed` alone: they are drawn on the host, whatever the device, and the global generator
    is neither read nor moved. On the device 'meta' only the shapes are built.
    """
    with torch.device("meta"):
        model = MODELS[config.name](image_shape, num_classes, width=config.width)
    if torch.device(device).type == "meta":
        return model
    model.to_empty(device="cpu")
    _initialise(model, generator(seed, "init"))
    model.mean.copy_(torch.tensor(mean).reshape(1, -1, 1, 1))
    model.std.copy_(torch.tensor(std).reshape(1, -1, 1, 1))
    # Convolutions and poolings on a CPU take two thirds of the time this way.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def check_layers(config: TrialConfig) -> None:
    """Build the model's shapes and look up the layers of SNNL and mixup; no data set is read.

    Raises:
        ConfigError: every layer that the model does not have.

    >>> check_layers(TrialConfig.from_point({"model.name": "mlp", "snnl.layers": "fc1+fc2"}))
    """
    image_shape, num_classes = shape_of(config.data)
    model = build(config.model, image_shape=image_shape, num_classes=num_classes, device="meta")
    problems: list[Problem] = []
    for resolve, spec in ((resolve_taps, config.snnl.layers), (resolve_boundaries, config.mixup.layers)):
        try:
            resolve(spec, model)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _initialise(model: nn.Module, stream: torch.Generator) -> None:
    """He initialisation (fan-in, ReLU), zero biases; normalisation layers at their own reset."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"{type(module).__name__}: has parameters but no reset_parameters to fill them")
