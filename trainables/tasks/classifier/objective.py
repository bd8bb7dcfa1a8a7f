"""Loss of one training step: attack, mix, entangle.

    x_adv = attack(model, x, y)                              from the unmixed images and hard labels
    L = w CE(clean, mixed) + (1 - w) CE(adversarial, mixed)  w = adversarial.clean_fraction, else 1
      + snnl.weight * sum over layers SNNL(layer)            on unmixed, unattacked activations

TRADES replaces the adversarial cross-entropy by beta KL(clean || adversarial), both unmixed. The clean and
the adversarial batch are mixed independently (Interpolated Adversarial Training, Lamb et al., 2019).

Terms that need unmixed activations while mixup is on (hard-label soft nearest neighbours, TRADES) share one
extra pass. A pass that nothing needs is not made, because it would change the statistics of batch
normalisation. All randomness enters as `Draws`, all memory between steps as `learned`; the loss itself is a pure
function of them.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables import attacks
from trainables.attacks import Norm, kl_divergence
from trainables.config.trial import AdversarialConfig
from trainables.mixup import Mix, mixed_targets
from trainables.models import Activations, TappedClassifier
from trainables.regularizers.resolved_methods import Draws, Methods
from trainables.regularizers.snnl_term import entanglement, mixed_entanglement
from trainables.snnl import LearnedTemperature
from trainables.tasks.classifier.cross_entropy import classification_loss

__all__ = ["Loss", "step_loss"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Total to minimise, and its terms (0-d tensors).

    Terms: 'ce'; 'kl' with TRADES; 'snnl' before its weight, with the 'snnl_chance' level of its batch,
    also summed over layers, and the number of 'snnl_singletons' that it leaves out; instead of these three a
    'control' (`snnl.penalty`), before its weight. `learned` are the temperatures for the next step, by tap.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    learned: Mapping[str, LearnedTemperature] = field(default_factory=dict)


def step_loss(
    model: TappedClassifier,
    x_BCHW: Tensor,
    y_B: Tensor,
    *,
    num_classes: int,
    methods: Methods,
    draws: Draws,
    learned: Mapping[str, LearnedTemperature] | None = None,
) -> Loss:
    """Compute the loss of one batch: images in [0, 1] and hard labels (B,)."""
    targets_BK = functional.one_hot(y_B, num_classes).to(x_BCHW.dtype)
    passes = _CleanPasses(model, x_BCHW, methods=methods, draws=draws)

    def cross_entropy(logits_BK: Tensor, mixture: Mix | None) -> Tensor:
        return classification_loss(logits_BK, mixed_targets(targets_BK, mixture), settings=methods.loss)

    if not methods.attacking:
        total = cross_entropy(passes.mixed.logits, draws.clean_mix)
        terms = {"ce": total}
    else:
        x_adversarial = _attack(model, x_BCHW, y_B, settings=methods.adversarial, noise=draws.noise_BCHW)
        attacked = model.features(x_adversarial, mix=draws.adversarial_mix)
        if methods.diverging:
            ce = cross_entropy(passes.mixed.logits, draws.clean_mix)
            kl = kl_divergence(passes.unmixed.logits, attacked.logits)
            total, terms = ce + methods.adversarial.trades_beta * kl, {"ce": ce, "kl": kl}
        else:
            total = cross_entropy(attacked.logits, draws.adversarial_mix)
            if methods.adversarial.clean_fraction > 0:
                ce = cross_entropy(passes.mixed.logits, draws.clean_mix)
                total = torch.lerp(total, ce, methods.adversarial.clean_fraction)
            terms = {"ce": total}

    if not methods.entangling:
        return Loss(total, terms)
    if draws.clean_mix is not None and methods.snnl.on_mixed:
        targets = {
            tap: mixed_targets(targets_BK, draws.clean_mix if model.follows(tap, draws.clean_mix.boundary) else None)
            for tap in methods.taps
        }
        snnl_term = mixed_entanglement(passes.mixed.taps, targets, settings=methods.snnl, learned=learned or {})
    else:
        snnl_term = entanglement(passes.unmixed.taps, y_B, settings=methods.snnl, learned=learned or {})
    total = total + methods.snnl.weight * snnl_term.total
    return Loss(total, {**terms, **snnl_term.terms}, snnl_term.learned)


@final
class _CleanPasses:
    """Passes of the clean batch through the model, unmixed and mixed; each one is computed at its first use."""

    def __init__(self, model: TappedClassifier, x_BCHW: Tensor, *, methods: Methods, draws: Draws) -> None:
        self._model, self._x_BCHW, self._mix = model, x_BCHW, draws.clean_mix
        taps = methods.taps if methods.entangling else ()
        on_mixed = methods.snnl.on_mixed and self._mix is not None
        self._taps_mixed: tuple[str, ...] = taps if on_mixed else ()
        self._taps_unmixed: tuple[str, ...] = () if on_mixed else taps

    @cached_property
    def unmixed(self) -> Activations:
        """Activations of the unmixed images."""
        return self._model.features(self._x_BCHW, taps=self._taps_unmixed)

    @cached_property
    def mixed(self) -> Activations:
        """Activations of the mixture, or of the unmixed images if mixup is off."""
        if self._mix is None:
            return self.unmixed
        return self._model.features(self._x_BCHW, mix=self._mix, taps=self._taps_mixed)


class _AttackSize(TypedDict):
    """Size of an attack: its ball and its steps."""

    epsilon: float
    steps: int
    step_size: float
    norm: Norm


def _attack(
    model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, settings: AdversarialConfig, noise: Tensor | None
) -> Tensor:
    size = _AttackSize(
        epsilon=settings.epsilon, steps=settings.num_steps, step_size=settings.step_size, norm=settings.norm
    )
    if settings.attack == "trades":
        if noise is None:
            raise ValueError(
                "draws.noise_BCHW: must be present for trades, as the divergence has no gradient at the image"
            )
        return attacks.trades_ascent(model, x_BCHW, noise=noise, **size)
    return attacks.projected_ascent(model, x_BCHW, y_B, start=None if noise is None else x_BCHW + noise, **size)
