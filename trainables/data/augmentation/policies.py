"""Augmentation policies on whole batches: TrivialAugment, RandAugment, random erasing.

`trivial` (Mueller and Hutter, 2021; the wide space) takes one operation per image, of a uniform magnitude; `rand`
(Cubuk et al., 2020) takes several, of one magnitude. Operations and their ranges are those of torchvision. Erasing
(Zhong et al., 2020) fills a box with uniform noise, with a probability.
The random numbers are sampled on the host, as those of the other variations are.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainables.data.augmentation.image_operations import GEOMETRIC, OPERATIONS, WHITE, matrices, moved

__all__ = ["BINS", "NAMES", "NO_POLICY", "Policy", "PolicyDraw", "apply_policy", "draw_policy", "magnitudes"]

Kind = Literal["none", "trivial", "rand"]

BINS = 31
NAMES = ("identity", *GEOMETRIC, *OPERATIONS)
SIGNED = (*GEOMETRIC, "brightness", "color", "contrast", "sharpness")
ERASED_AREA, ERASED_RATIO, ATTEMPTS = (0.02, 1 / 3), (0.3, 1 / 0.3), 10
# Largest magnitudes; a translation of rand is a share of the side.
TRIVIAL = {"shear": 0.99, "translate": 32.0, "rotate": 135.0, "blend": 0.99, "bits": 6}
RAND = {"shear": 0.3, "translate": 150 / 331, "rotate": 30.0, "blend": 0.9, "bits": 4}


@dataclass(frozen=True, slots=True)
class Policy:
    """Operations per image: their number and their magnitude count for `rand`; `erasing` is a probability.

    Raises:
        ValueError: no operation, a magnitude outside 0..30, no probability.
    """

    kind: Kind = "none"
    ops: int = 2
    magnitude: int = 9
    erasing: float = 0.0

    def __post_init__(self) -> None:
        if self.ops < 1:
            raise ValueError(f"ops: must be >= 1, got {self.ops}")
        if not 0 <= self.magnitude < BINS:
            raise ValueError(f"magnitude: must be in 0..{BINS - 1}, got {self.magnitude}")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing: must be in [0, 1], got {self.erasing}")

    @property
    def is_identity(self) -> bool:
        """True if images do not change."""
        return self.kind == "none" and self.erasing == 0

    @property
    def num_ops(self) -> int:
        """Number of operations on each image."""
        return {"none": 0, "trivial": 1, "rand": self.ops}[self.kind]


NO_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class PolicyDraw:
    """Sampled operations (S, B) as indices into `NAMES`, their magnitudes, and boxes to erase, on the host.

    `boxes_B4` are top, left, height and width; a height of 0 erases nothing. `noise_ECHW` are the pixels of the E
    images that are erased, in their order.
    """

    operations_SB: Tensor
    magnitudes_SB: Tensor
    boxes_B4: Tensor
    noise_ECHW: Tensor


def magnitudes(kind: Kind, *, size: tuple[int, int]) -> Tensor:
    """Return the magnitude of each operation at each of 31 levels, (operations, 31), without its sign."""
    height, width = size
    most = TRIVIAL if kind == "trivial" else RAND
    sides = (1.0, 1.0) if kind == "trivial" else (float(width), float(height))
    ends = {
        **dict.fromkeys(("shear_x", "shear_y"), most["shear"]),
        "translate_x": most["translate"] * sides[0],
        "translate_y": most["translate"] * sides[1],
        "rotate": most["rotate"],
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), most["blend"]),
    }
    table = {name: torch.linspace(0.0, end, BINS) for name, end in ends.items()}
    table["posterize"] = 8 - (torch.arange(BINS) / ((BINS - 1) / most["bits"])).round()
    table["solarize"] = torch.linspace(float(WHITE), 0.0, BINS)
    return torch.stack([table.get(name, torch.zeros(BINS)) for name in NAMES])


def draw_policy(shape: tuple[int, ...], *, policy: Policy, generator: torch.Generator) -> PolicyDraw:
    """Sample operations and boxes for images of a shape (B, C, H, W)."""
    batch, channels, height, width = shape
    unit_3SB = torch.rand((3, policy.num_ops, batch), generator=generator, dtype=torch.float64)
    operations_SB = (unit_3SB[0] * len(NAMES)).long()
    levels_SB = (
        (unit_3SB[1] * BINS).long() if policy.kind == "trivial" else torch.full_like(operations_SB, policy.magnitude)
    )
    signed = torch.tensor([name in SIGNED for name in NAMES])
    sign_SB = torch.where(signed[operations_SB] & (unit_3SB[2] < 1 / 2), -1.0, 1.0)
    boxes_B4 = _boxes(batch, (height, width), probability=policy.erasing, generator=generator)
    num_erased = int((boxes_B4[:, 2] > 0).sum())
    return PolicyDraw(
        operations_SB=operations_SB,
        magnitudes_SB=magnitudes(policy.kind, size=(height, width))[operations_SB, levels_SB] * sign_SB,
        boxes_B4=boxes_B4,
        noise_ECHW=torch.rand((num_erased, channels, height, width), generator=generator),
    )


def apply_policy(x_BCHW: Tensor, sampled: PolicyDraw) -> Tensor:
    """Apply the sampled operations in their order, then erase; pixels are in [0, 1], and operations round to 8 bits."""
    if len(sampled.operations_SB):
        levels_BCHW = (x_BCHW * WHITE).round()
        for operation_B, magnitude_B in zip(sampled.operations_SB, sampled.magnitudes_SB, strict=True):
            levels_BCHW = _operated(levels_BCHW, operation_B, magnitude_B)
        x_BCHW = levels_BCHW / WHITE
    return _erased(x_BCHW, sampled.boxes_B4, sampled.noise_ECHW)


def _operated(levels_BCHW: Tensor, operation_B: Tensor, magnitude_B: Tensor) -> Tensor:
    """Apply one operation to each image: all moves by one gather, and every other operation to its images at once."""
    size = (levels_BCHW.shape[2], levels_BCHW.shape[3])
    operated = levels_BCHW.clone()
    moved_G = _indices((operation_B >= 1) & (operation_B <= len(GEOMETRIC)))
    if len(moved_G):
        maps_G23 = matrices(operation_B[moved_G] - 1, magnitude_B[moved_G], size=size)
        _put(operated, moved_G, moved(_at(levels_BCHW, moved_G), maps_G23))
    for index, operation in enumerate(OPERATIONS.values(), start=1 + len(GEOMETRIC)):
        these_G = _indices(operation_B == index)
        if len(these_G):
            _put(operated, these_G, operation(_at(levels_BCHW, these_G), magnitude_B[these_G].to(levels_BCHW)))
    return operated


def _indices(chosen_B: Tensor) -> Tensor:
    return chosen_B.nonzero().flatten()


def _at(x_BCHW: Tensor, indices_G: Tensor) -> Tensor:
    return x_BCHW.index_select(0, indices_G.to(x_BCHW.device, non_blocking=True))


def _put(x_BCHW: Tensor, indices_G: Tensor, these_GCHW: Tensor) -> None:
    x_BCHW.index_copy_(0, indices_G.to(x_BCHW.device, non_blocking=True), these_GCHW)


def _boxes(batch: int, size: tuple[int, int], *, probability: float, generator: torch.Generator) -> Tensor:
    """Sample a box for each image (B, 4): its first of ten proposals that fits; none with the other probability."""
    height, width = size
    if probability == 0:
        return torch.zeros((batch, 4), dtype=torch.int64)
    unit_AB4 = torch.rand((ATTEMPTS, batch, 4), generator=generator, dtype=torch.float64)
    chosen_B = torch.rand(batch, generator=generator, dtype=torch.float64) < probability
    area_AB = height * width * _uniform(unit_AB4[..., 0], *ERASED_AREA)
    ratio_AB = _uniform(unit_AB4[..., 1], *map(math.log, ERASED_RATIO)).exp()
    high_AB, wide_AB = (area_AB * ratio_AB).sqrt().round().long(), (area_AB / ratio_AB).sqrt().round().long()
    fits_AB = (high_AB < height) & (wide_AB < width) & (high_AB > 0) & (wide_AB > 0)
    first_B = fits_AB.long().argmax(0)
    rows_B = torch.arange(batch)
    high_B, wide_B, top_B, left_B = (t[first_B, rows_B] for t in (high_AB, wide_AB, unit_AB4[..., 2], unit_AB4[..., 3]))
    top_B, left_B = (top_B * (height - high_B + 1)).long(), (left_B * (width - wide_B + 1)).long()
    erased_B = chosen_B & fits_AB.any(0)
    return torch.stack((top_B, left_B, high_B, wide_B), dim=1) * erased_B[:, None]


def _uniform(unit: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * unit


def _erased(x_BCHW: Tensor, boxes_B4: Tensor, noise_ECHW: Tensor) -> Tensor:
    if not len(noise_ECHW):
        return x_BCHW
    height, width = x_BCHW.shape[2:]
    erased_E = _indices(boxes_B4[:, 2] > 0)
    top_E, left_E, high_E, wide_E = boxes_B4[erased_E].T
    rows_EH, columns_EW = torch.arange(height)[None], torch.arange(width)[None]
    inside_EH = (rows_EH >= top_E[:, None]) & (rows_EH < (top_E + high_E)[:, None])
    inside_EW = (columns_EW >= left_E[:, None]) & (columns_EW < (left_E + wide_E)[:, None])
    inside_E1HW = (inside_EH[:, :, None] & inside_EW[:, None, :])[:, None]
    these = torch.where(inside_E1HW.to(x_BCHW.device), noise_ECHW.to(x_BCHW), _at(x_BCHW, erased_E))
    erased = x_BCHW.clone()
    _put(erased, erased_E, these)
    return erased
