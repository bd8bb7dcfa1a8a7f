"""Attacks of a training step on all members: each has its own radius, step and start.

Members whose attacks have one norm climb together, each for as many steps as it has. The arithmetic is that of
`trainables.attacks.gradient`: losses are summed over images, so no image's attack depends on another one.
Shapes: M members, B images, C channels, H by W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trainables.attacks import Norm
from trainables.attacks.balls import Ball, L2Ball, LinfBall
from trainables.attacks.gradient import ascend
from trainables.attacks.margins import attack_cross_entropy
from trainables.batched.layers import Values
from trainables.batched.network import StackedNetwork
from trainables.batched.weights import taken
from trainables.config.adversarial import AdversarialConfig, pgd_step_size

__all__ = ["Climb", "attacked"]

_OVERFITTING_STEPS = 5


@dataclass(frozen=True, slots=True)
class Climb:
    """Attack of one member: steps up the cross-entropy in a ball, or with `in_box` in the box [0, 1] alone."""

    epsilon: float
    norm: Norm
    steps: int
    step_size: float
    in_box: bool = False

    @classmethod
    def of_training(cls, settings: AdversarialConfig) -> Self:
        """Return the attack of a training step."""
        in_box = settings.attack == "n_fgsm"
        return cls(settings.epsilon, settings.norm, settings.num_steps, settings.step_size, in_box=in_box)

    @classmethod
    def of_guard(cls, settings: AdversarialConfig) -> Self:
        """Return the attack that measures `train/pgd_accuracy`."""
        size = pgd_step_size(settings.epsilon, steps=_OVERFITTING_STEPS)
        return cls(settings.epsilon, settings.norm, _OVERFITTING_STEPS, size)


def attacked(
    network: StackedNetwork,
    values: Values,
    x_MBCHW: Tensor,
    y_MB: Tensor,
    *,
    climbs: Sequence[Climb],
    noise: Sequence[Tensor | None],
) -> Tensor:
    """Return attacked images of all members, from starts that differ from the images by this noise; outside autocast.

    The network is in eval mode, with `values` of all members. None is no noise.
    """
    result = torch.stack([x if own is None else x + own for x, own in zip(x_MBCHW, noise, strict=True)])
    with torch.enable_grad(), torch.autocast(x_MBCHW.device.type, enabled=False):
        for kind in dict.fromkeys(map(_kind, climbs)):
            taken_steps = 0
            for steps in sorted({climb.steps for climb in climbs if _kind(climb) == kind}):
                members = [m for m, climb in enumerate(climbs) if _kind(climb) == kind and climb.steps >= steps]
                index = torch.tensor(members, device=x_MBCHW.device)
                result[index] = _together(
                    network,
                    taken(values, members),
                    (x_MBCHW[index], y_MB[index], result[index]),
                    climbs=[climbs[member] for member in members],
                    steps=steps - taken_steps,
                )
                taken_steps = steps
    return result


def _together(
    network: StackedNetwork,
    values: Values,
    images: tuple[Tensor, Tensor, Tensor],
    *,
    climbs: Sequence[Climb],
    steps: int,
) -> Tensor:
    """Have members of one kind climb so many steps: of their images and labels, from where they are."""
    x_MBCHW, y_MB, start_MBCHW = images

    def of_each(numbers: Sequence[float]) -> Tensor:
        return x_MBCHW.new_tensor(numbers).repeat_interleave(y_MB.shape[1])[:, None, None, None]

    def loss(images: Tensor) -> Tensor:
        logits_MBK = network.features(images.view_as(x_MBCHW), values).logits
        return attack_cross_entropy(logits_MBK.flatten(0, 1), y_MB.flatten()).sum()

    x = x_MBCHW.flatten(0, 1)
    ball = _ball(x, of_each([own.epsilon for own in climbs]), climbs[0])
    return ascend(
        loss,
        ball.project(start_MBCHW.flatten(0, 1)),
        ball=ball,
        steps=steps,
        step_size=of_each([own.step_size for own in climbs]),
    ).view_as(x_MBCHW)


def _kind(climb: Climb) -> tuple[Norm, bool]:
    return climb.norm, climb.in_box


def _ball(x: Tensor, epsilon: Tensor, climb: Climb) -> Ball:
    if climb.in_box:
        return LinfBall(torch.zeros_like(x), torch.ones_like(x))
    if climb.norm == "l2":
        return L2Ball(x, epsilon)
    return LinfBall((x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1))
