"""Ensembles of attacks in sequence, each on the images that are still classified correctly.

`autoattack` is AutoAttack's standard version (Croce and Hein, ICML 2020, "Reliable evaluation of adversarial
robustness with an ensemble of diverse parameter-free attacks"): APGD-CE, APGD-T with nine targets, FAB-T with nine
targets, each one run of 100 steps, and Square with 5,000 queries. `aa_lite` leaves FAB out, and in L2 Square. So it
is not AutoAttack, and its accuracies must not be called that: they can only be higher.
Shapes: B images, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.attacks.auto_pgd import apgd
from trainables.attacks.balls import Norm, at_least_float32
from trainables.attacks.boundary import fab
from trainables.attacks.checks import check_epsilon, check_images, check_labels, check_steps
from trainables.attacks.margins import check_classes, without_gradient
from trainables.attacks.modes import attacking, outside_inference_mode
from trainables.attacks.random_search import square
from trainables.attacks.registry import Attack
from trainables.seeding import generator

__all__ = ["EnsembleResult", "aa_lite", "autoattack"]


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """Result of an ensemble.

    x_adv: the attacked images; one that is already misclassified is unchanged.
    robust_B: True where an image is classified correctly, unattacked and after every attack.
    accuracy: the fraction classified correctly, 'clean' first, then after each attack in its order.
    zero_gradient: the fraction of correctly classified images at which the gradient of the cross-entropy
        is exactly zero; NaN if none is classified correctly. Above zero, gradient attacks prove nothing.
    square_alone: the fraction that Square fooled after all gradient attacks had failed; None where it does not
        run. More than 0.002 indicates masked gradients.
    """

    x_adv: Tensor
    robust_B: Tensor
    accuracy: Mapping[str, float]
    zero_gradient: float
    square_alone: float | None


@outside_inference_mode
def autoattack(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    seed: int,
    norm: Norm = "linf",
    steps: int = 100,
    queries: int = 5000,
    batch_size: int = 256,
) -> EnsembleResult:
    """Attack with APGD-CE, APGD-T, FAB-T and Square; at most `batch_size` images at a time.

    The published accuracies are those of the defaults; other steps or queries are not AutoAttack.

    Raises:
        ValueError: as `apgd`; fewer than four classes; no images; steps, queries or batch_size < 1; x not
            (B, C, H, W).

    >>> x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    >>> result = autoattack(model, x, model(x).argmax(1), epsilon=0.5, seed=0, steps=5, queries=5)
    >>> list(result.accuracy)
    ['clean', 'apgd-ce', 'apgd-t', 'fab-t', 'square']
    """
    attacks: dict[str, Attack] = {
        **_auto_pgd(norm, steps=steps),
        "fab-t": partial(fab, norm=norm, steps=steps, targeted=True),
        "square": partial(square, norm=norm, queries=queries),
    }
    settings = _Settings("autoattack", epsilon, norm, seed, batch_size)
    _check(x, y_B, settings, steps=steps, queries=queries)
    return _run(settings, attacks, model, x, y_B)


@outside_inference_mode
def aa_lite(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    seed: int,
    norm: Norm = "linf",
    steps: int = 100,
    queries: int = 5000,
    batch_size: int = 256,
) -> EnsembleResult:
    """Attack with APGD-CE, APGD-T and, in the Linf ball, Square; at most `batch_size` images at a time.

    Raises:
        ValueError: as `apgd`; fewer than four classes; no images; steps, queries or batch_size < 1; for Linf,
            x not (B, C, H, W).

    >>> x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    >>> result = aa_lite(model, x, model(x).argmax(1), epsilon=0.5, seed=0, steps=5, queries=5)
    >>> list(result.accuracy), result.accuracy["clean"], result.zero_gradient
    (['clean', 'apgd-ce', 'apgd-t', 'square'], 1.0, 0.0)
    """
    attacks = _auto_pgd(norm, steps=steps)
    if norm == "linf":
        attacks["square"] = partial(square, queries=queries)
    settings = _Settings("aa-lite", epsilon, norm, seed, batch_size)
    _check(x, y_B, settings, steps=steps, queries=queries)
    return _run(settings, attacks, model, x, y_B)


@dataclass(frozen=True, slots=True)
class _Settings:
    """Settings of an ensemble; its name is that of its random streams."""

    name: str
    epsilon: float
    norm: Norm
    seed: int
    batch_size: int


def _auto_pgd(norm: Norm, *, steps: int) -> dict[str, Attack]:
    return {
        "apgd-ce": partial(apgd, norm=norm, steps=steps, loss="ce"),
        "apgd-t": partial(apgd, norm=norm, steps=steps, loss="dlr_targeted"),
    }


def _run(
    settings: _Settings, attacks: Mapping[str, Attack], model: nn.Module, x: Tensor, y_B: Tensor
) -> EnsembleResult:
    x = at_least_float32(x)
    robust_B, zero_gradient = _clean_predictions(settings, model, x, y_B)
    accuracy, x_adv = {"clean": _fraction(robust_B)}, x.clone()
    for name, attack in attacks.items():
        noise = generator(settings.seed, f"{settings.name} {name}", device=x.device)
        (left_B,) = robust_B.nonzero(as_tuple=True)
        for part_B in torch.split(left_B, settings.batch_size):
            x_adv[part_B] = attack(model, x[part_B], y_B[part_B], epsilon=settings.epsilon, generator=noise)
            robust_B[part_B] = _right(model, x_adv[part_B], y_B[part_B])
        accuracy[name] = _fraction(robust_B)
    before, last = [*accuracy.values()][-2:]
    square_alone = before - last if "square" in accuracy else None
    return EnsembleResult(x_adv, robust_B, MappingProxyType(accuracy), zero_gradient, square_alone)


def _clean_predictions(settings: _Settings, model: nn.Module, x: Tensor, y_B: Tensor) -> tuple[Tensor, float]:
    """Return the correctly classified images, and the fraction of those at which the gradient is exactly zero."""
    batches = zip(torch.split(x, settings.batch_size), torch.split(y_B, settings.batch_size), strict=True)
    parts = [_clean(model, *batch, name=settings.name.replace("-", "_")) for batch in batches]
    right_B, flat_B = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return right_B, _fraction(flat_B[right_B])


def _clean(model: nn.Module, x: Tensor, y_B: Tensor, *, name: str) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    with attacking(model, device=x.device):
        logits_BK = model(leaf)
        check_classes(logits_BK, name=name, least=4)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(logits_BK, y_B, reduction="sum"), leaf)
    return logits_BK.argmax(1) == y_B, without_gradient(gradient)


def _right(model: nn.Module, x: Tensor, y_B: Tensor) -> Tensor:
    with attacking(model, device=x.device), torch.no_grad():
        logits_BK: Tensor = model(x)
    return logits_BK.argmax(1) == y_B


def _fraction(flags_B: Tensor) -> float:
    return float(flags_B.double().mean())


def _check(x: Tensor, y_B: Tensor, settings: _Settings, **counts: int) -> None:
    check_epsilon(settings.epsilon, norm=settings.norm)
    check_images(x)
    check_labels(y_B, x=x)
    check_steps(images=len(x), batch_size=settings.batch_size, **counts)
