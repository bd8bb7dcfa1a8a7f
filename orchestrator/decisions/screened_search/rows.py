"""Points as rows of numbers, for a model of a sweep: the same columns for each point of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from search_spaces import Choice, Fixed, SpaceError, ZeroOr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from search_spaces import Domain, SearchSpace

MIDDLE = 0.5
"""Quantile of a value that a point lacks: its parameter is off or inactive, or it is outside the space."""


@final
class Rows:
    """Columns of a space: the quantile of each range or ordered choice, one for each option, one for on and off.

    >>> from search_spaces import Float, SearchSpace
    >>> rows = Rows(SearchSpace({"lr": Float(0.0, 1.0), "mode": Choice(["a", "b", "c"]), "mixup": ZeroOr(Float(1, 2))}))
    >>> rows.of({"lr": 0.25, "mode": "b", "mixup": 0.0})
    [0.25, 0.0, 1.0, 0.0, 0.0, 0.5]
    """

    def __init__(self, space: SearchSpace) -> None:
        self._columns = [
            (name, *_columns(domain)) for name, domain in space.parameters.items() if not isinstance(domain, Fixed)
        ]

    def of(self, point: Mapping[str, Any]) -> list[float]:
        """Return the row of a point."""
        row: list[float] = []
        for name, missing, of in self._columns:
            try:
                row += missing if name not in point else of(point[name])
            except SpaceError:  # of a given point, which may be outside
                row += missing
        return row

    def of_all(self, points: Iterable[Mapping[str, Any]]) -> list[list[float]]:
        """Return the row of each point."""
        return [self.of(point) for point in points]


def _columns(domain: Domain) -> tuple[list[float], Callable[[Any], list[float]]]:
    """Return the columns of a missing value, and the function to those of a value."""
    if isinstance(domain, ZeroOr):
        missing, inner = _columns(domain.domain)
        return [0.0, *missing], lambda value: [1.0, *inner(value)] if value else [0.0, *missing]
    if isinstance(domain, Choice) and not domain.ordered:
        count = len(domain.options)
        return [0.0] * count, lambda value: _indicators(int(domain.to_unit(value) * count), count)
    return [MIDDLE], lambda value: [domain.to_unit(value)]


def _indicators(index: int, count: int) -> list[float]:
    return [float(at == index) for at in range(count)]
