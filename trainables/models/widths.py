"""How a width multiplies the units or channels of a layer."""

__all__ = ["scaled"]


def scaled(count: int, width: float) -> int:
    """The nearest whole number of units, and never none.

    >>> scaled(64, 0.5), scaled(16, 0.01)
    (32, 1)
    """
    return max(1, round(count * width))
