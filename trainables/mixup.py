"""Mixup (Zhang et al., ICLR 2018) and Manifold Mixup (Verma et al., ICML 2019).

At one boundary of the network, sampled per batch, the hidden state h becomes
lambda h + (1 - lambda) h[permutation], and the targets are mixed with the same lambda and the same
permutation. Gradients flow through both h and h[permutation]. Mixing at the boundary 'input' is
input mixup; CutMix (Yun et al., ICCV 2019) pastes a box of the partner instead.
Shapes: B examples, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Boxes",
    "Mix",
    "MixedBatch",
    "Shift",
    "apply",
    "cut_edges",
    "interpolate",
    "mix",
    "mixed_targets",
    "paste",
    "sample_cutmix",
    "sample_mix",
]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes, one per image or one for all: rows [top, bottom) and columns [left, right), each (B,) or (1,) int64."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


@dataclass(frozen=True, slots=True)
class Mix:
    """Sampled mixture: its boundary, the share of the original, and the partner of each example.

    `lam` is a float for the whole batch or a tensor (B,); `permutation` is (B,) int64. With `boxes`
    (CutMix), the partner's pixels replace those inside the box instead of being blended in, and `lam`
    is the share of pixels that do not change. `detached` stops the gradient at the mixture. With `whole`, the hidden
    states are those of a part of the batch, of which it returns all, and the permutation has the part's places in it.
    """

    boundary: str
    lam: float | Tensor
    permutation: Tensor
    boxes: Boxes | None = None
    detached: bool = False
    whole: Callable[[Tensor], Tensor] | None = None

    def of_part(self, rows: Callable[[Tensor], Tensor], *, whole: Callable[[Tensor], Tensor]) -> Self:
        """Return the same mixture for a part of the batch, of which `rows` returns the rows and `whole` all of them."""
        boxes = self.boxes
        if boxes is not None and len(boxes.top) > 1:
            boxes = Boxes(*map(rows, (boxes.top, boxes.bottom, boxes.left, boxes.right)))
        lam = rows(self.lam) if isinstance(self.lam, Tensor) else self.lam
        return replace(self, lam=lam, permutation=rows(self.permutation), boxes=boxes, whole=whole)


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Mixture of one batch that a user's own transform returns, in one of three forms.

    - `images` (B, C, H, W) in [0, 1] and soft `targets` (B, K), whose rows sum to 1;
    - `images`, with `lam` and `permutation`: an image has the target lam y + (1 - lam) y[permutation];
    - `lam` and `permutation` alone: the hidden states or images at a boundary are blended so, as by `Mix`.

    `lam` is a number or a tensor (B,) in [0, 1], and `permutation` (B,) the index of each image's partner.
    """

    images: Tensor | None = None
    targets: Tensor | None = None
    lam: float | Tensor | None = None
    permutation: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Shift:
    """Change of the hidden states at a boundary by `delta`, of their shape (B, ...); at 'input', of the images."""

    boundary: str
    delta: Tensor


def apply(h: Tensor, mixture: Mix | Shift) -> Tensor:
    """Return the mixture of hidden states or images (B, ...), or what a shift makes of them.

    >>> apply(torch.tensor([[1.0, 2.0]]), Shift("input", torch.tensor([[0.5, 0.0]]))).tolist()
    [[1.5, 2.0]]
    """
    if isinstance(mixture, Shift):
        return h + mixture.delta.to(h.dtype)
    partners = (h if mixture.whole is None else mixture.whole(h))[mixture.permutation]
    mixed = _blended(h, partners, mixture.lam) if mixture.boxes is None else _pasted(h, partners, mixture.boxes)
    return mixed.detach() if mixture.detached else mixed


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
    """Return lambda h + (1 - lambda) h[permutation], for h of shape (B, ...).

    Raises:
        ValueError: as `mix`.
    """
    return _blended(h, h[permutation], lam)


def paste(x_BCHW: Tensor, boxes: Boxes, *, permutation: Tensor) -> Tensor:
    """Replace the pixels inside the boxes by those of x[permutation] (CutMix).

    >>> x = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    >>> one, two = torch.tensor([1]), torch.tensor([2])
    >>> paste(x, Boxes(one, two, one, two), permutation=torch.tensor([1, 0]))[0, 0].tolist()
    [[1.0, 1.0], [1.0, 2.0]]
    """
    return _pasted(x_BCHW, x_BCHW[permutation], boxes)


def _blended(h: Tensor, partners: Tensor, lam: float | Tensor) -> Tensor:
    weight = _weight(h, lam)
    # A lambda per example keeps the precision of the targets where h is in half precision.
    return (weight * h + (1 - weight) * partners).to(h.dtype)


def _pasted(x_BCHW: Tensor, partners_BCHW: Tensor, boxes: Boxes) -> Tensor:
    rows_H = torch.arange(x_BCHW.shape[2], device=x_BCHW.device)
    columns_W = torch.arange(x_BCHW.shape[3], device=x_BCHW.device)
    in_rows_BH = (rows_H >= boxes.top[:, None]) & (rows_H < boxes.bottom[:, None])
    in_columns_BW = (columns_W >= boxes.left[:, None]) & (columns_W < boxes.right[:, None])
    inside_BHW = in_rows_BH[:, :, None] & in_columns_BW[:, None]
    return torch.where(inside_BHW[:, None], partners_BCHW, x_BCHW)


