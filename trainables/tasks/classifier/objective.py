"""Loss of one training step: attack, mix, regularize.

    x_adv = attack(model, x, y)                              from the unmixed images and hard labels
    L = w CE(clean, mixed) + (1 - w) CE(adversarial, mixed)  w = adversarial.clean_fraction, else 1
      + sum over regularizers weight * term                  on unattacked activations, unmixed or mixed

The regularizers are soft nearest neighbours (`snnl.weight`) and those with a label (`regularizers.LABEL.weight`).
TRADES replaces the adversarial cross-entropy by beta KL(clean || adversarial), both unmixed. MART has a loss of its own
(`mart_loss`), and no mixture. The clean and
the adversarial batch are mixed independently (Interpolated Adversarial Training, Lamb et al., 2019). A user's own
transform of the batch (`mixup.kind`) takes the place of the mixture.

Terms that need unmixed activations while mixup is on (regularizers of hard labels, TRADES) share one
extra pass. A pass that nothing needs is not made, because it would change the statistics of batch
normalisation. All randomness enters as `Draws`, what regularizers remember as `memory`; the loss itself is a pure
function of them, and of the seed and the step from which users' code draws.

Where several processes train one trial, each passes its share of the images through the model. Regularizers read the
activations of the whole batch in all processes, and a mixture has its partners there, so that the mean of the losses
over the processes is the loss of the batch. With `model.sync_batch_norm`, so are the statistics of these passes.
Shapes: B images of the batch, S of this process's share, C channels, H by W pixels, K classes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeAlias, final

import torch
from torch import Tensor
from torch.nn import functional

from trainables.attacks import kl_divergence
from trainables.engine.share import WHOLE, Share
from trainables.engine.sync_batch_norm import synchronised
from trainables.mixup import Mix, mixed_targets
from trainables.models import Activations, TappedClassifier
from trainables.models.tapped import LOGITS
from trainables.regularizers.batch_transforms import TransformedBatch
from trainables.regularizers.protocol import Batch, Memory
from trainables.regularizers.resolved_methods import Draws, Methods
from trainables.regularizers.resolved_terms import WeightedTerm
from trainables.seeding import derive
from trainables.tasks.classifier.cross_entropy import classification_loss
from trainables.tasks.classifier.mart_loss import mart_terms

__all__ = ["Loss", "step_loss"]

Mixture: TypeAlias = Mix | TransformedBatch


@dataclass(frozen=True, slots=True)
class Loss:
    """Total to minimise, and its terms (0-d tensors).

    Terms: 'ce'; 'kl' with TRADES and MART; each regularizer's value before its weight, with its metrics: 'snnl',
    'snnl_chance' and 'snnl_singletons', or a 'control' (`snnl.penalty`), and 'LABEL' and 'LABEL/METRIC'.
    `memory` is what regularizers remember for the next step, by the place of their parameters. `x_adversarial` are the
    attacked images of this process's share, None without an attack.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    memory: Mapping[str, Memory] = field(default_factory=dict)
    x_adversarial: Tensor | None = None


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
    share: Share = WHOLE,
    x_adversarial: Tensor | None = None,
) -> Loss:
    """Compute the loss of one batch: images in [0, 1], hard labels (B,); users' code draws from the trial's seed.

    Images, labels and draws are those of the whole batch, whatever the share; the value is that of the share. With
    `x_adversarial`, the attacked images of another loss, there is no attack.
    """
    targets_BK = functional.one_hot(y_B, num_classes).to(x_BCHW.dtype)
    mixture = partial(methods.mixture, num_classes=num_classes, seed=seed)
    clean_mix = mixture(x_BCHW, y_B, draws.clean_mix, purpose=f"mixup {step}")
    features = partial(_features, model, share=share, sync_batch_norm=methods.sync_batch_norm)
    passes = _CleanPasses(model, x_BCHW, methods=methods, mix=clean_mix, share=share)

    def cross_entropy(logits_SK: Tensor, mix: Mixture | None) -> Tensor:
        return classification_loss(logits_SK, share.rows(_targets(targets_BK, mix)), settings=methods.loss)

    if not methods.attacking:
        total = cross_entropy(passes.mixed.logits, clean_mix)
        terms = {"ce": total}
    else:
        x_SCHW, noise = share.rows(x_BCHW), draws.noise_BCHW
        own_seed = derive(seed, f"rank {share.rank}") if share.rank else seed
        if x_adversarial is None:
            with synchronised(share, is_on=methods.sync_batch_norm):  # layers without running statistics
                x_adversarial = methods.attacked(
                    model,
                    x_SCHW,
                    share.rows(y_B),
                    noise=None if noise is None else share.rows(noise),
                    seed=own_seed,
                    step=step,
                )
        if methods.is_paired:
            attacked = features(x_adversarial, None)
            if methods.adversarial.attack == "mart":
                ce, kl = mart_terms(passes.unmixed.logits, attacked.logits, share.rows(y_B))
            else:
                ce = cross_entropy(passes.mixed.logits, clean_mix)
                kl = kl_divergence(passes.unmixed.logits, attacked.logits)
            total, terms = ce + methods.adversarial.divergence_weight * kl, {"ce": ce, "kl": kl}
        else:
            attacked_B = x_adversarial if methods.transform is None else share.whole(x_adversarial)
            mix = mixture(attacked_B, y_B, draws.adversarial_mix, purpose=f"adversarial mixup {step}")
            total = cross_entropy(features(x_adversarial, _of_share(mix, share)).logits, mix)
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
    return Loss(total, terms, remembered, x_adversarial)


