"""Accuracy under attack."""

import torch
from torch import Tensor, nn

from trainables.attacks import Norm, evaluating, pgd
from trainables.data import Split
from trainables.evaluation.core.prediction import batches
from trainables.seeding import generator

__all__ = ["robust_accuracy"]

RELATIVE_TRAVEL = 2.5


def robust_accuracy(
    model: nn.Module, split: Split, *, epsilon: float, steps: int, norm: Norm = "linf", seed: int = 0
) -> float:
    """Fraction of images classified rightly both as they are and after PGD in the ball.

    Steps of 2.5 epsilon / steps from one random start, whose noise depends on `seed` alone: all
    trials of a sweep meet the same noise. An image that is wrong before the attack is not robust.
    """
    device = split.labels_N.device
    noise = generator(seed, "robust accuracy", device=device)
    robust = torch.zeros((), dtype=torch.int64, device=device)
    for x, y in batches(split, size=256):
        attacked = pgd(
            model,
            x,
            y,
            epsilon=epsilon,
            norm=norm,
            steps=steps,
            step_size=RELATIVE_TRAVEL * epsilon / steps,
            random_start=True,
            generator=noise,
        )
        robust += _right(model, x, y).logical_and_(_right(model, attacked, y)).sum()
    return int(robust) / len(split)


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with evaluating(model):
        logits: Tensor = model(x)
    return logits.argmax(1) == y
