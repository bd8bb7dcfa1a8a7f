"""Smoothed surface over scattered points of the unit square, empty where no point is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = 49
WIDTH = 0.08
"""Standard deviation of the kernel, in units of an axis."""
REACH = 0.16
"""Distance from the nearest point beyond which the surface is empty."""


def surface(points: Sequence[tuple[float, float, float]]) -> tuple[list[float], list[list[float | None]]]:
    """Return the steps of both axes and the kernel-weighted mean (Nadaraya-Watson) of the values at each, by row.

    Args:
        points: x, y and value of each point, x and y in [0, 1].

    >>> steps, rows = surface([(0.0, 0.0, 2.0)])
    >>> rows[0][0], rows[-1][-1], len(rows) == len(steps)
    (2.0, None, True)
    """
    import numpy as np  # noqa: PLC0415  only a contour needs it

    steps = np.linspace(0.0, 1.0, STEPS)
    if not points:
        return steps.tolist(), [[None] * STEPS for _ in range(STEPS)]
    x, y, value = np.asarray(points, dtype=float).T
    squares = (steps[None, :, None] - x) ** 2 + (steps[:, None, None] - y) ** 2
    nearest = squares.min(axis=-1)
    weights = np.exp(-(squares - nearest[..., None]) / (2 * WIDTH**2))  # relative to the nearest: no underflow
    mean = (weights * value).sum(axis=-1) / weights.sum(axis=-1)
    return steps.tolist(), [
        [float(z) if near <= REACH**2 else None for z, near in zip(row, nears, strict=True)]
        for row, nears in zip(mean, nearest, strict=True)
    ]
