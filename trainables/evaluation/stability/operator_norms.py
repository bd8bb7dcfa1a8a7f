"""Operator norms of linear layers: largest singular values, exact, from above and from below.

A circular convolution is diagonal in the Fourier basis, so its norm is exact. A convolution that pads with zeros is a
crop of a circular one on a larger grid, which bounds it from above. The reverse does not hold: at the same size, the
circular convolution can have the smaller norm.
Shapes: B images, D channels out, C channels in, O units out, I units in, F frequencies, T kernel entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from trainables.seeding import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

__all__ = [
    "PowerEstimate",
    "average_pool_bound",
    "circular_norm",
    "circular_singular_values",
    "convolution_estimate",
    "matrix_norm",
    "max_pool_bound",
    "power_iteration",
    "reshaped_norm",
    "unrolled_norm",
    "zero_padded_bound",
]

Pair = tuple[int, int]

_POWER_STEPS = 300
_SETTLED = 1e-7
_CHUNK_BYTES = 2**26
_COMPLEX_BYTES = 16


@dataclass(frozen=True, slots=True)
class PowerEstimate:
    """Estimate by power iteration: never above the norm, and below it by an unknown amount.

    residual: |A'A v - value^2 v| / value^2 for the unit vector v it ended at; 0 at a singular vector.
    """

    value: float
    residual: float


def matrix_norm(weight_OI: Tensor) -> float:
    """Return the largest singular value of a matrix, in float64.

    >>> f"{matrix_norm(torch.tensor([[3.0, 0.0], [4.0, 0.0]])):.6f}"
    '5.000000'
    """
    return float(torch.linalg.svdvals(weight_OI.double())[0])


def circular_norm(kernel_DCkk: Tensor, side: Pair, *, stride: Pair = (1, 1)) -> float:
    """Return the norm of a circular convolution of images of `side`, exact to the rounding of float64.

    With a stride, the frequencies that coincide after it form a block, and the norm is that of the block divided by
    sqrt(s1 s2): 1/s for both directions together, and not the 1/s^2 of Szegedy et al.

    Raises:
        ValueError: a stride that does not divide the side.

    >>> kernel = torch.tensor([[[[1.0, -1.0]]]])
    >>> f"{circular_norm(kernel, (1, 4)):.6f}", f"{circular_norm(kernel, (1, 4), stride=(1, 2)):.6f}"
    ('2.000000', '1.414214')
    """
    # The block of a frequency and of its negative have the same norm: half of the rows suffice.
    rows = side[0] // stride[0] // 2 + 1
    largest = 0.0
    for symbols_FDC in _symbols(kernel_DCkk, side, stride, rows=rows):
        largest = max(largest, float(_squares(symbols_FDC).max()))
    return math.sqrt(largest)


def circular_singular_values(kernel_DCkk: Tensor, side: Pair, *, stride: Pair = (1, 1)) -> Tensor:
    """Return all singular values of a circular convolution, largest first; the stride must divide the side.

    Small ones are right to about 1e-8 of the largest.

    >>> circular_singular_values(torch.tensor([[[[1.0, -1.0]]]]), (1, 2)).tolist()
    [2.0, 0.0]
    """
    rows = side[0] // stride[0]
    squares = [_squares(symbols).flatten() for symbols in _symbols(kernel_DCkk, side, stride, rows=rows)]
    return torch.cat(squares).clamp_min(0).sqrt().sort(descending=True).values


def zero_padded_bound(kernel_DCkk: Tensor, side: Pair, *, stride: Pair = (1, 1)) -> float:
    """Return an upper bound of the norm of a convolution of images of `side`, for any padding with zeros.

    On a grid of side + kernel - 1 nothing wraps around onto the image, so the outputs are among those of the circular
    convolution. With a stride the grid grows to its next multiple. The same holds there: outputs s apart stay s apart,
    and the position of the first one does not change the norm. The bound is exact for a kernel of one pixel.

    >>> kernel = torch.tensor([[[[0.0, 1.0, -1.0]]]])
    >>> f"{circular_norm(kernel, (1, 3)):.4f} < 1.8019 <= {zero_padded_bound(kernel, (1, 3)):.4f}"
    '1.7321 < 1.8019 <= 1.9021'
    """
    if kernel_DCkk.shape[2:] == (1, 1):
        return matrix_norm(kernel_DCkk.flatten(1))
    grid = [
        -(-(pixels + size - 1) // step) * step
        for pixels, size, step in zip(side, kernel_DCkk.shape[2:], stride, strict=True)
    ]
    return circular_norm(kernel_DCkk, (grid[0], grid[1]), stride=stride)


def reshaped_norm(kernel_DCkk: Tensor) -> float:
    """Return the norm of the kernel as a matrix (D, C k k), as in spectral normalisation (Miyato et al., 2018).

    If a whole patch fits into the image, this is a *lower* bound of the convolution's norm: the norm of a single
    output. Times ceil(k/s) it is an upper bound, as a pixel is in that many patches in each direction.

    >>> f"{reshaped_norm(torch.ones(1, 1, 2, 2)):.4f} <= {circular_norm(torch.ones(1, 1, 2, 2), (4, 4)):.4f}"
    '2.0000 <= 4.0000'
    """
    return matrix_norm(kernel_DCkk.flatten(1))


def unrolled_norm(
    kernel_DCkk: Tensor, side: Pair, *, stride: Pair = (1, 1), padding: Pair | str = (0, 0), chunk: int = 256
) -> float:
    """Return the norm of the convolution with its own zero padding, exact to the rounding of float64.

    It writes the convolution as a matrix, and takes the eigenvalues of the smaller of its two Gram matrices. So the
    cost is cubic in the number of values on the smaller side: seconds at 3,000 of them, with 8 bytes for each entry of
    the matrix.

    >>> f"{unrolled_norm(torch.tensor([[[[0.0, 1.0, -1.0]]]]), (1, 3), padding=(0, 1)):.6f}"
    '1.801938'
    """
    kernel = kernel_DCkk.double()
    size = kernel.shape[1] * math.prod(side)
    basis_II = torch.eye(size, dtype=torch.float64, device=kernel.device).reshape(size, -1, *side)
    columns = [
        functional.conv2d(part, kernel, stride=stride, padding=padding).flatten(1)
        for part in torch.split(basis_II, chunk)
    ]
    matrix_IO = torch.cat(columns)
    gram = matrix_IO.T @ matrix_IO if matrix_IO.shape[0] > matrix_IO.shape[1] else matrix_IO @ matrix_IO.T
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))


def max_pool_bound(kernel: Pair, stride: Pair) -> float:
    """Return the root of the number of windows in which a pixel can be the largest: ceil(k/s) if both sides are equal.

    Reached where images are large enough. Windows that overlap are not contractive.

    >>> max_pool_bound((2, 2), (2, 2)), max_pool_bound((3, 3), (2, 2))
    (1.0, 2.0)
    """
    return math.sqrt(math.prod(-(-size // step) for size, step in zip(kernel, stride, strict=True)))


def average_pool_bound(kernel: Pair, stride: Pair, side: Pair) -> float:
    """Return the exact norm 1/sqrt(k1 k2) if windows do not overlap, else the bound of the equivalent convolution.

    >>> average_pool_bound((2, 2), (2, 2), (8, 8))
    0.5
    """
    pixels = math.prod(kernel)
    if all(size <= step for size, step in zip(kernel, stride, strict=True)):
        return 1 / math.sqrt(pixels)
    return zero_padded_bound(torch.full((1, 1, *kernel), 1 / pixels, dtype=torch.float64), side, stride=stride)


def convolution_estimate(
    kernel_DCkk: Tensor,
    side: Pair,
    *,
    stride: Pair = (1, 1),
    padding: Pair | str = (0, 0),
    steps: int = _POWER_STEPS,
    seed: int = 0,
) -> PowerEstimate:
    """Estimate the norm of the convolution with its own zero padding, from below, in float64.

    >>> estimate = convolution_estimate(torch.tensor([[[[0.0, 1.0, -1.0]]]]), (1, 3), padding=(0, 1))
    >>> f"{estimate.value:.6f}"
    '1.801938'
    """
    kernel = kernel_DCkk.double()

    def convolve(x_BCHW: Tensor) -> Tensor:
        return functional.conv2d(x_BCHW, kernel, stride=stride, padding=padding)

    start = torch.randn(
        1, kernel.shape[1], *side, generator=generator(seed, "power iteration"), dtype=torch.float64
    ).to(kernel.device)
    return power_iteration(convolve, start, steps=steps)


def power_iteration(linear: Callable[[Tensor], Tensor], start: Tensor, *, steps: int = _POWER_STEPS) -> PowerEstimate:
    """Estimate the norm of a linear map from below: v <- A'A v, until v is a singular vector or the steps run out.

    A convolution is a linear map only without its bias. A start that the map sends to 0 gives 0.

    >>> diagonal = torch.tensor([3.0, 1.0], dtype=torch.float64)
    >>> f"{power_iteration(lambda v: diagonal * v, torch.ones(2, dtype=torch.float64)).value:.6f}"
    '3.000000'
    """
    value, residual = 0.0, 0.0
    v = start / start.norm()
    for _ in range(steps):
        image, product = _gram_product(linear, v)
        value = float(image.norm())
        if value == 0:
            return PowerEstimate(0.0, 0.0)
        residual = float((product - value**2 * v).norm()) / value**2
        if residual < _SETTLED:
            break
        v = product / product.norm()
    return PowerEstimate(value, residual)


def _gram_product(linear: Callable[[Tensor], Tensor], v: Tensor) -> tuple[Tensor, Tensor]:
    """Return A v and A'A v."""
    with torch.enable_grad():
        v = v.detach().requires_grad_()
        image = linear(v)
        (back,) = torch.autograd.grad(image, v, image.detach())
    return image.detach(), back


