"""Accuracy under attack: attack a split batch by batch, and count the images that are still classified correctly.

Shapes: N images, M of them attacked, B of a batch, C channels, H by W pixels, K classes.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from trainables.attacks import Norm, pgd
from trainables.attacks.margins import attack_cross_entropy, without_gradient
from trainables.attacks.modes import attacking, outside_inference_mode
from trainables.config.adversarial import pgd_step_size
from trainables.data import Split
from trainables.evaluation.core.prediction import BATCH_SIZE, as_pixels, batches
from trainables.seeding import generator

__all__ = [
    "EvaluationAttack",
    "logits_under_attack",
    "pgd_attack",
    "replacement",
    "robust_accuracy",
    "still_right",
    "unattacked",
    "withstands",
    "zero_gradients",
]

EvaluationAttack: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function of the pixels, the labels and the indices in the split of a batch; returns the images that withstand it,
(B,) bool."""


@outside_inference_mode
def robust_accuracy(
    model: nn.Module, split: Split, *, epsilon: float, steps: int, norm: Norm = "linf", seed: int = 0
) -> float:
    """Return the fraction of images classified correctly both as they are and after PGD in the ball.

    PGD makes steps of `pgd_step_size` from one random start. The noise depends on `seed` alone, so all trials of a
    sweep meet the same noise. An image that is wrong before the attack is not robust.
    """
    noise = generator(seed, "robust accuracy", device=split.labels_N.device)
    step_size = pgd_step_size(epsilon, steps=steps)
    attack = pgd_attack(model, epsilon=epsilon, norm=norm, steps=steps, step_size=step_size, noise=noise)
    return int(withstands(split, attack).sum()) / len(split)


@outside_inference_mode
def zero_gradients(model: nn.Module, split: Split) -> float:
    """Return the fraction of images at which the loss that PGD climbs has no gradient, so that PGD never moves them.

    The scale of the logits does not matter to it. A model that saturates before its logits does: dead or rounded
    activations. Its robust accuracy is too high.
    """
    flat = 0
    for x, y_B in batches(split):
        leaf = x.requires_grad_()
        with attacking(model, device=x.device):
            (gradient,) = torch.autograd.grad(attack_cross_entropy(model(leaf), y_B).sum(), leaf)
        flat += int(without_gradient(gradient).sum())
    return flat / len(split)


def withstands(
    split: Split, attack: EvaluationAttack, *, among_N: Tensor | None = None, batch_size: int = BATCH_SIZE
) -> Tensor:
    """Attack the images flagged by `among_N`, by default all; return those that withstand the attack, (N,) bool."""
    among_N = torch.ones_like(split.labels_N, dtype=torch.bool) if among_N is None else among_N
    holds_N = torch.zeros_like(among_N)
    indices_M = among_N.nonzero()[:, 0]
    for first in range(0, len(indices_M), batch_size):
        index_B = indices_M[first : first + batch_size]
        x = as_pixels(split.images_NCHW[index_B])
        holds_N[index_B] = attack(x, split.labels_N[index_B], index_B)
    return holds_N


def unattacked(model: nn.Module) -> EvaluationAttack:
    """Return the attack that changes nothing: an image withstands it if it is classified correctly."""
    return lambda x, y_B, _: still_right(model, x, y_B)


def replacement(model: nn.Module, x_NCHW: Tensor) -> EvaluationAttack:
    """Return the attack that puts these images in the place of those of the split."""
    return lambda _, y_B, index_B: still_right(model, x_NCHW[index_B], y_B)


def pgd_attack(
    model: nn.Module, *, epsilon: float, steps: int, step_size: float, noise: torch.Generator, norm: Norm = "linf"
) -> EvaluationAttack:
    """Return PGD from one random start; an image that is wrong before the attack does not withstand it."""

    def attack(x: Tensor, y_B: Tensor, _index_B: Tensor) -> Tensor:
        attacked = pgd(
            model,
            x,
            y_B,
            epsilon=epsilon,
            norm=norm,
            steps=steps,
            step_size=step_size,
            random_start=True,
            generator=noise,
        )
        return still_right(model, x, y_B) & still_right(model, attacked, y_B)

    return attack


def still_right(model: nn.Module, x: Tensor, y_B: Tensor) -> Tensor:
    """Return the images that are classified correctly, (B,) bool."""
    return logits_under_attack(model, x).argmax(1) == y_B


def logits_under_attack(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits (B, K) that an attack evaluates: in eval mode, outside autocast."""
    with attacking(model, device=x.device), torch.no_grad():
        logits_BK: Tensor = model(x)
    return logits_BK
