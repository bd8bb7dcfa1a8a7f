"""Gradient at perturbed weights: adversarial weight perturbation, and sharpness-aware minimisation.

    AWP   v_l = gamma |w_l| g_l / |g_l|     for each weight l of two or more axes (Wu et al., NeurIPS 2020, one step)
    SAM   v = rho g / |g|                   over all weights together (Foret et al., ICLR 2021)

with g the gradient of the loss at w. A step then goes from w down the gradient at w + v. Both are a second pass over
the same batch: the attacked images of the first are kept, and what batch normalisation saw in the first is undone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.config.trial import TrialConfig
from trainables.engine.share import Share

__all__ = ["WeightPerturbation"]


@dataclass(frozen=True, slots=True)
class WeightPerturbation:
    """Size of a perturbation: `gamma`, relative and by layer (AWP), or `rho`, absolute and of all weights (SAM).

    Raises:
        ValueError: not exactly one of them is above 0.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> model.weight.data = torch.tensor([[3.0, 4.0]])
    >>> loss = model(torch.tensor([[0.0, 2.0]])).sum()
    >>> with WeightPerturbation(gamma=0.1).applied(model, loss, share=Share()):
    ...     model.weight.data
    tensor([[3.0000, 4.5000]])
    >>> model.weight.data
    tensor([[3., 4.]])
    """

    gamma: float = 0.0
    rho: float = 0.0

    def __post_init__(self) -> None:
        if (self.gamma > 0) == (self.rho > 0):
            raise ValueError(f"gamma, rho: exactly one must be above 0, got {self.gamma} and {self.rho}")

    @classmethod
    def of(cls, config: TrialConfig) -> "WeightPerturbation | None":
        """Return the perturbation of a trial, None if it has none."""
        if config.adversarial.perturbs_weights:
            return cls(gamma=config.adversarial.awp_gamma or 0.0)
        return cls(rho=config.optimizer.sam_rho) if config.optimizer.sam_rho else None

    @contextmanager
    def applied(self, model: nn.Module, loss: Tensor, *, share: Share) -> Iterator[None]:
        """Move the weights up the gradient of a loss for the block, in which the loss at w + v is differentiated.

        The gradient is the mean over the processes that share the batch. After the block the weights are w again.

        Raises:
            PeerLost: another process does not answer.
        """
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        slopes = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        before = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, step in zip(weights, self._steps(before, share.means(slopes)), strict=True):
                weight.add_(step)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)

    def _steps(self, weights: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
        """Return v for each weight; none where the gradient is zero."""
        if self.rho > 0:
            length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(slope) for slope in slopes]))
            return [self.rho * _divided(slope, length) for slope in slopes]
        return [
            self.gamma * torch.linalg.vector_norm(weight) * _divided(slope, torch.linalg.vector_norm(slope))
            if weight.dim() > 1
            else torch.zeros_like(weight)
            for weight, slope in zip(weights, slopes, strict=True)
        ]


def _divided(slope: Tensor, length: Tensor) -> Tensor:
    return slope / length.clamp_min(torch.finfo(slope.dtype).tiny)
