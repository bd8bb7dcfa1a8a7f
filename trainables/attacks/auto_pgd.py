"""APGD: projected gradient ascent with momentum that halves its own steps (Croce and Hein, ICML 2020).

Steps begin at 2 epsilon. At a checkpoint, an image halves its step and continues from its best iterate
if its loss rose in at most three quarters of the steps since the last checkpoint, or if its best loss did
not improve at the last step size. A misclassified iterate is a success, and ends the attack on that image.
Shapes: B images, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from trainables.attacks.balls import Ball, Norm, at_least_float32, ball_around, surface_noise
from trainables.attacks.checks import check_epsilon, check_finite, check_images, check_labels, check_steps
from trainables.attacks.margins import attack_cross_entropy, dlr, dlr_targeted, likeliest_wrong, margin
from trainables.attacks.modes import attacking, outside_inference_mode
from trainables.errors import short_repr

__all__ = ["ApgdLoss", "apgd", "checkpoints"]

ApgdLoss = Literal["ce", "dlr", "dlr_targeted"]
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]

NUM_TARGETS = 9
_MOMENTUM = 0.75  # the weight of the new step; the rest repeats the last one
_RISING = 0.75  # a larger share of rising steps keeps the step size


@outside_inference_mode
def apgd(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    norm: Norm = "linf",
    loss: ApgdLoss = "ce",
    steps: int = 100,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return attacked images: for each image the first misclassified iterate, or else the best iterate.

    An image that is already misclassified is returned unchanged. With "dlr_targeted" (APGD-T), each restart
    tries the nine likeliest wrong classes one after another, or all of them if the model has fewer. Restarts
    and targets only run on the images that are still classified correctly. The best iterate of a run has the
    highest loss; the best of several runs, and of the image itself, has the smallest margin
    z_y - max_{i != y} z_i.

    Raises:
        ValueError: epsilon negative or not finite; steps or restarts < 1; an unknown norm or loss; x
            outside [0, 1], NaN or of an integer type; labels of another shape or type; fewer than three
            ("dlr") or four classes ("dlr_targeted"); a gradient that is not finite.

    >>> model, x = nn.Linear(2, 2, bias=False), torch.tensor([[0.6, 0.5]])
    >>> model.weight.data.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).shape
    torch.Size([2, 2])
    >>> model(apgd(model, x, torch.tensor([0]), epsilon=0.1, steps=5)).argmax(1)
    tensor([1])
    """
    check_epsilon(epsilon, norm=norm)
    check_images(x)
    check_labels(y_B, x=x)
    check_steps(steps=steps, restarts=restarts)
    if loss not in _OBJECTIVES:
        raise ValueError(f"loss: must be one of {', '.join(map(repr, _OBJECTIVES))}, got {short_repr(loss)}")
    x = at_least_float32(x)
    ball_around(x, epsilon=epsilon, norm=norm)  # reject an unknown norm also for epsilon 0
    if epsilon == 0:
        return x
    with attacking(model, device=x.device):
        settings = _AttackSettings(
            model, _OBJECTIVES[loss], epsilon=epsilon, norm=norm, steps=steps, generator=generator
        )
        return _attack(settings, x, y_B, num_targets=NUM_TARGETS if loss == "dlr_targeted" else 1, restarts=restarts)


def checkpoints(steps: int) -> Iterator[int]:
    """Yield the numbers of steps between checkpoints: 22 % of the steps, then 3 % fewer each time, at least 6 %.

    >>> list(checkpoints(100))
    [22, 19, 16, 13, 10, 7, 6, 6, 1]
    """
    length, done = max(int(0.22 * steps), 1), 0
    while done < steps:
        yield min(length, steps - done)
        done += length
        length = max(length - max(int(0.03 * steps), 1), int(0.06 * steps), 1)


@dataclass(frozen=True, slots=True)
class _AttackSettings:
    """Settings that all runs of one attack share."""

    model: nn.Module
    objective: Objective
    epsilon: float
    norm: Norm
    steps: int
    generator: torch.Generator | None


class _Labels(NamedTuple):
    y_B: Tensor
    target_B: Tensor


class _Value(NamedTuple):
    """Objective at some images, its gradient, and a flag for each misclassified image."""

    loss_B: Tensor
    gradient: Tensor
    fooled_B: Tensor


class _Ascent(NamedTuple):
    """State of the ascent of each image; `best` is the misclassified iterate as soon as one exists."""

    centre: Tensor
    y_B: Tensor
    target_B: Tensor
    iterate: Tensor
    previous: Tensor
    loss_B: Tensor
    gradient: Tensor
    best: Tensor
    best_loss_B: Tensor
    best_gradient: Tensor
    fooled_B: Tensor
    step_size_B: Tensor
    rises_B: Tensor
    checked_loss_B: Tensor
    halved_B: Tensor


