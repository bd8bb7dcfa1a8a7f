"""Candidates of the Square attack, by norm (Andriushchenko et al., ECCV 2020, algorithms 2 and 3).

Shapes: B images, C channels, H by W pixels.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from trainables.attacks.balls import L2Ball, LinfBall

__all__ = ["Bumps", "Candidates", "Squares", "bump", "square_side"]

_FIRST_SHARE = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SMALLEST_BUMP = 3


class Candidates(Protocol):
    """Random changes of images, inside the ball and the box; at each query the same place for all images."""

    def first(self, x_BCHW: Tensor) -> Tensor:
        """Return the images to start from."""

    def next(self, x_BCHW: Tensor, best_BCHW: Tensor, query: int) -> Tensor:
        """Return the best images so far with one square changed."""


def square_side(query: int, *, height: int, width: int) -> int:
    """Return the side of the square at this query (from 0): 80 % of the area at first, half as much at each stage.

    >>> [square_side(query, height=28, width=28) for query in (0, 10, 11, 4001)]
    [25, 25, 18, 2]
    """
    stage = sum(query > first for first in _HALVINGS)
    share = _FIRST_SHARE * 0.5**stage
    return min(max(round(math.sqrt(share * height * width)), 1), height, width)


def bump(side: int, *, like: Tensor) -> Tensor:
    """Return two opposite bumps (side, side) of length 1, each the sum of nested squares of height 1 / m^2.

    >>> (bump(3, like=torch.zeros(1)) * 100).round().int().tolist()
    [[14, 68, 14], [-13, -13, -13], [-13, -65, -13]]
    """
    upper, lower = side // 2, side - side // 2
    halves = torch.cat([_nested(upper, side, like), -_nested(lower, side, like)])
    shape: Tensor = halves / torch.linalg.vector_norm(halves)
    return shape


def _nested(height: int, width: int, like: Tensor) -> Tensor:
    """Return the sum of squares of half-widths m = 0, 1, ... around the middle, of height 1 / (m + 1)^2 each."""
    rows_H, columns_W = (torch.arange(size, device=like.device) - size // 2 for size in (height, width))
    ring_HW = torch.maximum(rows_H.abs()[:, None], columns_W.abs())
    count = max(height, width) // 2 + 1
    heights = torch.arange(1, count + 1, device=like.device).to(like.dtype) ** -2
    sums = heights.flip(0).cumsum(0).flip(0)
    nested = sums[ring_HW]
    return nested / torch.linalg.vector_norm(nested) if height else nested


@dataclass(frozen=True, slots=True)
class Squares:
    """Candidates in the Linf ball: squares of +-2 epsilon, projected."""

    epsilon: float
    generator: torch.Generator | None

    def first(self, x_BCHW: Tensor) -> Tensor:
        """Return vertical stripes of +-epsilon."""
        signs = _signs(x_BCHW, (*x_BCHW.shape[:2], 1, x_BCHW.shape[3]), self.generator)
        return self._inside(x_BCHW, x_BCHW + self.epsilon * signs)

    def next(self, x_BCHW: Tensor, best_BCHW: Tensor, query: int) -> Tensor:
        """Return the best images with one square, of one sign in each channel."""
        channels, height, width = x_BCHW.shape[1:]
        side = square_side(query, height=height, width=width)
        window = _Window.sample(x_BCHW, side, self.generator)
        signs = _signs(x_BCHW, (1, channels, 1, 1), self.generator)
        return self._inside(x_BCHW, best_BCHW + 2 * self.epsilon * signs * window.flags)

    def _inside(self, x_BCHW: Tensor, images: Tensor) -> Tensor:
        return LinfBall.around(x_BCHW, epsilon=self.epsilon).project(images)


@dataclass(frozen=True, slots=True)
class Bumps:
    """Candidates on the surface of the L2 ball: bumps that take the length of two squares."""

    epsilon: float
    generator: torch.Generator | None

    def first(self, x_BCHW: Tensor) -> Tensor:
        """Return a grid of bumps, each of a random sign and on its side or not; five of them span the image."""
        batch, channels, height, width = x_BCHW.shape
        side = max(height // 5, 1)
        rows, columns = height // side, width // side
        if not columns:  # an image that is narrower than a tile
            side, rows, columns = 1, height, width
        shape = bump(side, like=x_BCHW)
        turned = torch.randint(2, (rows, columns, 1, 1), generator=self.generator, device=x_BCHW.device).bool()
        tiles = torch.where(turned, shape.T, shape).permute(0, 2, 1, 3).reshape(rows * side, columns * side)
        signs = _signs(x_BCHW, (batch, channels, rows, columns), self.generator)
        grid = tiles * signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        change = torch.zeros_like(x_BCHW)
        change[:, :, top : top + rows * side, left : left + columns * side] = grid
        return self._of_full_length(x_BCHW, change)

    def next(self, x_BCHW: Tensor, best_BCHW: Tensor, query: int) -> Tensor:
        """Return the best images with the perturbation of two squares gathered into a bump at one of them."""
        channels, height, width = x_BCHW.shape[1:]
        side = min(max(square_side(query, height=height, width=width), _SMALLEST_BUMP) | 1, height, width)
        here = _Window.sample(x_BCHW, side, self.generator)
        other = _Window.sample(x_BCHW, side, self.generator)
        shape = bump(side, like=x_BCHW)
        turned = torch.randint(2, (1,), generator=self.generator, device=x_BCHW.device).bool()
        shape = torch.where(turned, shape.T, shape)
        delta = best_BCHW - x_BCHW
        here_HW, both_HW = here.flags, here.flags | other.flags
        old = delta * here_HW
        signs = _signs(x_BCHW, (1, channels, 1, 1), self.generator)
        new = signs * here.place(shape) + old / _plane_length(old)
        unused_B = (self.epsilon**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
        available = (unused_B / channels + (delta * both_HW).square().sum((2, 3), keepdim=True)).sqrt()
        return self._of_full_length(x_BCHW, torch.where(both_HW, available * new / _plane_length(new), delta))

    def _of_full_length(self, x_BCHW: Tensor, change: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(change.dtype).tiny)
        return L2Ball(x_BCHW, self.epsilon).project(x_BCHW + self.epsilon * change / length)


class _Window(NamedTuple):
    """Square at a random place: the row and column (1,) of its corner never leave the device."""

    row: Tensor
    column: Tensor
    side: int
    height: int
    width: int

    @classmethod
    def sample(cls, x_BCHW: Tensor, side: int, generator: torch.Generator | None) -> Self:
        """Sample a place; the side fits."""
        height, width = x_BCHW.shape[2:]
        row, column = (
            torch.randint(size - side + 1, (1,), generator=generator, device=x_BCHW.device) for size in (height, width)
        )
        return cls(row, column, side, height, width)

    @property
    def _offsets(self) -> tuple[Tensor, Tensor]:
        rows_H, columns_W = (torch.arange(size, device=self.row.device) for size in (self.height, self.width))
        return rows_H - self.row, columns_W - self.column

    @property
    def flags(self) -> Tensor:
        """True in the square (H, W)."""
        rows_H, columns_W = ((offset >= 0) & (offset < self.side) for offset in self._offsets)
        return rows_H[:, None] & columns_W

    def place(self, values: Tensor) -> Tensor:
        """Return values (side, side) at the square, zero elsewhere (H, W)."""
        rows_H, columns_W = (offset.clamp(0, self.side - 1) for offset in self._offsets)
        return values[rows_H[:, None], columns_W] * self.flags


def _signs(x_BCHW: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.randint(2, shape, generator=generator, device=x_BCHW.device).to(x_BCHW.dtype) * 2 - 1


def _plane_length(change_BCHW: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(change_BCHW, dim=(2, 3), keepdim=True)
    return length.clamp_min(torch.finfo(change_BCHW.dtype).tiny)
