"""One training step's loss, on one page: attack, mix, entangle.

    x_adv = attack(model, x, y)                              from the unmixed images and hard labels
    L = w CE(clean, mixed) + (1 - w) CE(adversarial, mixed)  w = adversarial.clean_fraction, else 1
      + snnl.weight * sum over layers SNNL(layer)            on unmixed, unattacked activations

The clean and the adversarial batch are mixed independently (Interpolated Adversarial Training, Lamb
et al., 2019). Soft nearest neighbours need hard labels, so with mixup on they get a pass of their own.
All randomness enters as `Draws`; the loss itself is a pure function of them.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables import attacks, mixup, snnl
from trainables.config import AdversarialConfig, MixupConfig, SnnlConfig, TrialConfig
from trainables.mixup import Mix
from trainables.models import StagedClassifier, resolve_boundaries, resolve_taps
from trainables.seeding import Streams

__all__ = ["Draws", "Loss", "Methods", "draw", "step_loss"]


@dataclass(frozen=True, slots=True)
class Loss:
    """The total to minimise, and its terms (0-d tensors): 'ce', and 'snnl' before its weight."""

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods of one trial with their layers resolved against its model."""

    snnl: SnnlConfig
    mixup: MixupConfig
    adversarial: AdversarialConfig
    taps: tuple[str, ...]
    boundaries: tuple[str, ...]

    @classmethod
    def resolve(cls, config: TrialConfig, model: StagedClassifier) -> Self:
        """Look the layers up, also those of a method that is off: a wrong name is always an error.

        Raises:
            ConfigError: a layer that this model does not have.
        """
        taps = resolve_taps(config.snnl.layers, model)
        boundaries = resolve_boundaries(config.mixup.layers, model)
        return cls(config.snnl, config.mixup, config.adversarial, taps=taps, boundaries=boundaries)


@dataclass(frozen=True, slots=True)
class Draws:
    """What one step draws; None where a method is off."""

    clean_mix: Mix | None = None
    adversarial_mix: Mix | None = None
    noise_BCHW: Tensor | None = None


def draw(x_BCHW: Tensor, *, methods: Methods, streams: Streams) -> Draws:
    """Draw a step's mixtures and attack noise, each from its own stream."""
    adversarial = methods.adversarial.epsilon > 0
    noise_BCHW = (
        attacks.uniform_noise(x_BCHW, epsilon=methods.adversarial.epsilon, generator=streams.attack)
        if adversarial
        else None
    )
    if methods.mixup.alpha == 0:
        return Draws(noise_BCHW=noise_BCHW)
    clean_mix = _draw_mix(x_BCHW, methods, streams)
    adversarial_mix = _draw_mix(x_BCHW, methods, streams) if adversarial else None
    return Draws(clean_mix, adversarial_mix, noise_BCHW)


def step_loss(
    model: StagedClassifier, x_BCHW: Tensor, y_B: Tensor, *, num_classes: int, methods: Methods, draws: Draws
) -> Loss:
    """The loss of one batch: images in [0, 1] and hard labels (B,)."""
    targets_BK = functional.one_hot(y_B, num_classes).to(x_BCHW.dtype)
    entangling = methods.snnl.weight != 0
    shared_pass = entangling and draws.clean_mix is None

    clean = model.features(x_BCHW, mix=draws.clean_mix, taps=methods.taps if shared_pass else ())
    ce = mixup.mixed_cross_entropy(clean.logits, targets_BK, draws.clean_mix)
    if methods.adversarial.epsilon > 0:
        x_adversarial = _attack(model, x_BCHW, y_B, settings=methods.adversarial, noise=draws.noise_BCHW)
        attacked = model.features(x_adversarial, mix=draws.adversarial_mix)
        ce_adversarial = mixup.mixed_cross_entropy(attacked.logits, targets_BK, draws.adversarial_mix)
        ce = torch.lerp(ce_adversarial, ce, methods.adversarial.clean_fraction)
    if not entangling:
        return Loss(ce, {"ce": ce})

    unmixed = clean if shared_pass else model.features(x_BCHW, taps=methods.taps)
    entanglement = _entanglement(unmixed.taps, y_B, methods.snnl)
    return Loss(ce + methods.snnl.weight * entanglement, {"ce": ce, "snnl": entanglement})


def _draw_mix(x_BCHW: Tensor, methods: Methods, streams: Streams) -> Mix:
    return mixup.sample_mix(
        streams.mixup,
        len(x_BCHW),
        alpha=methods.mixup.alpha,
        boundaries=methods.boundaries,
        per_sample=methods.mixup.per_sample,
        device=x_BCHW.device,
    )


def _attack(
    model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, settings: AdversarialConfig, noise: Tensor | None
) -> Tensor:
    return attacks.projected_ascent(
        model,
        x_BCHW,
        y_B,
        epsilon=settings.epsilon,
        steps=settings.num_steps,
        step_size=settings.step_size,
        start=None if noise is None else x_BCHW + noise,
    )


def _entanglement(taps: Mapping[str, Tensor], y_B: Tensor, settings: SnnlConfig) -> Tensor:
    """Summed over layers, as in equation 3 of the paper."""
    losses = [
        snnl.training_loss(
            features,
            y_B,
            mode=settings.temperature_mode,
            temperature=settings.temperature,
            distance=settings.distance,
        )
        for features in taps.values()
    ]
    return torch.stack(losses).sum()