def _attack(settings: _AttackSettings, x: Tensor, y_B: Tensor, *, num_targets: int, restarts: int) -> Tensor:
    clean_BK = _logits(settings.model, x)
    targets_BT = likeliest_wrong(clean_BK, y_B, number=num_targets)
    result, margin_B, holds_B = x.clone(), margin(clean_BK, y_B), clean_BK.argmax(1) == y_B
    for target_B in list(targets_BT.unbind(1)) * restarts:
        (left_B,) = holds_B.nonzero(as_tuple=True)
        if not len(left_B):
            break
        attacked = _climb(settings, x[left_B], _Labels(y_B[left_B], target_B[left_B]))
        attacked_BK = _logits(settings.model, attacked)
        attacked_margin_B, fooled_B = margin(attacked_BK, y_B[left_B]), attacked_BK.argmax(1) != y_B[left_B]
        better_B = fooled_B | (attacked_margin_B < margin_B[left_B])
        taken_B = left_B[better_B]
        result[taken_B], margin_B[taken_B], holds_B[left_B] = attacked[better_B], attacked_margin_B[better_B], ~fooled_B
    return result


def _climb(settings: _AttackSettings, x: Tensor, labels: _Labels) -> Tensor:
    """Run from one random start; return the misclassified iterate of each image, or else its best one."""
    result = x.clone()
    left_B = torch.arange(len(x), device=x.device)
    state = _begin(settings, x, labels)
    new_shares = chain([1.0], repeat(_MOMENTUM))
    for length in checkpoints(settings.steps):
        if not len(left_B):
            break
        ball = ball_around(state.centre, epsilon=settings.epsilon, norm=settings.norm)
        for new_share in islice(new_shares, length):
            state = _advance(settings, state, ball=ball, new_share=new_share)
        check_finite(state.iterate)
        result[left_B] = state.best
        going_B = ~state.fooled_B
        left_B, state = left_B[going_B], _Ascent(*(field[going_B] for field in state))
        state = _halve(state, length=length)
    return result


def _begin(settings: _AttackSettings, x: Tensor, labels: _Labels) -> _Ascent:
    ball = ball_around(x, epsilon=settings.epsilon, norm=settings.norm)
    start = ball.project(
        x + surface_noise(x, epsilon=settings.epsilon, norm=settings.norm, generator=settings.generator)
    )
    value = _evaluate(settings, start, labels)
    return _Ascent(
        *(x, *labels, start, start),
        *(value.loss_B, value.gradient),
        *(start, value.loss_B, value.gradient, value.fooled_B),
        step_size_B=torch.full_like(value.loss_B, 2 * settings.epsilon),
        rises_B=torch.zeros_like(labels.y_B),
        checked_loss_B=value.loss_B,
        halved_B=torch.ones_like(value.fooled_B),
    )


def _advance(settings: _AttackSettings, state: _Ascent, *, ball: Ball, new_share: float) -> _Ascent:
    stepped = ball.project(state.iterate + _wide(state.step_size_B, state.iterate) * ball.direction(state.gradient))
    iterate = ball.project(
        state.iterate + new_share * (stepped - state.iterate) + (1 - new_share) * (state.iterate - state.previous)
    )
    value = _evaluate(settings, iterate, _Labels(state.y_B, state.target_B))
    better_B = ~state.fooled_B & ((value.loss_B > state.best_loss_B) | value.fooled_B)
    better = _wide(better_B, iterate)
    return state._replace(
        iterate=iterate,
        previous=state.iterate,
        loss_B=value.loss_B,
        gradient=value.gradient,
        best=torch.where(better, iterate, state.best),
        best_loss_B=torch.where(better_B, value.loss_B, state.best_loss_B),
        best_gradient=torch.where(better, value.gradient, state.best_gradient),
        fooled_B=state.fooled_B | value.fooled_B,
        rises_B=state.rises_B + (value.loss_B > state.loss_B),
    )


def _halve(state: _Ascent, *, length: int) -> _Ascent:
    oscillates_B = state.rises_B <= _RISING * length
    stalls_B = ~state.halved_B & (state.best_loss_B <= state.checked_loss_B)
    halved_B = oscillates_B | stalls_B
    halved = _wide(halved_B, state.iterate)
    return state._replace(
        iterate=torch.where(halved, state.best, state.iterate),
        gradient=torch.where(halved, state.best_gradient, state.gradient),
        step_size_B=torch.where(halved_B, state.step_size_B / 2, state.step_size_B),
        rises_B=torch.zeros_like(state.rises_B),
        checked_loss_B=state.best_loss_B,
        halved_B=halved_B,
    )


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    logits_BK: Tensor = model(x)
    return logits_BK


def _evaluate(settings: _AttackSettings, images: Tensor, labels: _Labels) -> _Value:
    leaf = images.detach().requires_grad_()
    logits_BK = settings.model(leaf)
    loss_B = settings.objective(logits_BK, *labels)
    (gradient,) = torch.autograd.grad(loss_B.sum(), leaf)
    return _Value(loss_B.detach(), gradient, logits_BK.argmax(1) != labels.y_B)


def _wide(values_B: Tensor, images: Tensor) -> Tensor:
    return values_B.reshape(-1, *[1] * (images.dim() - 1))


_OBJECTIVES: Final[Mapping[str, Objective]] = {
    "ce": lambda logits_BK, y_B, _: attack_cross_entropy(logits_BK, y_B),
    "dlr": lambda logits_BK, y_B, _: dlr(logits_BK, y_B),
    "dlr_targeted": dlr_targeted,
}
