"""The three methods in plain torch, as the papers write them.

Soft nearest neighbour loss: Frosst, Papernot and Hinton (2019), summed over the hidden layers, at the temperature of
the code released with it. Manifold mixup: Verma et al. (2019). PGD: Madry et al. (2018), three steps from a random
start, 2.5 radii long together. Shapes: B images.
"""

from collections.abc import Mapping

import numpy as np
import torch
from network import BOUNDARIES, Mixture, SmallCnn
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 100.0
PGD_STEPS = 3
PGD_TRAVEL = 2.5


def loss_of(
    model: SmallCnn, x: Tensor, y: Tensor, *, point: Mapping[str, float], mixture: Mixture | None, noise: Tensor | None
) -> Tensor:
    """Return the loss of one step: the cross-entropy of mixed, attacked images, and the weighted SNNL of clean ones."""
    attacked = x if noise is None else pgd(model, x, y, epsilon=point["adversarial.epsilon"], noise=noise)
    loss = mixed_cross_entropy(model(attacked, mixture), y, mixture)
    weight = point.get("snnl.weight", 0.0)
    if weight:
        loss = loss + weight * sum(soft_nearest_neighbor_loss(h.flatten(1), y) for h in model.hidden(x))
    return loss


def sample_mixture(rng: np.random.Generator, count: int, *, alpha: float) -> Mixture | None:
    """Sample a boundary, a share from Beta(alpha, alpha) and partners; None without mixup."""
    if not alpha:
        return None
    boundary = BOUNDARIES[rng.integers(len(BOUNDARIES))]
    return Mixture(boundary, float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(count)))


def sample_noise(x: Tensor, *, epsilon: float) -> Tensor | None:
    """Sample the random start of an attack; None without one."""
    return torch.empty_like(x).uniform_(-epsilon, epsilon) if epsilon else None


def pgd(model: SmallCnn, x: Tensor, y: Tensor, *, epsilon: float, noise: Tensor) -> Tensor:
    """Return attacked images within epsilon of x and in [0, 1]."""
    step = PGD_TRAVEL * epsilon / PGD_STEPS
    attacked = (x + noise).clamp(0, 1)
    for _ in range(PGD_STEPS):
        attacked.requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(model(attacked), y), attacked)
        attacked = attacked.detach() + step * gradient.sign()
        attacked = torch.max(torch.min(attacked, x + epsilon), x - epsilon).clamp(0, 1)
    return attacked


def mixed_cross_entropy(logits: Tensor, y: Tensor, mixture: Mixture | None) -> Tensor:
    """Return the cross-entropy, with the labels of both images of a mixture."""
    loss = functional.cross_entropy(logits, y)
    if mixture is None:
        return loss
    return mixture.share * loss + (1 - mixture.share) * functional.cross_entropy(logits, y[mixture.partners])


def soft_nearest_neighbor_loss(features: Tensor, y: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the loss of features (B, D), over the images that share their class with another one."""
    lengths = features.square().sum(1)
    distances = (lengths[:, None] + lengths - 2 * features @ features.T).clamp_min(0)
    itself = torch.eye(len(y), dtype=torch.bool)
    scores = (-distances / temperature).masked_fill(itself, -torch.inf)
    same = (y[:, None] == y) & ~itself
    valid = same.any(1)
    own = scores[valid].masked_fill(~same[valid], -torch.inf).logsumexp(1)
    return (scores[valid].logsumexp(1) - own).mean()
