"""Mixtures of all members' batches at once: each has its own boundary, lambda and partners.

The arithmetic is that of `trainables.mixup`. A member that has no mixture at a boundary keeps its states: its
lambda is 1, and each image its own partner. Shapes: M members, B images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from trainables import mixup
from trainables.mixup import Mix
from trainables.models.tapped import INPUT

__all__ = ["StackedMix", "at_boundary", "mixed_images"]


@dataclass(frozen=True, slots=True)
class StackedMix:
    """Share of the original and of the partner, each (M, B), and the partners' places (M, B).

    `is_common_M1` is true for members with one lambda for all images, whose products are rounded in half precision.

    >>> mixtures = [Mix("input", 0.75, torch.tensor([1, 0])), None]
    >>> StackedMix.of(mixtures, batch_size=2, device="cpu").targets(torch.eye(2).expand(2, 2, 2))[:, 0]
    tensor([[0.7500, 0.2500],
            [1.0000, 0.0000]])
    """

    own_MB: Tensor
    rest_MB: Tensor
    partners_MB: Tensor
    is_common_M1: Tensor

    @classmethod
    def of(cls, mixtures: Sequence[Mix | None], *, batch_size: int, device: torch.device | str) -> Self:
        """Return the mixtures of all members, None for one that has none."""
        itself_B = torch.arange(batch_size, device=device)
        # Both shares are rounded from Python's double precision, as those of a mixture of one member are.
        shares = [_shares(mix, batch_size, device) for mix in mixtures]
        return cls(
            torch.stack([own for own, _ in shares]),
            torch.stack([rest for _, rest in shares]),
            torch.stack([itself_B if mix is None else mix.permutation for mix in mixtures]),
            torch.tensor([[mix is None or not isinstance(mix.lam, Tensor)] for mix in mixtures], device=device),
        )

    def states(self, h: Tensor) -> Tensor:
        """Return the mixture of hidden states, images (B, M * C, H, W) or vectors (M, B, D)."""
        members = torch.arange(len(self.own_MB), device=h.device)
        if h.dim() == 3:
            own, rest, is_common = (share[..., None] for share in (self.own_MB, self.rest_MB, self.is_common_M1))
            return _sum(own * h, rest * h[members[:, None], self.partners_MB], is_common, dtype=h.dtype)
        h_BM = torch.unflatten(h, 1, (len(members), -1))
        shares = (self.own_MB, self.rest_MB, self.is_common_M1)
        own, rest, is_common = (share.T[:, :, None, None, None] for share in shares)
        return _sum(own * h_BM, rest * h_BM[self.partners_MB.T, members], is_common, dtype=h.dtype).flatten(1, 2)

    def targets(self, targets_MBK: Tensor) -> Tensor:
        """Return the soft targets of the mixtures."""
        members_M1 = torch.arange(len(self.own_MB), device=targets_MBK.device)[:, None]
        own, rest = self.own_MB[..., None], self.rest_MB[..., None]
        return own * targets_MBK + rest * targets_MBK[members_M1, self.partners_MB]


def at_boundary(mixtures: Sequence[Mix | None], boundary: str) -> list[Mix | None]:
    """Return the mixtures at a boundary, None in the place of others."""
    return [mix if mix is not None and mix.boundary == boundary else None for mix in mixtures]


def mixed_images(x_MBCHW: Tensor, mixtures: Sequence[Mix | None]) -> Tensor:
    """Return the images of all members, each mixed by its own mixture if that is one at the input."""
    if not any(at_boundary(mixtures, INPUT)):
        return x_MBCHW
    return torch.stack(
        [
            x_BCHW if mix is None else mixup.apply(x_BCHW, mix)
            for x_BCHW, mix in zip(x_MBCHW, at_boundary(mixtures, INPUT), strict=True)
        ]
    )


def _sum(own: Tensor, rest: Tensor, is_common: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Return the sum of the two products in float32, rounded as `trainables.mixup` rounds it."""
    if dtype != own.dtype:
        own, rest = (torch.where(is_common, part.to(dtype).to(part.dtype), part) for part in (own, rest))
    return (own + rest).to(dtype)


def _shares(mix: Mix | None, batch_size: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    lam = 1.0 if mix is None else mix.lam
    if isinstance(lam, Tensor):
        return lam, 1 - lam
    return torch.full((batch_size,), lam, device=device), torch.full((batch_size,), 1 - lam, device=device)
