"""Transfer of adversarial images from one model to another (Szegedy et al., 2014, tables 2 to 4).

Each model is a source, for which images are attacked, and a target, which classifies the images of all sources.
Every source has controls: noises of the same size, image by image. A target that any noise fools says nothing about
transfer. Everything is also measured at one size common to all sources, because a larger perturbation transfers more.
Sizes hold after clipping to [0, 1]; `attacks.amplify` clips after scaling and leaves a smaller perturbation. Pass
models of several training sets or methods as groups for tables 3 and 4.

Attacks are used as they are registered, with true labels. An attack that stops at its first success, or keeps the
least perturbation, ends next to its source's boundary and transfers less than one that continues: `fgsm`, `fgsm-rs`,
`pgd` and `pgd-l2` return their last step; `pgd-restarts` the last step of one of three runs; all `apgd-*` and
`square` stop at success; `lbfgs` searches the least perturbation to another class, sampled at random.
Shapes: N images, K classes.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch

from trainables.attacks import ATTACKS, evaluating
from trainables.evaluation.core.evaluation_attack import replacement, withstands
from trainables.evaluation.core.prediction import as_pixels
from trainables.evaluation.robustness.transfer_result import KINDS, SIZES, Rate, Transfer, TransferCondition, mean
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from trainables.data import Split
    from trainables.evaluation.robustness.transfer_result import Among, Kind, Matrix, Size

__all__ = ["resized", "transfer"]

LBFGS = "lbfgs"

_ATTACK_BATCH, _TARGET_BATCH = 256, 1024
_DOUBLINGS, _HALVINGS = 10, 24


class _Attacked(NamedTuple):
    """Images attacked for one source: pixels, existence, success on the source, and size of the perturbation."""

    x_NCHW: Tensor
    exists_N: Tensor
    fooling_N: Tensor
    rms_N: Tensor

    @property
    def moved_N(self) -> Tensor:  # noqa: N802 - its shape
        return self.exists_N & (self.rms_N > 0)


def transfer(
    models: Mapping[str, nn.Module],
    images: Split,
    *,
    attack: str,
    epsilon: float | None = None,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
    common_rms: float | None = None,
) -> Transfer:
    """Attack the images for each model, and classify them by all models.

    attack: a name in `trainables.attacks.ATTACKS`, of radius `epsilon`; or 'lbfgs', which has no radius.
    common_rms: the common size. None takes the mean size of the source with the largest: smaller perturbations can be
        amplified, but a minimal one that is made smaller is no longer adversarial.
    All sources meet the same random starts, target classes and noises, which depend on `seed` alone.

    Raises:
        ValueError: fewer than two models; an unknown attack; a radius that is missing, or that lbfgs has no use
            for; groups of other models; a size that is not > 0; input that the attack refuses.
    """
    groups = groups or {}
    _check(models, attack=attack, epsilon=epsilon, groups=groups, common_rms=common_rms)
    x = as_pixels(images.images_NCHW)
    clean = {name: _wrong(model, x, images) for name, model in models.items()}
    right_N = ~torch.stack(list(clean.values())).any(0)
    attacked_by_source = {
        name: _make(model, x, images, attack=attack, epsilon=epsilon, seed=seed) for name, model in models.items()
    }
    common = _largest_mean(attacked_by_source.values()) if common_rms is None else common_rms

    errors: dict[TransferCondition, Matrix] = {}
    sizes: dict[tuple[Kind, Size], dict[str, float]] = {}
    for kind, size in product(KINDS, SIZES):
        for source, attacked in attacked_by_source.items():
            perturbed = _perturbed(x, attacked, kind=kind, rms_N=attacked.rms_N if size == "own" else common, seed=seed)
            usable_N = attacked.exists_N if size == "own" else attacked.moved_N
            sizes.setdefault((kind, size), {})[source] = mean(_rms(perturbed - x)[usable_N].tolist())
            wrong = {target: _wrong(model, perturbed, images) for target, model in models.items()}
            among: dict[Among, Tensor] = {"all": usable_N, "right": usable_N & right_N}
            among["fooling"] = among["right"] & attacked.fooling_N
            for name, mask_N in among.items():
                rates = {target: _rate(wrong_N, mask_N) for target, wrong_N in wrong.items()}
                errors.setdefault(TransferCondition(kind, size, name), {})[source] = rates
    return Transfer(
        attack,
        epsilon,
        clean={name: _rate(wrong_N, torch.ones_like(wrong_N)) for name, wrong_N in clean.items()},
        errors=errors,
        sizes=sizes,
        groups=groups,
        limits=tuple(_limits(attacked_by_source, attack=attack, common=common, reached=sizes["attack", "common"])),
        refused=_refused(errors, attack),
    )


def _largest_mean(sources: Iterable[_Attacked]) -> float:
    means = (float(source.rms_N[source.moved_N].mean()) for source in sources if source.moved_N.any())
    return max(means, default=0.0)


def resized(x: Tensor, direction: Tensor, rms_N: Tensor | float) -> Tensor:
    """Return the images plus a multiple of the direction, clipped to [0, 1], as large as this root mean square.

    The largest multiple is tried where the box has no room for it; a direction of zeros adds nothing.

    >>> x, sign = torch.tensor([[0.5, 0.5, 1.0, 0.0]]), torch.ones(1, 4)
    >>> resized(x, sign, 0.1)  # the third pixel cannot rise: the others rise by 0.1 sqrt(4 / 3)
    tensor([[0.6155, 0.6155, 1.0000, 0.1155]])
    """
    flat = [-1, *[1] * (x.dim() - 1)]
    unit = direction / _rms(direction).clamp_min(torch.finfo(x.dtype).tiny).reshape(flat)
    target_N = torch.as_tensor(rms_N, dtype=x.dtype, device=x.device).expand(len(x))

    def at(scale_N: Tensor) -> Tensor:
        return (x + scale_N.reshape(flat) * unit).clamp(0, 1)

    low_N, high_N = torch.zeros_like(target_N), target_N
    for _ in range(_DOUBLINGS):
        short_N = _rms(at(high_N) - x) < target_N
        low_N, high_N = high_N.where(short_N, low_N), (2 * high_N).where(short_N, high_N)
    for _ in range(_HALVINGS):
        middle_N = (low_N + high_N) / 2
        short_N = _rms(at(middle_N) - x) < target_N
        low_N, high_N = middle_N.where(short_N, low_N), high_N.where(short_N, middle_N)
    return at(high_N)


def _make(
    model: nn.Module, x_NCHW: Tensor, images: Split, *, attack: str, epsilon: float | None, seed: int
) -> _Attacked:
    labels_N = images.labels_N
    if epsilon is None:
        adversarial, exists_N = _least(model, x_NCHW, labels_N, seed=seed)
    else:
        noise = generator(seed, "transfer attack", device=x_NCHW.device)
        parts = zip(torch.split(x_NCHW, _ATTACK_BATCH), torch.split(labels_N, _ATTACK_BATCH), strict=True)
        adversarial = torch.cat([ATTACKS[attack](model, x, y, epsilon=epsilon, generator=noise) for x, y in parts])
        exists_N = torch.ones_like(labels_N, dtype=torch.bool)
    return _Attacked(adversarial, exists_N, _wrong(model, adversarial, images), _rms(adversarial - x_NCHW))


def _least(model: nn.Module, x_NCHW: Tensor, labels_N: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    from trainables.attacks import lbfgs  # noqa: PLC0415 - SciPy takes a while to import

    with evaluating(model), torch.no_grad():
        num_classes = model(x_NCHW[:1]).shape[1]
    stream = generator(seed, "transfer targets")
    shift_N = torch.randint(1, num_classes, labels_N.shape, generator=stream).to(labels_N.device)
    result = lbfgs(model, x_NCHW, (labels_N + shift_N) % num_classes)
    return result.x_adv, result.succeeded_B


def _perturbed(x_NCHW: Tensor, attacked: _Attacked, *, kind: Kind, rms_N: Tensor | float, seed: int) -> Tensor:
    if kind == "attack":
        return attacked.x_NCHW if rms_N is attacked.rms_N else resized(x_NCHW, attacked.x_NCHW - x_NCHW, rms_N)
    noise = torch.empty_like(x_NCHW).normal_(generator=generator(seed, f"transfer {kind}", device=x_NCHW.device))
    return resized(x_NCHW, noise.sign() if kind == "sign" else noise, rms_N)


def _wrong(model: nn.Module, x_NCHW: Tensor, images: Split) -> Tensor:
    return ~withstands(images, replacement(model, x_NCHW), batch_size=_TARGET_BATCH)


def _rms(perturbation: Tensor) -> Tensor:
    return perturbation.flatten(1).square().mean(1).sqrt()


def _rate(wrong_N: Tensor, mask_N: Tensor) -> Rate:
    return Rate(int((wrong_N & mask_N).sum()), int(mask_N.sum()))


def _limits(
    attacked_by_source: Mapping[str, _Attacked], *, attack: str, common: float, reached: Mapping[str, float]
) -> Iterable[str]:
    for source, attacked in attacked_by_source.items():
        count, lost = len(attacked.exists_N), int((~attacked.exists_N).sum())
        still = int((attacked.exists_N & ~attacked.moved_N).sum())
        if lost:
            yield f"transfer: {attack} found nothing for {lost} of {count} images of {source}; they are left out"
        if still:
            yield f"transfer: {still} of {count} images of {source} are unperturbed, and left out at the common size"
        if reached[source] < 0.99 * common:
            yield f"transfer: {source} has an rms of {reached[source]:.3f}, not {common:.3f}: the box has no more room"


def _refused(errors: Mapping[TransferCondition, Matrix], attack: str) -> dict[str, str]:
    """Return the sources that their own attack does not fool: no better than noise, or worse than another's images."""
    refused = {}
    right = errors[TransferCondition(among="right")]
    for source in right:
        own = right[source][source]
        noise = max(errors[TransferCondition(kind, "own", "right")][source][source].error for kind in KINDS[1:])
        best = max((right[name][source] for name in right if name != source), key=lambda rate: rate.interval[0])
        if not own.images:
            refused[source] = f"transfer from {source}: every image is wrong for some model already; use others"
        elif own.error <= noise:
            refused[source] = (
                f"transfer from {source}: {attack} fools it on {own.error:.1%} of images and noise of that size on "
                f"{noise:.1%}, so there is nothing to transfer; take a larger radius or another attack"
            )
        elif best.interval[0] > own.interval[1]:
            refused[source] = (
                f"transfer from {source}: {attack} fools it on {own.error:.1%} of its own images and on "
                f"{best.error:.1%} of another model's, so its gradients are masked; take another attack"
            )
    return refused


def _check(
    models: Mapping[str, nn.Module],
    *,
    attack: str,
    epsilon: float | None,
    groups: Mapping[str, str],
    common_rms: float | None,
) -> None:
    if len(models) < 2:
        raise ValueError(f"models: must be at least two, one to fool by the other's images, got {list(models)}")
    if attack not in {*ATTACKS, LBFGS}:
        raise ValueError(f"attack: must be one of {sorted({*ATTACKS, LBFGS})}, got {attack!r}")
    if attack == LBFGS and epsilon is not None:
        raise ValueError(f"epsilon: must be left out for {LBFGS}, which finds its own size, got {epsilon}")
    if attack != LBFGS and (epsilon is None or not epsilon > 0):
        raise ValueError(f"epsilon: must be > 0 for {attack}, got {epsilon}")
    if groups and set(groups) != set(models):
        raise ValueError(f"groups: must name the group of each of {sorted(models)}, got {sorted(groups)}")
    if common_rms is not None and not common_rms > 0:
        raise ValueError(f"common_rms: must be > 0, got {common_rms}")
