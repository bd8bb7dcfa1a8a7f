"""Encode points of a space as rows of numbers for a regression: one row a point, the same columns for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search_spaces import Choice, Fixed, SpaceError, ZeroOr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from search_spaces import SearchSpace

OFF = -1.0
"""Column of a parameter that is inactive or off, below all of its values, which are in [0, 1]."""


class Encoding:
    """Columns of a space.

    A range is one column by its quantile, a choice of unordered options one column for each of them. A parameter that
    is inactive, or off, is ``OFF``.

    >>> from search_spaces import Float, SearchSpace
    >>> space = SearchSpace({"lr": Float(0.0, 1.0), "mode": Choice(["a", "b", "c"]), "mixup": ZeroOr(Float(0.1, 1.0))})
    >>> Encoding(space).row({"lr": 0.25, "mode": "b", "mixup": 0.0})
    [0.25, 0.0, 1.0, 0.0, -1.0]
    """

    def __init__(self, space: SearchSpace) -> None:
        self._columns = [
            (name, *_column(domain)) for name, domain in space.parameters.items() if not isinstance(domain, Fixed)
        ]

    def row(self, point: Mapping[str, Any]) -> list[float]:
        """Return the row of a point; a value outside its domain (in a baseline whose methods are off) is ``OFF``."""
        row: list[float] = []
        for name, width, of in self._columns:
            value = point.get(name)
            try:
                row += [OFF] * width if value is None else of(value)
            except SpaceError:
                row += [OFF] * width
        return row


def _column(domain: Any) -> tuple[int, Callable[[Any], list[float]]]:
    if isinstance(domain, ZeroOr):
        inner, of = _column(domain.domain)
        return inner, lambda value: of(value) if value else [OFF] * inner
    if isinstance(domain, Choice):
        options, last = domain.options, max(1, len(domain.options) - 1)
        if domain.ordered or len(options) <= 2:
            places = {(type(option), option): index / last for index, option in enumerate(options)}  # True is not 1
            return 1, lambda value: [places.get((type(value), value), OFF)]
        return len(options), lambda value: [float(value == option) for option in options]
    return 1, lambda value: [domain.to_unit(value)]