def _weight(h: Tensor, lam: float | Tensor) -> float | Tensor:
    if not isinstance(lam, Tensor):
        if not 0 <= lam <= 1:
            raise ValueError(f"lam: must be in [0, 1], got {lam}")
        return lam
    if lam.shape not in {torch.Size([]), h.shape[:1]}:
        raise ValueError(f"lam: must have shape () or ({len(h)},), got {tuple(lam.shape)}")
    return lam.reshape(-1, *[1] * (h.dim() - 1))


def mixed_targets(targets_BK: Tensor, mixture: Mix | None) -> Tensor:
    """Return the targets of a mixture; without a mixture, return them unchanged."""
    if mixture is None:
        return targets_BK
    return interpolate(targets_BK, lam=mixture.lam, permutation=mixture.permutation)


def sample_mix(
    rng: np.random.Generator,
    batch_size: int,
    *,
    alpha: float,
    boundaries: Sequence[str],
    per_sample: bool = False,
    detached: bool = False,
    device: torch.device | str = "cpu",
) -> Mix:
    """Sample lambda ~ Beta(alpha, alpha), a permutation, and a boundary, uniformly from `boundaries`.

    Lambda per sample is float32. At a small alpha much of the distribution is nearer to 1 than float32 resolves (a
    fifth at 0.05) and is rounded to 1, an image that does not change: the rest of the mixture would be below 1e-7.

    All are sampled on the host, which must know the boundary anyway; only the permutation (and lambda per
    sample) is copied to `device`.

    Raises:
        ValueError: alpha <= 0 (mixup is then off: sample nothing), or no boundary.

    >>> mixture = sample_mix(np.random.default_rng(0), 4, alpha=1.0, boundaries=["input"])
    >>> mixture.boundary, sorted(mixture.permutation.tolist()), 0 <= mixture.lam <= 1
    ('input', [0, 1, 2, 3], True)
    """
    if not alpha > 0 or not boundaries:
        raise ValueError(f"sample_mix: needs alpha > 0 and a boundary, got alpha={alpha}, boundaries={boundaries}")
    boundary = boundaries[int(rng.integers(len(boundaries)))]
    permutation = torch.from_numpy(rng.permutation(batch_size)).to(device, non_blocking=True)
    if not per_sample:
        return Mix(boundary, float(rng.beta(alpha, alpha)), permutation, detached=detached)
    lam_B = torch.from_numpy(rng.beta(alpha, alpha, size=batch_size)).to(torch.float32)
    return Mix(boundary, lam_B.to(device, non_blocking=True), permutation, detached=detached)


def sample_cutmix(
    rng: np.random.Generator,
    batch_size: int,
    *,
    alpha: float,
    image_size: tuple[int, int],
    per_sample: bool = False,
    device: torch.device | str = "cpu",
) -> Mix:
    """Sample lambda ~ Beta(alpha, alpha), a box of that area around a uniform centre, and a permutation.

    The box is cut off at the image's edge, so the mixture's lambda is the share of pixels that do not
    change (Yun et al., 2019). `image_size` is (H, W).

    Raises:
        ValueError: alpha <= 0.

    >>> mixture = sample_cutmix(np.random.default_rng(0), 4, alpha=1.0, image_size=(8, 8))
    >>> mixture.boundary, 0 <= float(mixture.lam) <= 1
    ('input', True)
    """
    if not alpha > 0:
        raise ValueError(f"sample_cutmix: needs alpha > 0, got {alpha}")
    permutation = torch.from_numpy(rng.permutation(batch_size)).to(device, non_blocking=True)
    count = batch_size if per_sample else 1
    lam = rng.beta(alpha, alpha, size=count)
    rows, columns = (rng.integers(side, size=count) for side in image_size)
    edges, kept = cut_edges(lam, rows=rows, columns=columns, image_size=image_size)
    boxes = Boxes(*(torch.from_numpy(edge).to(device, non_blocking=True) for edge in edges))
    lam_kept = torch.from_numpy(kept).to(torch.float32).to(device, non_blocking=True) if per_sample else float(kept[0])
    return Mix("input", lam_kept, permutation, boxes)


def cut_edges(
    lam: np.ndarray, *, rows: np.ndarray, columns: np.ndarray, image_size: tuple[int, int]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return (top, bottom, left, right) of boxes around (rows, columns), and the share of pixels outside each.

    A box measures floor(side * sqrt(1 - lambda)) before the image's edge cuts it.

    >>> edges, kept = cut_edges(np.array([0.75]), rows=np.array([30]), columns=np.array([2]), image_size=(32, 32))
    >>> [int(edge[0]) for edge in edges], float(kept[0])
    ([22, 32, 0, 10], 0.90234375)
    """
    height, width = image_size
    ratio = np.sqrt(1 - lam)
    half_rows, half_columns = ((side * ratio).astype(np.int64) // 2 for side in image_size)
    top, bottom = (rows - half_rows).clip(0, height), (rows + half_rows).clip(0, height)
    left, right = (columns - half_columns).clip(0, width), (columns + half_columns).clip(0, width)
    return (top, bottom, left, right), 1 - (bottom - top) * (right - left) / (height * width)
