"""Augmentation of training images, on whole batches and on their device.

The random numbers, a few per image, are sampled on the host, so a trial has the same variation on any
device. Pixels never leave their device. A crop and a flip are one gather, and all deformations one
interpolation; the operations of a policy follow, and erasing is last. The outside of an image is black.
Shapes: B images, C channels, H by W pixels,
P pixels of a padded image.

>>> settings = Augmentation(crop_padding=1, flip=True)
>>> x_BCHW = torch.rand(4, 3, 8, 8)
>>> augment(x_BCHW, settings=settings, generator=torch.Generator().manual_seed(0)).shape
torch.Size([4, 3, 8, 8])
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from trainables.config.trial import DataConfig
from trainables.data.augmentation.deformation import rotation_matrices, shear_matrices, warp, zoom_matrices
from trainables.data.augmentation.policies import NO_POLICY, Policy, apply_policy, draw_policy

__all__ = ["Augmentation", "Variation", "augment", "draw", "vary"]

MIRROR_PROBABILITY = 0.5


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Extent of the variation: padding in pixels, rotation and shear in radians, zoom as a share of the side; a policy.

    Raises:
        ValueError: a negative or infinite extent, or a zoom of 1 or more.
    """

    crop_padding: int = 0
    flip: bool = False
    rotation: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    policy: Policy = NO_POLICY

    def __post_init__(self) -> None:
        for name in ("crop_padding", "rotation", "shear", "zoom"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: must be finite and >= 0, got {value}")
        if self.zoom >= 1:
            raise ValueError(f"zoom: must be < 1, as the smallest factor is 1 - zoom, got {self.zoom}")

    @classmethod
    def from_config(cls, config: DataConfig) -> Self:
        """Return the augmentation of a trial, with its rotation converted from degrees to radians.

        >>> Augmentation.from_config(DataConfig(rotation=180.0)).rotation
        3.141592653589793
        """
        return cls(
            crop_padding=config.crop_padding,
            flip=config.flip,
            rotation=math.radians(config.rotation),
            shear=config.shear,
            zoom=config.zoom,
            policy=Policy(
                kind=config.policy,
                ops=config.policy_ops,
                magnitude=config.policy_magnitude,
                erasing=config.erasing,
            ),
        )

    @property
    def is_identity(self) -> bool:
        """True if images do not change."""
        return not (self.moves or self.deforms) and self.policy.is_identity

    @property
    def moves(self) -> bool:
        """True if pixels move to other places, unchanged."""
        return self.crop_padding > 0 or self.flip

    @property
    def deforms(self) -> bool:
        """True if pixels are interpolated."""
        return self.rotation > 0 or self.shear > 0 or self.zoom > 0


@dataclass(frozen=True, slots=True)
class Variation:
    """Sampled variation of each image, on the host.

    `top_B` and `left_B` (int64, from 0 to twice the padding) are the origin of the crop in the padded
    image; `mirrored_B` is bool; `matrices_B22` (float64) are those of `deformation.warp`.
    """

    top_B: Tensor
    left_B: Tensor
    mirrored_B: Tensor
    matrices_B22: Tensor


def augment(x_BCHW: Tensor, *, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Vary each image independently: a crop of the padded image, a flip, rotation, shear and zoom, then the policy.

    `x_BCHW` is floating in [0, 1]. `generator` is on the host; its state does not change if nothing varies.

    Raises:
        ValueError: images that are not floating (B, C, H, W).
    """
    if settings.is_identity:
        return x_BCHW
    x_BCHW = vary(x_BCHW, draw(len(x_BCHW), settings=settings, generator=generator), settings=settings)
    if settings.policy.is_identity:
        return x_BCHW
    return apply_policy(x_BCHW, draw_policy(x_BCHW.shape, policy=settings.policy, generator=_branch(generator)))


def _branch(generator: torch.Generator) -> torch.Generator:
    """Return a generator of its own, so that a policy changes no number of the other variations."""
    copy = torch.Generator().set_state(generator.get_state())
    return torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (1,), generator=copy)))


def draw(num_images: int, *, settings: Augmentation, generator: torch.Generator) -> Variation:
    """Sample a variation per image: uniform crops and mirrors, a in U(-r, r), s in U(-s, s), k in U(1 - z, 1 + z).

    Every kind has its own numbers, sampled also if it is off, so switching one kind on changes no other kind.
    """
    # With 53 random bits the product below never rounds up to the number of places.
    unit_6B = torch.rand((6, num_images), generator=generator, dtype=torch.float64)
    top_B, left_B = (unit_6B[:2] * (2 * settings.crop_padding + 1)).long()
    angle_B, slant_B, growth_B = 2 * unit_6B[3:] - 1
    return Variation(
        top_B=top_B,
        left_B=left_B,
        mirrored_B=(unit_6B[2] < MIRROR_PROBABILITY).logical_and(torch.tensor(settings.flip)),
        matrices_B22=rotation_matrices(settings.rotation * angle_B)
        @ shear_matrices(settings.shear * slant_B)
        @ zoom_matrices(1 + settings.zoom * growth_B),
    )


def vary(x_BCHW: Tensor, variation: Variation, *, settings: Augmentation) -> Tensor:
    """Apply a variation that was sampled under these settings.

    Raises:
        ValueError: images that are not floating (B, C, H, W).
    """
    if x_BCHW.dim() != 4 or not x_BCHW.is_floating_point():
        raise ValueError(f"images: must be floating (B, C, H, W), got {x_BCHW.dtype} {tuple(x_BCHW.shape)}")
    if settings.moves:
        x_BCHW = _move(x_BCHW, variation, settings.crop_padding)
    if settings.deforms:
        x_BCHW = warp(x_BCHW, variation.matrices_B22.to(x_BCHW.device, x_BCHW.dtype, non_blocking=True))
    return x_BCHW


def _move(x_BCHW: Tensor, variation: Variation, padding: int) -> Tensor:
    """Crop and mirror by one gather, the fastest way to index on a CPU, by up to ten times."""
    height, width = x_BCHW.shape[2:]
    padded_BCP = functional.pad(x_BCHW, (padding,) * 4).flatten(2)
    top_B, left_B, mirrored_B = torch.stack((variation.top_B, variation.left_B, variation.mirrored_B.long())).to(
        x_BCHW.device, non_blocking=True
    )
    columns_W = torch.arange(width, device=x_BCHW.device)
    rows_BH = top_B[:, None] + torch.arange(height, device=x_BCHW.device)
    columns_BW = left_B[:, None] + torch.where(mirrored_B[:, None] > 0, width - 1 - columns_W, columns_W)
    places_BHW = rows_BH[:, :, None] * (width + 2 * padding) + columns_BW[:, None, :]
    places_BCP = places_BHW.flatten(1)[:, None].expand(-1, x_BCHW.shape[1], -1)
    return padded_BCP.gather(2, places_BCP).view(x_BCHW.shape)
