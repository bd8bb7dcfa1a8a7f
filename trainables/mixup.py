"""Mixup (Zhang et al., ICLR 2018) and Manifold Mixup (Verma et al., ICML 2019).

At one boundary of the network, drawn per batch, the hidden state h becomes
lambda h + (1 - lambda) h[permutation], and the targets are mixed with the same lambda and the same
permutation. Gradients flow through both h and h[permutation]. Mixing at the boundary 'input' is
input mixup. Shapes: B examples, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Mix", "interpolate", "mix", "mixed_cross_entropy", "sample_mix"]


@dataclass(frozen=True, slots=True)
class Mix:
    """One drawn mixture: where, how much of the original is kept, and with whom each example is mixed.

    `lam` is a float for the whole batch or a tensor (B,); `permutation` is (B,) int64.
    """

    boundary: str
    lam: float | Tensor
    permutation: Tensor


def mix(x: Tensor, targets_BK: Tensor, lam: float | Tensor, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Mix examples (B, ...) and their soft targets with the same lambda and permutation.

    Raises:
        ValueError: lambda outside [0, 1], or of another shape than () or (B,).

    >>> x, targets = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> mixed_x, mixed_targets = mix(x, targets, 0.75, torch.tensor([1, 0]))
    >>> mixed_x.tolist(), mixed_targets.tolist()
    ([[0.25], [0.75]], [[0.75, 0.25], [0.25, 0.75]])
    """
    return interpolate(x, lam=lam, permutation=permutation), interpolate(targets_BK, lam=lam, permutation=permutation)


def interpolate(h: Tensor, *, lam: float | Tensor, permutation: Tensor) -> Tensor:
    """Lambda h + (1 - lambda) h[permutation], for h of shape (B, ...).

    Raises:
        ValueError: as `mix`.
    """
    weight = _weight(h, lam)
    return weight * h + (1 - weight) * h[permutation]


def _weight(h: Tensor, lam: float | Tensor) -> float | Tensor:
    if not isinstance(lam, Tensor):
        if not 0 <= lam <= 1:
            raise ValueError(f"lam: must be in [0, 1], got {lam}")
        return lam
    if lam.shape not in {torch.Size([]), h.shape[:1]}:
        raise ValueError(f"lam: must have shape () or ({len(h)},), got {tuple(lam.shape)}")
    return lam.to(h.dtype).reshape(-1, *[1] * (h.dim() - 1))


def mixed_cross_entropy(logits_BK: Tensor, targets_BK: Tensor, mixture: Mix | None) -> Tensor:
    """Mean soft-target cross-entropy against the targets, mixed if the logits come from a mixture.

    Equal to lambda CE(y) + (1 - lambda) CE(y[permutation]).
    """
    if mixture is not None:
        targets_BK = interpolate(targets_BK, lam=mixture.lam, permutation=mixture.permutation)
    return functional.cross_entropy(logits_BK, targets_BK)


def sample_mix(
    rng: np.random.Generator,
    batch_size: int,
    *,
    alpha: float,
    boundaries: Sequence[str],
    per_sample: bool = False,
    device: torch.device | str = "cpu",
) -> Mix:
    """Draw lambda ~ Beta(alpha, alpha), a permutation, and a boundary, uniformly from `boundaries`.

    Drawn on the host, where the boundary must be known anyway; only the permutation (and lambda per
    sample) travels to `device`.

    Raises:
        ValueError: alpha <= 0 (mixup is off there: draw nothing), or no boundary.

    >>> drawn = sample_mix(np.random.default_rng(0), 4, alpha=1.0, boundaries=["input"])
    >>> drawn.boundary, sorted(drawn.permutation.tolist()), 0 <= drawn.lam <= 1
    ('input', [0, 1, 2, 3], True)
    """
    if not alpha > 0 or not boundaries:
        raise ValueError(f"sample_mix: needs alpha > 0 and a boundary, got alpha={alpha}, boundaries={boundaries}")
    boundary = boundaries[int(rng.integers(len(boundaries)))]
    permutation = torch.from_numpy(rng.permutation(batch_size)).to(device, non_blocking=True)
    if not per_sample:
        return Mix(boundary, float(rng.beta(alpha, alpha)), permutation)
    lam_B = torch.from_numpy(rng.beta(alpha, alpha, size=batch_size)).to(torch.float32)
    return Mix(boundary, lam_B.to(device, non_blocking=True), permutation)
