"""Catastrophic overfitting (Wong et al., 2020): a model learns to stop its training attack, and no other.

Accuracy under PGD on training images falls to zero within an epoch or two, while that under the
training attack rises. Shapes: B images, K classes.
"""

import torch
from torch import Tensor, nn

from trainables.attacks.balls import Norm, random_start_noise
from trainables.attacks.gradient import projected_ascent
from trainables.attacks.modes import evaluating, outside_inference_mode
from trainables.config.adversarial import pgd_step_size

__all__ = ["overfitted", "pgd_accuracy"]


@outside_inference_mode
def pgd_accuracy(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    *,
    epsilon: float,
    norm: Norm = "linf",
    steps: int = 5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the fraction of images classified correctly after PGD from one random start: a 0-d float32 tensor.

    The images are not checked, and the host does not wait for the
    device: read the result once an epoch.

    >>> x, y = torch.tensor([[0.2], [0.9]]), torch.tensor([0, 1])
    >>> model = nn.Linear(1, 2)
    >>> model.weight.data, model.bias.data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.5, -0.5])
    >>> pgd_accuracy(model, x, y, epsilon=0.35)  # the boundary is at 0.5
    tensor(0.5000)
    """
    attacked = projected_ascent(
        model,
        x,
        y_B,
        epsilon=epsilon,
        norm=norm,
        steps=steps,
        step_size=pgd_step_size(epsilon, steps=steps),
        start=x + random_start_noise(x, epsilon=epsilon, norm=norm, generator=generator),
    )
    with evaluating(model), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        logits_BK: Tensor = model(attacked)
    return (logits_BK.argmax(1) == y_B).float().mean()


def overfitted(before: float | None, now: float, *, drop: float = 0.2) -> bool:
    """Return True if accuracy under PGD fell by more than `drop` since the epoch before (None in the first epoch).

    Raises:
        ValueError: an accuracy or a drop outside [0, 1].

    >>> overfitted(0.45, 0.02), overfitted(0.45, 0.40), overfitted(None, 0.02)
    (True, False, False)
    """
    for name, value in (("before", before), ("now", now), ("drop", drop)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name}: must be in [0, 1], got {value}")
    return before is not None and before - now > drop
