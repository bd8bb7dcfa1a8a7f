"""White-box attacks on any `nn.Module` that maps images in [0, 1] to logits.

The fast gradient sign method (Goodfellow et al., 2015) and projected gradient descent (Madry et al.,
2018) in the Linf ball of radius epsilon, in pixel units; a model that normalises does so inside.

Every attack runs the model in eval mode and gives each submodule its own flag back, also when the
model raises; asks for the gradient of the input alone, so no parameter's `.grad` is touched; works in
the input's dtype, at least float32, outside autocast; and returns its last iterate, detached.
Gradients are of the summed cross-entropy, so an image's attack does not depend on its batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["evaluating", "fgsm", "pgd", "projected_ascent", "uniform_noise"]


def fgsm(model: nn.Module, x: Tensor, y_B: Tensor, *, epsilon: float, targeted: bool = False) -> Tensor:
    """One step of size epsilon along the sign of the gradient: clip(x + epsilon sign(grad CE), 0, 1).

    With `targeted`, y_B are the classes to move towards.

    Raises:
        ValueError: epsilon negative or not finite; x outside [0, 1], NaN or of an integer type.

    >>> x, y = torch.tensor([[0.5, 0.95]]), torch.tensor([0])
    >>> model = nn.Linear(2, 2, bias=False)
    >>> model.weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]])).shape
    torch.Size([2, 2])
    >>> fgsm(model, x, y, epsilon=0.25)
    tensor([[0.2500, 1.0000]])
    """
    _check(x, epsilon=epsilon, steps=1, step_size=epsilon)
    return projected_ascent(model, x, y_B, epsilon=epsilon, steps=1, step_size=epsilon, targeted=targeted)


def pgd(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    random_start: bool,
    start: Tensor | None = None,
    targeted: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent: x_{t+1} = clip(x_t + step_size sign(grad CE)) to the ball and the box.

    The first iterate is x, or x plus noise from U(-epsilon, epsilon) with `random_start`, or `start`
    (projected). One step of 1.25 epsilon from a random start is FGSM-RS (Wong et al., 2020).

    Raises:
        ValueError: as `fgsm`; steps < 1; step_size not > 0; both `random_start` and `start`.

    >>> x, y = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    >>> adversarial = pgd(nn.Linear(3, 2), x, y, epsilon=0.1, steps=3, step_size=0.05, random_start=True)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    _check(x, epsilon=epsilon, steps=steps, step_size=step_size)
    if random_start and start is not None:
        raise ValueError("random_start: must be False when `start` gives the first iterate")
    if random_start:
        start = x + uniform_noise(x, epsilon=epsilon, generator=generator)
    return projected_ascent(
        model, x, y_B, epsilon=epsilon, steps=steps, step_size=step_size, start=start, targeted=targeted
    )


def uniform_noise(x: Tensor, *, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """Noise from U(-epsilon, epsilon) in the shape, dtype and device of x."""
    return torch.empty_like(x).uniform_(-epsilon, epsilon, generator=generator)


def projected_ascent(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    targeted: bool = False,
) -> Tensor:
    """The loop of `fgsm` and `pgd` without their checks, which would make the host wait for the device."""
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()
    if epsilon == 0:
        return x
    low, high = (x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1)
    iterate = x if start is None else start.detach().to(x.dtype).clamp(low, high)
    direction = -step_size if targeted else step_size
    with evaluating(model), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        for _ in range(steps):
            gradient = _input_gradient(model, iterate, y_B)
            iterate = torch.clamp(iterate + direction * gradient.sign(), low, high)
    return iterate


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block; afterwards every submodule has the flag it had.

    >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    >>> with evaluating(model):
    ...     [module.training for module in model]
    [False, False]
    >>> [module.training for module in model]
    [True, False]
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


def _input_gradient(model: nn.Module, iterate: Tensor, y_B: Tensor) -> Tensor:
    leaf = iterate.detach().requires_grad_()
    loss = functional.cross_entropy(model(leaf), y_B, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


def _check(x: Tensor, *, epsilon: float, steps: int, step_size: float) -> None:
    if not 0 <= epsilon < float("inf"):
        raise ValueError(f"epsilon: must be finite and >= 0, got {epsilon}")
    if steps < 1:
        raise ValueError(f"steps: must be >= 1, got {steps}")
    if epsilon > 0 and not 0 < step_size < float("inf"):
        raise ValueError(f"step_size: must be finite and > 0, got {step_size}")
    if not x.is_floating_point():
        raise ValueError(f"x: must be floating point in [0, 1], got {x.dtype}; divide uint8 images by 255")
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            f"x: must lie in [0, 1], got values from {float(x.min())} to {float(x.max())}; "
            "attack pixels, and normalise inside the model"
        )