@final
class _CleanPasses:
    """Passes of this process's share of the clean batch, unmixed and mixed; each one is computed at its first use."""

    def __init__(
        self, model: TappedClassifier, x_BCHW: Tensor, *, methods: Methods, mix: Mixture | None, share: Share
    ) -> None:
        self._model, self._x_BCHW, self._mix, self._share = model, x_BCHW, mix, share
        self._features = partial(_features, model, share=share, sync_batch_norm=methods.sync_batch_norm)
        self._whole: dict[tuple[bool, str], Tensor] = {}
        self._taps_mixed = {tap for term in methods.terms if self._reads_mixed(term) for tap in term.taps}
        self._taps_unmixed = {tap for term in methods.terms if not self._reads_mixed(term) for tap in term.taps}

    @cached_property
    def unmixed(self) -> Activations:
        """Activations of the unmixed images."""
        return self._features(self._share.rows(self._x_BCHW), None, taps=self._taps_unmixed)

    @cached_property
    def mixed(self) -> Activations:
        """Activations of the mixture, or of the unmixed images if mixup is off."""
        if self._mix is None:
            return self.unmixed
        mix = _of_share(self._mix, self._share)
        return self._features(self._share.rows(self._x_BCHW), mix, taps=self._taps_mixed)

    def batch(self, term: WeightedTerm, y_B: Tensor, targets_BK: Tensor, *, seed: int, step: int) -> Batch:
        """Return what a regularizer reads of these passes: the activations of the whole batch."""
        mix = self._mix if self._reads_mixed(term) else None
        mixed_BK = _targets(targets_BK, mix)
        return Batch(
            taps={tap: self._of_batch(tap, mixed=mix is not None) for tap in term.taps},
            logits=self._of_batch(LOGITS, mixed=mix is not None),
            labels=y_B,
            targets={
                tap: mixed_BK if mix is not None and self._model.follows(tap, mix.boundary) else targets_BK
                for tap in (*term.taps, LOGITS)
            },
            mixed=mix is not None,
            images=self._x_BCHW,
            forward=lambda x_BCHW, shift=None: self._model.features(x_BCHW, mix=shift, taps=term.taps),
            seed=seed,
            purpose=f"{term.place} {step}",
        )

    def _of_batch(self, name: str, *, mixed: bool) -> Tensor:
        """Return the rows of all processes for a tap or the logits, gathered once."""
        if (mixed, name) not in self._whole:
            activations = self.mixed if mixed else self.unmixed
            own = activations.logits if name == LOGITS else activations.taps[name]
            self._whole[mixed, name] = self._share.whole(own)
        return self._whole[mixed, name]

    def _reads_mixed(self, term: WeightedTerm) -> bool:
        return term.on_mixed and self._mix is not None


def _features(
    model: TappedClassifier,
    x_SCHW: Tensor,
    mix: Mixture | None,
    *,
    share: Share,
    sync_batch_norm: bool,
    taps: Collection[str] = (),
) -> Activations:
    """Pass a share through the model."""
    with synchronised(share, is_on=sync_batch_norm):
        if isinstance(mix, TransformedBatch):
            return model.features(mix.images, taps=taps)
        return model.features(x_SCHW, mix=mix, taps=taps)


def _targets(targets_BK: Tensor, mix: Mixture | None) -> Tensor:
    return mix.targets if isinstance(mix, TransformedBatch) else mixed_targets(targets_BK, mix)


def _of_share(mix: Mixture | None, share: Share) -> Mixture | None:
    if mix is None or share.is_whole:
        return mix
    if isinstance(mix, TransformedBatch):
        return TransformedBatch(share.rows(mix.images), share.rows(mix.targets))
    return mix.of_part(share.rows, whole=share.whole)
