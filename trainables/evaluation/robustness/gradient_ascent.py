"""Projected gradient ascent on the images of a split; an image that is fooled takes no further step.

Shapes: N images in all, B of a batch, C channels, H by W pixels, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from trainables.attacks import Norm, random_start_noise
from trainables.attacks.balls import ball_around
from trainables.attacks.checks import check_finite
from trainables.attacks.gradient import ascend
from trainables.attacks.margins import attack_cross_entropy
from trainables.attacks.modes import attacking, outside_inference_mode
from trainables.evaluation.core.evaluation_attack import still_right
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainables.data import Split
    from trainables.evaluation.core.evaluation_attack import EvaluationAttack

__all__ = ["ascent", "start_noise"]

_RELATIVE_STEP: Final = 0.25
_STEPS_BETWEEN_CHECKS: Final = 10


def start_noise(split: Split, *, norm: Norm, seed: int, purpose: str) -> Tensor:
    """Draw noise uniform in the unit ball for every image: the same for every model, radius and choice of images."""
    like = torch.empty(split.images_NCHW.shape, device=split.labels_N.device)
    return random_start_noise(like, epsilon=1, norm=norm, generator=generator(seed, purpose, device=like.device))


def ascent(
    model: nn.Module,
    *,
    epsilon: float,
    norm: Norm,
    steps: int,
    step_size: float | None = None,
    noise_NCHW: Tensor | None = None,
    objective: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> EvaluationAttack:
    """Return PGD on an objective of logits and labels, by default the cross-entropy, from x or from x + epsilon noise.

    step_size: by default a quarter of the radius, as 2/255 is of 8/255.
    One step of size epsilon from x is FGSM in the Linf ball and the fast gradient method in the L2 ball.
    The images are checked after every ten steps and after the last one. A fooled image takes no further step.
    """
    loss = objective or attack_cross_entropy
    size = _RELATIVE_STEP * epsilon if step_size is None else step_size

    @outside_inference_mode
    def attack(x: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        ball = ball_around(x, epsilon=epsilon, norm=norm)
        iterate = x if noise_NCHW is None else ball.project(x + epsilon * noise_NCHW[index_B])
        left_B = torch.arange(len(x), device=x.device)
        for length in _stretches(steps):
            ball, labels_B = ball_around(x[left_B], epsilon=epsilon, norm=norm), y_B[left_B]
            with attacking(model, device=x.device):
                iterate = ascend(
                    lambda images, labels_B=labels_B: loss(model(images), labels_B).sum(),  # type: ignore[misc]
                    iterate,
                    ball=ball,
                    steps=length,
                    step_size=size,
                )
            holds_B = still_right(model, check_finite(iterate), labels_B)
            left_B, iterate = left_B[holds_B], iterate[holds_B]
            if not len(left_B):
                break
        return torch.zeros_like(y_B, dtype=torch.bool).index_fill_(0, left_B, value=True)

    return attack


def _stretches(steps: int) -> Iterator[int]:
    for first in range(0, steps, _STEPS_BETWEEN_CHECKS):
        yield min(_STEPS_BETWEEN_CHECKS, steps - first)
