"""Steps along the gradient of the cross-entropy: FGSM, FGSM from a random start, and PGD.

FGSM (Goodfellow et al., 2015): clip(x + epsilon sign(grad CE), 0, 1). PGD (Madry et al., 2018):
x_{t+1} = project(x_t + step_size direction(grad CE)), in the Linf or the L2 ball of radius epsilon.
FGSM-RS (Wong et al., 2020): one PGD step of 1.25 epsilon from a uniform start.
N-FGSM (de Jorge et al., 2022): clip(x + eta + alpha sign(grad CE(x + eta)), 0, 1), eta from U(-k epsilon, k epsilon).
CE is `margins.attack_cross_entropy`, whose gradient does not vanish where a model is sure.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.attacks.balls import Ball, LinfBall, Norm, at_least_float32, ball_around, random_start_noise
from trainables.attacks.checks import (
    check_epsilon,
    check_finite,
    check_images,
    check_labels,
    check_step_size,
    check_steps,
)
from trainables.attacks.margins import attack_cross_entropy
from trainables.attacks.modes import attacking, outside_inference_mode

__all__ = ["ascend", "fgsm", "fgsm_rs", "n_fgsm", "pgd", "projected_ascent"]


@outside_inference_mode
def fgsm(model: nn.Module, x: Tensor, y_B: Tensor, *, epsilon: float, targeted: bool = False) -> Tensor:
    """Take one step of size epsilon along the sign of the gradient: clip(x + epsilon sign(grad CE), 0, 1).

    With `targeted`, y_B are the classes to move towards.

    Raises:
        ValueError: epsilon negative, not finite or above 1 in the Linf ball; x outside [0, 1], NaN or of an
            integer type; labels of another shape or type; a gradient that is not finite.

    >>> x, y = torch.tensor([[0.5, 0.95]]), torch.tensor([0])
    >>> model = nn.Linear(2, 2, bias=False)
    >>> model.weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]])).shape
    torch.Size([2, 2])
    >>> fgsm(model, x, y, epsilon=0.25)
    tensor([[0.2500, 1.0000]])
    """
    _check(x, y_B, epsilon=epsilon, norm="linf")
    return check_finite(projected_ascent(model, x, y_B, epsilon=epsilon, steps=1, step_size=epsilon, targeted=targeted))


@outside_inference_mode
def fgsm_rs(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    relative_step: float = 1.25,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Take one step of relative_step * epsilon from a start sampled from U(-epsilon, epsilon) (Wong et al., 2020).

    The start is clipped to the box before the gradient is taken.

    Raises:
        ValueError: as `fgsm`; relative_step not > 0.

    >>> x, y = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    >>> bool((fgsm_rs(nn.Linear(3, 2), x, y, epsilon=0.1) - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    check_step_size(relative_step, name="relative_step")
    return pgd(
        model,
        x,
        y_B,
        epsilon=epsilon,
        steps=1,
        step_size=relative_step * epsilon,
        random_start=True,
        generator=generator,
    )


@outside_inference_mode
def n_fgsm(model: nn.Module, x: Tensor, y_B: Tensor, *, step_size: float, noise: Tensor) -> Tensor:
    """Take one step along the sign of the gradient at x + noise, and do not project: only the box [0, 1] binds.

    It is for training: with noise of up to k epsilon and a step of alpha, pixels move by up to k epsilon + alpha. It
    checks nothing, for the reason of `projected_ascent`. The noise is clipped to the box before the gradient is taken.

    >>> x, noise = torch.tensor([[0.5, 0.95]]), torch.tensor([[-0.2, 0.1]])
    >>> model = nn.Linear(2, 2, bias=False)
    >>> model.weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]])).shape
    torch.Size([2, 2])
    >>> n_fgsm(model, x, torch.tensor([0]), step_size=0.1, noise=noise)
    tensor([[0.2000, 1.0000]])
    """
    x = at_least_float32(x)
    box = LinfBall(torch.zeros_like(x), torch.ones_like(x))
    with attacking(model, device=x.device):
        return ascend(
            lambda images: attack_cross_entropy(model(images), y_B).sum(),
            box.project(x + noise.detach().to(x.dtype)),
            ball=box,
            steps=1,
            step_size=step_size,
        )


@outside_inference_mode
def pgd(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    random_start: bool,
    norm: Norm = "linf",
    restarts: int = 1,
    start: Tensor | None = None,
    targeted: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run projected gradient descent, x_{t+1} = project(x_t + step_size direction(grad CE)); return its last iterate.

    The first iterate is x, or with `random_start` x plus noise uniform in the ball, or `start`
    (projected). Each further restart begins at random. Of an image's results, the one that fools the
    model is returned, or among equals the one of higher loss.

    Raises:
        ValueError: as `fgsm`; steps or restarts < 1; step_size not > 0; an unknown norm; both
            `random_start` and `start`.

    >>> x, y = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    >>> adversarial = pgd(nn.Linear(3, 2), x, y, epsilon=0.1, steps=3, step_size=0.05, random_start=True)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    _check(x, y_B, epsilon=epsilon, norm=norm)
    check_steps(steps=steps, restarts=restarts)
    if epsilon > 0:
        check_step_size(step_size)
    if random_start and start is not None:
        raise ValueError("random_start: must be False when `start` gives the first iterate")
    x = at_least_float32(x)

    def attempt(first: Tensor | None) -> Tensor:
        attacked = projected_ascent(
            model, x, y_B, epsilon=epsilon, norm=norm, steps=steps, step_size=step_size, start=first, targeted=targeted
        )
        return check_finite(attacked)

    def random_image() -> Tensor:
        return x + random_start_noise(x, epsilon=epsilon, norm=norm, generator=generator)

    best = attempt(random_image() if random_start else start)
    if restarts == 1:
        return best
    score = partial(_score, model, y_B=y_B, targeted=targeted)
    further = (score(attempt(random_image())) for _ in range(restarts - 1))
    return reduce(_worse, further, score(best)).x_adversarial


@outside_inference_mode
def projected_ascent(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    norm: Norm = "linf",
    start: Tensor | None = None,
    targeted: bool = False,
) -> Tensor:
    """Run the loop of `fgsm` and `pgd` without their checks, which would make the host wait for the device."""
    x = at_least_float32(x)
    ball = ball_around(x, epsilon=epsilon, norm=norm)
    if epsilon == 0:
        return x
    iterate = x if start is None else ball.project(start.detach().to(x.dtype))
    with attacking(model, device=x.device):
        return ascend(
            lambda images: attack_cross_entropy(model(images), y_B).sum(),
            iterate,
            ball=ball,
            steps=steps,
            step_size=-step_size if targeted else step_size,
        )


def ascend(
    objective: Callable[[Tensor], Tensor], iterate: Tensor, *, ball: Ball, steps: int, step_size: float | Tensor
) -> Tensor:
    """Climb an objective, summed over images, by projected steps of fixed size; a negative one descends.

    The size may be a tensor that broadcasts with the images, a size for each of them.

    >>> from trainables.attacks.balls import LinfBall
    >>> x = torch.tensor([[0.5]])
    >>> ascend(lambda x: x.square().sum(), x, ball=LinfBall.around(x, epsilon=0.2), steps=2, step_size=0.15)
    tensor([[0.7000]])
    """
    for _ in range(steps):
        leaf = iterate.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(leaf), leaf)
        iterate = ball.project(iterate + step_size * ball.direction(gradient))
    return iterate


class _Attempt(NamedTuple):
    x_adversarial: Tensor
    fooled_B: Tensor
    loss_B: Tensor


def _score(model: nn.Module, x_adversarial: Tensor, *, y_B: Tensor, targeted: bool) -> _Attempt:
    with attacking(model, device=y_B.device), torch.no_grad():
        logits_BK = model(x_adversarial)
    loss_B = attack_cross_entropy(logits_BK, y_B)
    hit_B = logits_BK.argmax(1) == y_B
    return _Attempt(x_adversarial, hit_B if targeted else ~hit_B, -loss_B if targeted else loss_B)


def _worse(one: _Attempt, other: _Attempt) -> _Attempt:
    """Return for each image the attempt that fools the model, else that of higher loss; `one` where they are equal."""
    higher_B = (one.fooled_B == other.fooled_B) & (other.loss_B > one.loss_B)
    take_B = (other.fooled_B & ~one.fooled_B) | higher_B
    take = take_B.reshape(-1, *[1] * (one.x_adversarial.dim() - 1))
    return _Attempt(
        torch.where(take, other.x_adversarial, one.x_adversarial),
        one.fooled_B | other.fooled_B,
        torch.where(take_B, other.loss_B, one.loss_B),
    )


def _check(x: Tensor, y_B: Tensor, *, epsilon: float, norm: Norm) -> None:
    check_epsilon(epsilon, norm=norm)
    check_images(x)
    check_labels(y_B, x=x)
