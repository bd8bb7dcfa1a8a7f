"""Rotation, shear and zoom of images about their true centre (Verma et al., 2019, Table 9).

A deformation is a matrix M that maps a place of the output to the place of the input that it shows, both
as (row, column) pixels from the centre ((H - 1) / 2, (W - 1) / 2): in = M out. Places outside the input
show `fill`. The reference code rotates about a point half a pixel lower and further right; here the
centre is fixed. Angles are in radians; the sign of a rotation is that of torchvision's `affine`.
Shapes: B images, C channels, H by W pixels.

>>> import math
>>> x_BCHW = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
>>> rotate(x_BCHW, torch.tensor([math.pi / 2]), interpolation="nearest").tolist()
[[[[0.0, 0.0], [0.0, 1.0]]]]
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "Interpolation",
    "rotate",
    "rotation_matrices",
    "shear",
    "shear_matrices",
    "tangent_shear",
    "tangent_shear_matrices",
    "warp",
    "zoom",
    "zoom_matrices",
]

Interpolation = Literal["bilinear", "nearest"]


def rotate(
    x_BCHW: Tensor, angle_B: Tensor, *, fill: float | Tensor = 0.0, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Rotate each image by its angle, M = [[cos a, -sin a], [sin a, cos a]].

    Raises:
        ValueError: as `warp`.
    """
    return warp(x_BCHW, rotation_matrices(angle_B), fill=fill, interpolation=interpolation)


def shear(
    x_BCHW: Tensor, angle_B: Tensor, *, fill: float | Tensor = 0.0, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Shear as the reference code does, M = [[1, -sin s], [0, cos s]].

    It is defined for every angle. Beyond a right angle the cosine is negative, which mirrors the image.
    Therefore the paper's accuracy rises from 143.2 to 171.9 degrees.

    Raises:
        ValueError: as `warp`.
    """
    return warp(x_BCHW, shear_matrices(angle_B), fill=fill, interpolation=interpolation)


def tangent_shear(
    x_BCHW: Tensor, angle_B: Tensor, *, fill: float | Tensor = 0.0, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Shear as torchvision does, M = [[1, 0], [tan s, 1]]: it keeps areas, and is defined below a right angle.

    Raises:
        ValueError: as `warp`.
    """
    return warp(x_BCHW, tangent_shear_matrices(angle_B), fill=fill, interpolation=interpolation)


def zoom(
    x_BCHW: Tensor, factor_B: Tensor, *, fill: float | Tensor = 0.0, interpolation: Interpolation = "bilinear"
) -> Tensor:
    """Show the centred box of `factor_B` times height and width: below 1 enlarges, above 1 shrinks, M = diag(k, k).

    Raises:
        ValueError: as `warp`.

    >>> zoom(torch.ones(1, 1, 4, 4), torch.tensor([2.0]))[0, 0, 1].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    return warp(x_BCHW, zoom_matrices(factor_B), fill=fill, interpolation=interpolation)


def rotation_matrices(angle_B: Tensor) -> Tensor:
    """Return M (B, 2, 2) of `rotate`."""
    return _matrices(angle_B.cos(), -angle_B.sin(), angle_B.sin(), angle_B.cos())


def shear_matrices(angle_B: Tensor) -> Tensor:
    """Return M (B, 2, 2) of `shear`."""
    return _matrices(torch.ones_like(angle_B), -angle_B.sin(), torch.zeros_like(angle_B), angle_B.cos())


def tangent_shear_matrices(angle_B: Tensor) -> Tensor:
    """Return M (B, 2, 2) of `tangent_shear`."""
    return _matrices(torch.ones_like(angle_B), torch.zeros_like(angle_B), angle_B.tan(), torch.ones_like(angle_B))


def zoom_matrices(factor_B: Tensor) -> Tensor:
    """Return M (B, 2, 2) of `zoom`."""
    return _matrices(factor_B, torch.zeros_like(factor_B), torch.zeros_like(factor_B), factor_B)


def warp(
    x_BCHW: Tensor,
    matrices_B22: Tensor,
    *,
    fill: float | Tensor = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Show the input at M times each place of the output; `fill` is one value, or one for each channel (C,).

    A sequence of deformations costs one interpolation if you multiply their matrices first, with M of the
    first deformation on the left.

    Raises:
        ValueError: images that are not floating (B, C, H, W), or matrices that are not (B, 2, 2).

    >>> x_BCHW = torch.rand(1, 3, 4, 5)
    >>> torch.equal(warp(x_BCHW, torch.eye(2)[None], interpolation="nearest"), x_BCHW)
    True
    """
    if x_BCHW.dim() != 4 or not x_BCHW.is_floating_point():
        raise ValueError(f"images: must be floating (B, C, H, W), got {x_BCHW.dtype} {tuple(x_BCHW.shape)}")
    if matrices_B22.shape != (len(x_BCHW), 2, 2):
        raise ValueError(f"matrices: must be ({len(x_BCHW)}, 2, 2), one per image, got {tuple(matrices_B22.shape)}")
    grid_BHW2 = functional.affine_grid(_normalised(matrices_B22.to(x_BCHW), x_BCHW), list(x_BCHW.shape), False)
    if isinstance(fill, int | float) and fill == 0:
        return functional.grid_sample(x_BCHW, grid_BHW2, mode=interpolation, align_corners=False)
    # grid_sample pads with 0 only, so subtract the fill before and add it after.
    fill_C11 = torch.as_tensor(fill).to(x_BCHW).reshape(-1, 1, 1)
    return functional.grid_sample(x_BCHW - fill_C11, grid_BHW2, mode=interpolation, align_corners=False) + fill_C11


def _matrices(m00_B: Tensor, m01_B: Tensor, m10_B: Tensor, m11_B: Tensor) -> Tensor:
    return torch.stack((m00_B, m01_B, m10_B, m11_B), dim=1).view(-1, 2, 2)


def _normalised(matrices_B22: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return the maps for `affine_grid`: (x, y) = (column, row), each side of the image 2 units long."""
    height, width = x_BCHW.shape[2:]
    m = matrices_B22
    theta_B22 = _matrices(m[:, 1, 1], m[:, 1, 0] * (height / width), m[:, 0, 1] * (width / height), m[:, 0, 0])
    return functional.pad(theta_B22, (0, 1))
