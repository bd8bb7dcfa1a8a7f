"""Families of deformations, and the accuracies of the paper: Verma et al., "Manifold Mixup", 2019, Tables 4 and 9.

Shapes: B images of a batch, C channels, H by W pixels.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import torch

from trainables.data.augmentation.deformation import (
    Interpolation,
    rotation_matrices,
    shear_matrices,
    tangent_shear_matrices,
    warp,
    zoom_matrices,
)
from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

__all__ = ["FAMILIES", "PAPER", "PRIMARY", "VARIANTS", "DeformationFamily", "Variant", "deform", "unit_draws"]


class Variant(NamedTuple):
    """Interpolation of pixels, and fill of the area outside the image: black, or the training images' mean."""

    interpolation: Interpolation
    fill: Literal["black", "mean"]

    def __str__(self) -> str:
        return f"{self.interpolation} on {self.fill}"


PRIMARY: Final = Variant("bilinear", "black")
VARIANTS: Final = (PRIMARY, Variant("bilinear", "mean"), Variant("nearest", "mean"))
"""The last one is like the reference code, except for its centre, which is a pixel off."""


class DeformationFamily(NamedTuple):
    """Kind of deformation: its amounts and their unit, and the matrices of the samples u at an amount."""

    draws: str
    unit: str
    amounts: tuple[float, ...]
    matrices: Callable[[Tensor, float], Tensor]
    variants: tuple[Variant, ...] = VARIANTS


def _turned(u_B: Tensor, degrees: float) -> Tensor:
    return rotation_matrices((u_B * degrees).deg2rad())


def _sheared(u_B: Tensor, radians: float) -> Tensor:
    return shear_matrices(u_B * radians)


def _tangent_sheared(u_B: Tensor, radians: float) -> Tensor:
    return tangent_shear_matrices(u_B * radians)


def _zoomed(u_B: Tensor, factor: float) -> Tensor:
    return zoom_matrices(torch.full_like(u_B, factor))


_SIDE = "side of the box shown / side of the image"

FAMILIES: Final[Mapping[str, DeformationFamily]] = MappingProxyType(
    {
        "rotation": DeformationFamily("rotation", "largest angle, degrees", (20, 40, 60, 80), _turned),
        "shear": DeformationFamily("shear", "largest angle, radians", (0.5, 1, 2, 2.5, 3), _sheared),
        "tangent_shear": DeformationFamily("shear", "largest angle, radians", (0.5, 1), _tangent_sheared, (PRIMARY,)),
        "zoom_in": DeformationFamily("zoom", _SIDE, (0.2, 0.4, 0.6, 0.8), _zoomed),
        "zoom_out": DeformationFamily("zoom", _SIDE, (1.2, 1.4, 1.6, 1.8), _zoomed),
    }
)
"""The paper's grids. Its shear mirrors an image beyond a right angle; torchvision's shear, by the tangent, is a check
below that, and no metric."""

_METHODS = ("none", "input mixup, alpha 1", "input mixup, alpha 2", "manifold mixup, alpha 2")
_TABLES_4_AND_9 = {
    "rotation@20": (52.96, 55.55, 56.48, 60.08),
    "rotation@40": (33.82, 37.73, 36.78, 42.13),
    "rotation@60": (26.77, 28.47, 27.53, 33.78),
    "rotation@80": (24.19, 26.72, 25.34, 29.95),
    "shear@0.5": (55.92, 58.16, 60.01, 62.85),
    "shear@1": (35.66, 39.34, 39.7, 44.27),
    "shear@2": (19.57, 22.94, 22.8, 24.69),
    "shear@2.5": (17.55, 21.66, 21.22, 23.56),
    "shear@3": (22.38, 25.53, 25.27, 28.02),
    "zoom_in@0.2": (2.43, 1.9, 2.45, 2.03),
    "zoom_in@0.4": (4.97, 4.47, 5.23, 4.17),
    "zoom_in@0.6": (12.68, 13.75, 13.12, 11.49),
    "zoom_in@0.8": (47.95, 52.18, 50.47, 52.70),
    "zoom_out@1.2": (43.18, 60.02, 61.62, 63.59),
    "zoom_out@1.4": (19.34, 41.81, 42.02, 45.29),
    "zoom_out@1.6": (11.12, 25.48, 25.85, 27.02),
    "zoom_out@1.8": (7.98, 18.11, 18.02, 15.68),
}
PAPER: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        deformation: MappingProxyType(dict(zip(_METHODS, percent, strict=True)))
        for deformation, percent in _TABLES_4_AND_9.items()
    }
)
"""The paper's accuracies in percent, by deformation and by training method: PreActResNet34 on CIFAR-100."""


def unit_draws(num_images: int, *, family: DeformationFamily, seed: int) -> Tensor:
    """Sample U(-1, 1) for each image, float64, on the host: the same for every device, model and amount.

    >>> unit_N = unit_draws(1000, family=FAMILIES["rotation"], seed=0)
    >>> bool((unit_N.abs() < 1).all()), torch.equal(unit_N, unit_draws(1000, family=FAMILIES["shear"], seed=0))
    (True, False)
    """
    stream = generator(seed, f"deformation/{family.draws}")
    return 2 * torch.rand(num_images, generator=stream, dtype=torch.float64) - 1


def deform(
    x_BCHW: Tensor,
    unit_B: Tensor,
    *,
    family: DeformationFamily,
    amount: float,
    fill: float | Tensor = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Deform each image by its sample of one amount; `fill` is one value, or one for each channel (C,).

    Raises:
        ValueError: as `trainables.data.augmentation.deformation.warp`.

    >>> x_BCHW = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    >>> deform(x_BCHW, torch.ones(1), family=FAMILIES["rotation"], amount=90, interpolation="nearest").tolist()
    [[[[0.0, 0.0], [0.0, 1.0]]]]
    """
    return warp(x_BCHW, family.matrices(unit_B, amount), fill=fill, interpolation=interpolation)
