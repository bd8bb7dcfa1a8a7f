"""One training step's loss, on one page: attack, mix, entangle.

    x_adv = attack(model, x, y)                              from the unmixed images and hard labels
    L = w CE(clean, mixed) + (1 - w) CE(adversarial, mixed)  w = adversarial.clean_fraction, else 1
      + snnl.weight * sum over layers SNNL(layer)            on unmixed, unattacked activations

TRADES has beta KL(clean || adversarial), both unmixed, in the place of the adversarial cross-entropy.
The clean and the adversarial batch are mixed independently (Interpolated Adversarial Training, Lamb
et al., 2019). What needs unmixed activations while mixup is on (hard-label soft nearest neighbours,
TRADES) shares one pass of its own. All randomness enters as `Draws`, all memory between steps as
`learned`; the loss itself is a pure function of them.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables import attacks
from trainables.attacks import Norm
from trainables.classification import classification_loss
from trainables.config import AdversarialConfig
from trainables.entangling import entanglement, mixed_entanglement
from trainables.methods import Draws, Methods
from trainables.mixup import mixed_targets
from trainables.models import Activations, StagedClassifier
from trainables.snnl import LearnedTemperature

__all__ = ["Loss", "step_loss"]


@dataclass(frozen=True, slots=True)
class Loss:
    """The total to minimise, and its terms (0-d tensors).

    Terms: 'ce'; 'kl' with TRADES; 'snnl' before its weight, with the 'snnl_chance' level of its batch,
    also summed over layers, and the number of 'snnl_singletons' that it leaves out. `learned` are the
    temperatures to hand to the next step, by tap.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    learned: Mapping[str, LearnedTemperature] = field(default_factory=dict)


def step_loss(
    model: StagedClassifier,
    x_BCHW: Tensor,
    y_B: Tensor,
    *,
    num_classes: int,
    methods: Methods,
    draws: Draws,
    learned: Mapping[str, LearnedTemperature] | None = None,
) -> Loss:
    """The loss of one batch: images in [0, 1] and hard labels (B,)."""
    targets_BK = functional.one_hot(y_B, num_classes).to(x_BCHW.dtype)
    clean, unmixed = _clean_passes(model, x_BCHW, methods=methods, draws=draws)
    clean_targets_BK = mixed_targets(targets_BK, draws.clean_mix)
    ce = classification_loss(clean.logits, clean_targets_BK, settings=methods.loss)
    total, terms = ce, {"ce": ce}

    if methods.attacking:
        x_adversarial = _attack(model, x_BCHW, y_B, settings=methods.adversarial, noise=draws.noise_BCHW)
        attacked = model.features(x_adversarial, mix=draws.adversarial_mix)
        if methods.diverging:
            kl = attacks.kl_divergence(unmixed.logits, attacked.logits)
            total, terms = ce + methods.adversarial.trades_beta * kl, {"ce": ce, "kl": kl}
        else:
            attacked_targets_BK = mixed_targets(targets_BK, draws.adversarial_mix)
            ce_attacked = classification_loss(attacked.logits, attacked_targets_BK, settings=methods.loss)
            total = torch.lerp(ce_attacked, ce, methods.adversarial.clean_fraction)
            terms = {"ce": total}

    if not methods.entangling:
        return Loss(total, terms)
    if methods.snnl.on_mixed and draws.clean_mix is not None:
        found = mixed_entanglement(clean.taps, clean_targets_BK, settings=methods.snnl, learned=learned or {})
    else:
        found = entanglement(unmixed.taps, y_B, settings=methods.snnl, learned=learned or {})
    return Loss(total + methods.snnl.weight * found.terms["snnl"], {**terms, **found.terms}, found.learned)


def _clean_passes(
    model: StagedClassifier, x_BCHW: Tensor, *, methods: Methods, draws: Draws
) -> tuple[Activations, Activations]:
    """The clean batch as it is mixed, and as it is: one pass when that is the same, or nobody asks."""
    taps = methods.taps if methods.entangling else ()
    if draws.clean_mix is None:
        clean = model.features(x_BCHW, taps=taps)
        return clean, clean
    on_mixed = methods.entangling and methods.snnl.on_mixed
    clean = model.features(x_BCHW, mix=draws.clean_mix, taps=taps if on_mixed else ())
    if methods.diverging or (methods.entangling and not on_mixed):
        return clean, model.features(x_BCHW, taps=() if on_mixed else taps)
    return clean, clean


class _Reach(TypedDict):
    """How far an attack goes."""

    epsilon: float
    steps: int
    step_size: float
    norm: Norm


def _attack(
    model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, settings: AdversarialConfig, noise: Tensor | None
) -> Tensor:
    reach = _Reach(epsilon=settings.epsilon, steps=settings.num_steps, step_size=settings.step_size, norm=settings.norm)
    if settings.attack == "trades":
        if noise is None:
            raise ValueError(
                "draws.noise: trades starts beside the image, where its divergence has a gradient; draw it"
            )
        return attacks.trades_ascent(model, x_BCHW, noise=noise, **reach)
    return attacks.projected_ascent(model, x_BCHW, y_B, start=None if noise is None else x_BCHW + noise, **reach)
