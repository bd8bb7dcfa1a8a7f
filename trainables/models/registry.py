"""Models by name; one of this package is built on the meta device, then initialised from a generator."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol, final

import torch
from torch import nn

from trainables.config.trial import ModelConfig, TrialConfig
from trainables.data import shape_of
from trainables.errors import ConfigError, Problem
from trainables.models.cnn import cnn
from trainables.models.cnn_bn import cnn_bn
from trainables.models.layers import resolve_boundaries, resolve_taps
from trainables.models.mlp import mlp
from trainables.models.own import build_own
from trainables.models.residual import preact_resnet18, preact_resnet34, wide_resnet28_10
from trainables.models.staged import StagedClassifier
from trainables.models.tapped import TappedClassifier
from trainables.seeding import generator

__all__ = ["MODELS", "Architecture", "build", "check_layers", "layer_problems"]


class Assemble(Protocol):
    """Function that builds a model of this shape, with arbitrary weights."""

    def __call__(
        self, image_shape: tuple[int, int, int], num_classes: int, /, *, width: float, dropout: float = 0.0
    ) -> StagedClassifier: ...


@final
@dataclass(frozen=True, slots=True)
class Architecture:
    """Network, with a variant `without_final_norm` where that is a choice.

    It accepts images of at least `smallest_side` pixels in height and width.
    """

    default: Assemble
    smallest_side: int = 1
    without_final_norm: Assemble | None = None


MODELS: Mapping[str, Architecture] = MappingProxyType(
    {
        "mlp": Architecture(mlp),
        "cnn": Architecture(cnn, smallest_side=8),
        "cnn_bn": Architecture(cnn_bn, smallest_side=4),
        "preact_resnet18": Architecture(preact_resnet18, without_final_norm=partial(preact_resnet18, final_norm=False)),
        "preact_resnet34": Architecture(preact_resnet34, without_final_norm=partial(preact_resnet34, final_norm=False)),
        "wide_resnet28_10": Architecture(wide_resnet28_10),
    }
)


def build(
    config: ModelConfig,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int = 0,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    device: torch.device | str = "cpu",
) -> TappedClassifier:
    """Build a newly initialised classifier for images of shape (C, H, W) in [0, 1].

    `mean` and `std` (one number, or one per channel) are those of the training images. The weights
    depend on `seed` alone: they are sampled on the host, whatever the device, and the global generators
    are left as they were. On the device 'meta' only the shapes are built.

    Raises:
        ConfigError: images too small for the network, or a choice that it does not have; a network of a user that
            cannot be built, or returns no logits.
    """
    if not config.is_own:
        model = _build_staged(config, image_shape, num_classes, seed=seed, device=device)
    else:
        kind = torch.device(device).type
        model = build_own(config, image_shape=image_shape, num_classes=num_classes, seed=seed, device=kind)
    if torch.device(device).type == "meta":
        return model
    if config.normalize:
        model.standardise(mean, std)
    return model.to(device)


def _build_staged(
    config: ModelConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    seed: int,
    device: torch.device | str,
) -> TappedClassifier:
    with torch.device("meta"):
        assemble = _assemble(config, image_shape)
        model = assemble(image_shape, num_classes, width=config.width, dropout=config.dropout)
    if torch.device(device).type == "meta":
        return model
    model.to_empty(device="cpu")
    model.standardise((0.0,), (1.0,))  # the memory of its buffers is as it was found
    _initialise(model, generator(seed, "init"))
    # With this format, convolutions and poolings on a CPU take two thirds of the time.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def check_layers(config: TrialConfig) -> None:
    """Check layers and classes of a configuration on a model without weights; no data set is read.

    Raises:
        ConfigError: the model cannot be built, lacks a layer of SNNL or mixup, or a batch has more classes
            than the data set.

    >>> check_layers(TrialConfig.from_point({"model.name": "mlp", "snnl.layers": "fc1+fc2"}))
    """
    image_shape, num_classes = shape_of(config.data)
    model = build(config.model, image_shape=image_shape, num_classes=num_classes, device="meta")
    problems = layer_problems(config, model, num_classes=num_classes)
    if problems:
        raise ConfigError(problems)


def layer_problems(config: TrialConfig, model: TappedClassifier, *, num_classes: int) -> list[Problem]:
    """Return the layers of SNNL and mixup that the model of a configuration lacks, and too many classes in a batch."""
    problems: list[Problem] = []
    uses = (
        ("snnl.layers", resolve_taps, config.snnl.layers, config.snnl.weight != 0),
        ("mixup.layers", resolve_boundaries, config.mixup.layers, config.mixup.alpha > 0),
    )
    for path, resolve, layers, is_on in uses:
        try:
            if not resolve(layers, model) and is_on:
                problems.append(Problem(path, f"must name a layer, got {layers!r}, of which this model has none"))
        except ConfigError as error:
            problems += error.problems
    if config.classes_per_batch is not None and config.classes_per_batch > num_classes:
        message = f"must be <= {num_classes}, the number of classes, got {config.classes_per_batch}"
        problems.append(Problem("classes_per_batch", message))
    return problems


def _assemble(config: ModelConfig, image_shape: tuple[int, int, int]) -> Assemble:
    """Return the network of a configuration.

    Raises:
        ConfigError: as `build`.
    """
    problems = list(_problems(config, image_shape))
    if problems:
        raise ConfigError(problems)
    architecture = MODELS[config.name]
    bare = architecture.without_final_norm
    return architecture.default if bare is None or config.final_norm is not False else bare


def _problems(config: ModelConfig, image_shape: tuple[int, int, int]) -> Iterator[Problem]:
    smallest, sides = MODELS[config.name].smallest_side, image_shape[1:]
    if min(sides) < smallest:
        able = " or ".join(name for name, model in MODELS.items() if model.smallest_side <= min(sides))
        got = "x".join(map(str, sides))
        yield Problem(
            "model.name", f"{config.name} needs images of at least {smallest}x{smallest}, got {got}; choose {able}"
        )
    if config.final_norm is not None and MODELS[config.name].without_final_norm is None:
        able = " or ".join(name for name, model in MODELS.items() if model.without_final_norm is not None)
        yield Problem(
            "model.final_norm",
            f"{config.name} has no such choice, got {str(config.final_norm).lower()}; leave it out, or choose {able}",
        )


def _initialise(model: nn.Module, stream: torch.Generator) -> None:
    """Apply He initialisation (fan-in, ReLU), zero biases, and the reset of each normalisation layer."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=stream)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"{type(module).__name__}: has parameters but no reset_parameters to fill them")