def _squares(symbols_FDC: Tensor) -> Tensor:
    """Return the squared singular values of each block, by the smaller of its two Gram matrices."""
    tall = symbols_FDC.shape[1] > symbols_FDC.shape[2]
    gram = symbols_FDC.mH @ symbols_FDC if tall else symbols_FDC @ symbols_FDC.mH
    squares_FR: Tensor = torch.linalg.eigvalsh(gram)
    return squares_FR


def _symbols(kernel_DCkk: Tensor, side: Pair, stride: Pair, *, rows: int) -> Iterator[Tensor]:
    """Yield chunks of the blocks (F, D, C s1 s2) of the first `rows` rows of frequencies, divided by sqrt(s1 s2)."""
    for pixels, step in zip(side, stride, strict=True):
        if pixels % step:
            raise ValueError(f"stride: must divide the side {side}, got {stride}; use zero_padded_bound")
    out, into, *_ = kernel_DCkk.shape
    aliases = math.prod(stride)
    taps_TDC = kernel_DCkk.permute(2, 3, 0, 1).reshape(-1, out * into).to(torch.complex128)
    periods = [pixels // step for pixels, step in zip(side, stride, strict=True)]
    base_F2 = torch.cartesian_prod(torch.arange(rows), torch.arange(periods[1]))
    offsets_A2 = torch.cartesian_prod(
        *(torch.arange(step) * period for step, period in zip(stride, periods, strict=True))
    )
    size = max(1, _CHUNK_BYTES // (_COMPLEX_BYTES * out * into * aliases))
    for chunk_F2 in torch.split(base_F2, size):
        waves_FAT = _waves(chunk_F2[:, None] + offsets_A2, side, kernel_DCkk.shape[2:]).to(kernel_DCkk.device)
        blocks_FADC = (waves_FAT @ taps_TDC).reshape(len(chunk_F2), aliases, out, into)
        yield blocks_FADC.transpose(1, 2).flatten(2) / math.sqrt(aliases)


def _waves(frequency_FA2: Tensor, side: Pair, kernel: torch.Size) -> Tensor:
    """Return exp(-2 pi i xi x / n) at each pixel x of the kernel, shape (F, A, T)."""
    pixels_T2 = torch.cartesian_prod(*(torch.arange(size) for size in kernel))
    # Full rotations are removed while the numbers are integers, so that no angle is large.
    fractions = [((frequency_FA2[..., None, i] * pixels_T2[:, i]) % side[i]).double() / side[i] for i in (0, 1)]
    angle_FAT = -2 * math.pi * (fractions[0] + fractions[1])
    return torch.polar(torch.ones_like(angle_FAT), angle_FAT)
