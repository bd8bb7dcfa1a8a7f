"""Loss of one training step: attack, mix, regularize.

    x_adv = attack(model, x, y)                              from the unmixed images and hard labels
    L = w CE(clean, mixed) + (1 - w) CE(adversarial, mixed)  w = adversarial.clean_fraction, else 1
      + sum over regularizers weight * term                  on unattacked activations, unmixed or mixed

The regularizers are soft nearest neighbours (`snnl.weight`) and those with a label (`regularizers.LABEL.weight`).
TRADES replaces the adversarial cross-entropy by beta KL(clean || adversarial), both unmixed. The clean and
the adversarial batch are mixed independently (Interpolated Adversarial Training, Lamb et al., 2019). A user's own
transform of the batch (`mixup.kind`) takes the place of the mixture.

Terms that need unmixed activations while mixup is on (regularizers of hard labels, TRADES) share one
extra pass. A pass that nothing needs is not made, because it would change the statistics of batch
normalisation. All randomness enters as `Draws`, what regularizers remember as `memory`; the loss itself is a pure
function of them, and of the seed and the step from which users' code draws.
Shapes: B images, C channels, H by W pixels, K classes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeAlias, final

import torch
from torch import Tensor
from torch.nn import functional

from trainables.attacks import kl_divergence
from trainables.mixup import Mix, mixed_targets
from trainables.models import Activations, TappedClassifier
from trainables.models.tapped import LOGITS
from trainables.regularizers.batch_transforms import TransformedBatch
from trainables.regularizers.protocol import Batch, Memory
from trainables.regularizers.resolved_methods import Draws, Methods
from trainables.regularizers.resolved_terms import WeightedTerm
from trainables.tasks.classifier.cross_entropy import classification_loss

__all__ = ["Loss", "step_loss"]

Mixture: TypeAlias = Mix | TransformedBatch


@dataclass(frozen=True, slots=True)
class Loss:
    """Total to minimise, and its terms (0-d tensors).

    Terms: 'ce'; 'kl' with TRADES; each regularizer's value before its weight, with its metrics: 'snnl',
    'snnl_chance' and 'snnl_singletons', or a 'control' (`snnl.penalty`), and 'LABEL' and 'LABEL/METRIC'.
    `memory` is what regularizers remember for the next step, by the place of their parameters.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    memory: Mapping[str, Memory] = field(default_factory=dict)


def step_loss(
    model: TappedClassifier,
    x_BCHW: Tensor,
    y_B: Tensor,
    *,
    num_classes: int,
    methods: Methods,
    draws: Draws,
    memory: Mapping[str, Memory] | None = None,
    seed: int = 0,
    step: int = 0,
) -> Loss:
    """Compute the loss of one batch: images in [0, 1], hard labels (B,); users' code draws from the trial's seed."""
    targets_BK = functional.one_hot(y_B, num_classes).to(x_BCHW.dtype)
    mixture = partial(methods.mixture, num_classes=num_classes, seed=seed)
    clean_mix = mixture(x_BCHW, y_B, draws.clean_mix, purpose=f"mixup {step}")
    passes = _CleanPasses(model, x_BCHW, methods=methods, mix=clean_mix)

    def cross_entropy(logits_BK: Tensor, mix: Mixture | None) -> Tensor:
        return classification_loss(logits_BK, _targets(targets_BK, mix), settings=methods.loss)

    if not methods.attacking:
        total = cross_entropy(passes.mixed.logits, clean_mix)
        terms = {"ce": total}
    else:
        x_adversarial = methods.attacked(model, x_BCHW, y_B, noise=draws.noise_BCHW, seed=seed, step=step)
        if methods.diverging:
            attacked = model.features(x_adversarial)
            ce = cross_entropy(passes.mixed.logits, clean_mix)
            kl = kl_divergence(passes.unmixed.logits, attacked.logits)
            total, terms = ce + methods.adversarial.trades_beta * kl, {"ce": ce, "kl": kl}
        else:
            mix = mixture(x_adversarial, y_B, draws.adversarial_mix, purpose=f"adversarial mixup {step}")
            total = cross_entropy(_features(model, x_adversarial, mix).logits, mix)
            if methods.adversarial.clean_fraction > 0:
                ce = cross_entropy(passes.mixed.logits, clean_mix)
                total = torch.lerp(total, ce, methods.adversarial.clean_fraction)
            terms = {"ce": total}

    remembered: dict[str, Memory] = {}
    for regularizer in methods.terms:
        batch = passes.batch(regularizer, y_B, targets_BK, seed=seed, step=step)
        term = regularizer.measure(batch, (memory or {}).get(regularizer.place, {}))
        total, terms = total + regularizer.weight * term.value, {**terms, **regularizer.named(term)}
        if term.memory:
            remembered[regularizer.place] = term.memory
    return Loss(total, terms, remembered)


@final
class _CleanPasses:
    """Passes of the clean batch through the model, unmixed and mixed; each one is computed at its first use."""

    def __init__(self, model: TappedClassifier, x_BCHW: Tensor, *, methods: Methods, mix: Mixture | None) -> None:
        self._model, self._x_BCHW, self._mix = model, x_BCHW, mix
        self._taps_mixed = {tap for term in methods.terms if self._reads_mixed(term) for tap in term.taps}
        self._taps_unmixed = {tap for term in methods.terms if not self._reads_mixed(term) for tap in term.taps}

    @cached_property
    def unmixed(self) -> Activations:
        """Activations of the unmixed images."""
        return self._model.features(self._x_BCHW, taps=self._taps_unmixed)

    @cached_property
    def mixed(self) -> Activations:
        """Activations of the mixture, or of the unmixed images if mixup is off."""
        if self._mix is None:
            return self.unmixed
        return _features(self._model, self._x_BCHW, self._mix, taps=self._taps_mixed)

    def batch(self, term: WeightedTerm, y_B: Tensor, targets_BK: Tensor, *, seed: int, step: int) -> Batch:
        """Return what a regularizer reads of these passes."""
        mix = self._mix if self._reads_mixed(term) else None
        activations = self.unmixed if mix is None else self.mixed
        mixed_BK = _targets(targets_BK, mix)
        return Batch(
            taps={tap: activations.taps[tap] for tap in term.taps},
            logits=activations.logits,
            labels=y_B,
            targets={
                tap: mixed_BK if mix is not None and self._model.follows(tap, mix.boundary) else targets_BK
                for tap in (*term.taps, LOGITS)
            },
            mixed=mix is not None,
            images=self._x_BCHW,
            forward=lambda x_BCHW: self._model.features(x_BCHW, taps=term.taps),
            seed=seed,
            purpose=f"{term.place} {step}",
        )

    def _reads_mixed(self, term: WeightedTerm) -> bool:
        return term.on_mixed and self._mix is not None


def _features(
    model: TappedClassifier, x_BCHW: Tensor, mix: Mixture | None, *, taps: Collection[str] = ()
) -> Activations:
    if isinstance(mix, TransformedBatch):
        return model.features(mix.images, taps=taps)
    return model.features(x_BCHW, mix=mix, taps=taps)


def _targets(targets_BK: Tensor, mix: Mixture | None) -> Tensor:
    return mix.targets if isinstance(mix, TransformedBatch) else mixed_targets(targets_BK, mix)
