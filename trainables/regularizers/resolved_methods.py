"""Methods of one trial, resolved against its model, and their random inputs for a step.

Shapes: B images, C channels, H by W pixels.
"""

from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from trainables import attacks, mixup
from trainables.config.adversarial import ATTACK_NAMES, PAIRED_ATTACKS
from trainables.config.trial import AdversarialConfig, LossConfig, MixupConfig, TrialConfig
from trainables.data import shape_of
from trainables.mixup import Mix
from trainables.models import TappedClassifier, resolve_boundaries
from trainables.regularizers.batch_transforms import TransformedBatch, UserTransform, user_transform
from trainables.regularizers.resolved_terms import WeightedTerm, resolve_terms
from trainables.regularizers.training_attacks import UserAttack, perturbed, user_attack
from trainables.seeding import Streams, derive

__all__ = ["Draws", "Methods", "draw"]


@dataclass(frozen=True, slots=True)
class Methods:
    """Methods of one trial, with their layers resolved against its model; `terms` are the regularizers that are on.

    `attack` and `transform` are a user's own, None for ours. With `sync_batch_norm`, batch normalisation takes its
    statistics from the whole batch where several processes train it.
    """

    loss: LossConfig
    mixup: MixupConfig
    adversarial: AdversarialConfig
    boundaries: tuple[str, ...]
    terms: tuple[WeightedTerm, ...] = ()
    attack: UserAttack | None = None
    transform: UserTransform | None = None
    sync_batch_norm: bool = False

    @classmethod
    def resolve(cls, config: TrialConfig, model: TappedClassifier, *, num_classes: int | None = None) -> Self:
        """Resolve layers and regularizers, also those of a method that is off: a wrong name is always an error.

        `num_classes` None is that of the data set.

        Raises:
            ConfigError: a layer that this model does not have, or a regularizer that cannot be built.
        """
        if num_classes is None:
            num_classes = shape_of(config.data)[1]
        terms = resolve_terms(config, model, num_classes=num_classes)
        boundaries = resolve_boundaries(config.mixup.layers, model)
        on = tuple(term for term in terms if term.weight != 0)
        return cls(
            config.loss,
            config.mixup,
            config.adversarial,
            boundaries,
            terms=on,
            attack=user_attack(config.adversarial),
            transform=user_transform(config.mixup),
            sync_batch_norm=config.model.sync_batch_norm is True,
        )

    def mixture(
        self, x_BCHW: Tensor, y_B: Tensor, sampled: Mix | None, *, num_classes: int, seed: int, purpose: str
    ) -> Mix | TransformedBatch | None:
        """Return the mixture of a batch: the sampled one, or that of a user's transform; None if mixup is off."""
        if self.transform is None or self.mixup.alpha == 0:
            return sampled
        boundaries, seed = self.boundaries, derive(seed, purpose)
        return self.transform(x_BCHW, y_B, num_classes=num_classes, boundaries=boundaries, seed=seed)

    def attacked(
        self, model: nn.Module, x_BCHW: Tensor, y_B: Tensor, *, noise: Tensor | None, seed: int, step: int
    ) -> Tensor:
        """Return the images of the adversarial batch."""
        if self.attack is None:
            return perturbed(model, x_BCHW, y_B, settings=self.adversarial, noise=noise)
        return self.attack(model, x_BCHW, y_B, settings=self.adversarial, seed=derive(seed, f"adversarial {step}"))

    @property
    def taps(self) -> tuple[str, ...]:
        """Taps that the regularizers read."""
        return tuple(dict.fromkeys(tap for term in self.terms for tap in term.taps))

    @property
    def attacking(self) -> bool:
        """True if a step has an adversarial batch, of any weight."""
        settings = self.adversarial
        return settings.epsilon > 0 and (settings.attack in PAIRED_ATTACKS or settings.clean_fraction < 1)

    @property
    def is_paired(self) -> bool:
        """True if the loss compares attacked with clean predictions, as those of TRADES and MART do."""
        return self.attacking and self.adversarial.attack in PAIRED_ATTACKS


@dataclass(frozen=True, slots=True)
class Draws:
    """Random inputs of one step; None where a method is off, or a user's own, which draws from the trial's seed."""

    clean_mix: Mix | None = None
    adversarial_mix: Mix | None = None
    noise_BCHW: Tensor | None = None


def draw(x_BCHW: Tensor, *, methods: Methods, streams: Streams) -> Draws:
    """Sample a step's mixtures and attack noise, each from its own stream."""
    noise_BCHW = _draw_noise(x_BCHW, methods.adversarial, streams) if methods.attacking else None
    if methods.mixup.alpha == 0 or methods.transform is not None:
        return Draws(noise_BCHW=noise_BCHW)
    clean_mix = _draw_mix(x_BCHW, methods, streams)
    adversarial_mix = _draw_mix(x_BCHW, methods, streams) if methods.attacking and not methods.is_paired else None
    return Draws(clean_mix, adversarial_mix, noise_BCHW)


def _draw_mix(x_BCHW: Tensor, methods: Methods, streams: Streams) -> Mix:
    settings, count, device = methods.mixup, len(x_BCHW), x_BCHW.device
    if settings.kind == "cutmix":
        height, width = x_BCHW.shape[2:]
        return mixup.sample_cutmix(
            streams.mixup,
            count,
            alpha=settings.alpha,
            image_size=(height, width),
            per_sample=settings.per_sample,
            device=device,
        )
    return mixup.sample_mix(
        streams.mixup,
        count,
        alpha=settings.alpha,
        boundaries=methods.boundaries,
        per_sample=settings.per_sample,
        detached=settings.detached,
        device=device,
    )


def _draw_noise(x_BCHW: Tensor, settings: AdversarialConfig, streams: Streams) -> Tensor | None:
    if settings.attack == "fgsm" or settings.attack not in ATTACK_NAMES:
        return None
    if settings.attack == "trades":
        return attacks.trades_noise(x_BCHW, generator=streams.attack)
    if settings.attack == "n_fgsm":
        return attacks.uniform_noise(x_BCHW, epsilon=settings.noise_radius, generator=streams.attack)
    return attacks.random_start_noise(x_BCHW, epsilon=settings.epsilon, norm=settings.norm, generator=streams.attack)
