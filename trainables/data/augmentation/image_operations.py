"""Image operations of RandAugment and TrivialAugment on whole batches, each image with its own magnitude.

Pixels are levels 0..255 of white in a floating tensor, and are rounded as torchvision rounds uint8. The outside of an
image is black. Shapes: B images, C channels, H by W pixels, P pixels of a channel.

>>> levels_BCHW = torch.full((2, 1, 2, 2), 200.0)
>>> OPERATIONS["brightness"](levels_BCHW, torch.tensor([-0.5, 0.1]))[:, 0, 0, 0].tolist()
[100.0, 220.0]
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GEOMETRIC", "OPERATIONS", "matrices", "moved"]

Operation = Callable[[Tensor, Tensor], Tensor]
WHITE = 255
LUMA = (0.2989, 0.587, 0.114)
GEOMETRIC: Final = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def matrices(kind_B: Tensor, magnitude_B: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Return the maps (B, 2, 3) of geometric operations from a place of the output to that of the input.

    Args:
        kind_B: index into `GEOMETRIC`.
        magnitude_B: tangent of a shear about the upper left corner, whole pixels of a translation, degrees
            counterclockwise of a rotation about the centre.
        size: height and width in pixels.
    """
    height, width = size
    shear_x, shear_y, shift_x, shift_y, turn = ((kind_B == index) * magnitude_B for index in range(len(GEOMETRIC)))
    cosine, sine = turn.deg2rad().cos(), turn.deg2rad().sin()
    rows = (
        (cosine, shear_x - sine, shear_x * height / 2 - shift_x.trunc()),
        (shear_y + sine, cosine, shear_y * width / 2 - shift_y.trunc()),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def moved(levels_BCHW: Tensor, matrices_B23: Tensor) -> Tensor:
    """Show the nearest pixel at the mapped place of each pixel of the output; places are (x, y) from the centre."""
    height, width = levels_BCHW.shape[2:]
    x_W = torch.arange(width).to(levels_BCHW) - (width - 1) / 2
    y_H = torch.arange(height).to(levels_BCHW) - (height - 1) / 2
    y_HW, x_HW = torch.meshgrid(y_H, x_W, indexing="ij")
    places_P3 = torch.stack((x_HW, y_HW, torch.ones_like(x_HW)), dim=-1).view(-1, 3)
    halves_2 = torch.tensor([width / 2, height / 2]).to(levels_BCHW)
    grid_BP2 = places_P3 @ (matrices_B23.to(levels_BCHW).transpose(1, 2) / halves_2)
    grid_BHW2 = grid_BP2.view(-1, height, width, 2)
    return functional.grid_sample(levels_BCHW, grid_BHW2, mode="nearest", padding_mode="zeros", align_corners=False)


def _blended(levels_BCHW: Tensor, other: Tensor, magnitude_B: Tensor) -> Tensor:
    magnitude_B111 = magnitude_B[:, None, None, None]
    return ((1 + magnitude_B111) * levels_BCHW - magnitude_B111 * other).clamp(0, WHITE).floor()


def _brightness(levels_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    return _blended(levels_BCHW, torch.zeros_like(levels_BCHW), magnitude_B)


def _color(levels_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    return _blended(levels_BCHW, _grey(levels_BCHW), magnitude_B) if levels_BCHW.shape[1] == 3 else levels_BCHW


def _contrast(levels_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    return _blended(levels_BCHW, _grey(levels_BCHW).mean((1, 2, 3), keepdim=True), magnitude_B)


def _sharpness(levels_BCHW: Tensor, magnitude_B: Tensor) -> Tensor:
    channels, height, width = levels_BCHW.shape[1:]
    if height <= 2 or width <= 2:
        return levels_BCHW
    kernel_33 = torch.ones(3, 3, dtype=levels_BCHW.dtype, device=levels_BCHW.device)
    kernel_33[1, 1] = 5
    kernel_C133 = (kernel_33 / kernel_33.sum()).expand(channels, 1, 3, 3)
    blurred = levels_BCHW.clone()
    blurred[:, :, 1:-1, 1:-1] = functional.conv2d(levels_BCHW, kernel_C133, groups=channels).round()
    return _blended(levels_BCHW, blurred, magnitude_B)


def _posterize(levels_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    step_B111 = (2 ** (8 - bits_B.trunc()))[:, None, None, None]
    return (levels_BCHW / step_B111).floor() * step_B111


def _solarize(levels_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    return torch.where(levels_BCHW >= threshold_B[:, None, None, None], WHITE - levels_BCHW, levels_BCHW)


def _autocontrast(levels_BCHW: Tensor, _: Tensor) -> Tensor:
    low, high = levels_BCHW.amin((2, 3), keepdim=True), levels_BCHW.amax((2, 3), keepdim=True)
    stretched = ((levels_BCHW - low) * (WHITE / (high - low).clamp(min=1))).clamp(0, WHITE).floor()
    return torch.where(high > low, stretched, levels_BCHW)


def _equalize(levels_BCHW: Tensor, _: Tensor) -> Tensor:
    values_NP = levels_BCHW.flatten(2).flatten(0, 1).long()
    counts_NV = torch.zeros(len(values_NP), WHITE + 1, dtype=torch.int64, device=values_NP.device)
    counts_NV.scatter_add_(1, values_NP, torch.ones_like(values_NP))
    brightest_N1 = counts_NV.gather(1, values_NP.amax(1, keepdim=True))
    step_N1 = (values_NP.shape[1] - brightest_N1) // WHITE
    table_NV = (counts_NV.cumsum(1) + step_N1 // 2) // step_N1.clamp(min=1)
    table_NV = functional.pad(table_NV, (1, 0))[:, :-1].clamp(0, WHITE)
    equal_NP = torch.where(step_N1 > 0, table_NV.gather(1, values_NP), values_NP)
    return equal_NP.view(levels_BCHW.shape).to(levels_BCHW.dtype)


def _grey(levels_BCHW: Tensor) -> Tensor:
    if levels_BCHW.shape[1] != 3:
        return levels_BCHW.mean(1, keepdim=True)
    weights = torch.tensor(LUMA, dtype=levels_BCHW.dtype, device=levels_BCHW.device)
    return (levels_BCHW * weights[:, None, None]).sum(1, keepdim=True).floor()


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "brightness": _brightness,
        "color": _color,
        "contrast": _contrast,
        "sharpness": _sharpness,
        "posterize": _posterize,
        "solarize": _solarize,
        "autocontrast": _autocontrast,
        "equalize": _equalize,
    }
)
"""Operations that do not move pixels, by name: from levels and a magnitude per image to levels."""
