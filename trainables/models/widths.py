"""Scaling of the units or channels of a layer by a width."""

__all__ = ["scaled"]


def scaled(count: int, width: float) -> int:
    """Return the nearest whole number of units, at least 1.

    >>> scaled(64, 0.5), scaled(16, 0.01)
    (32, 1)
    """
    return max(1, round(count * width))
