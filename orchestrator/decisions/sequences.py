"""Points that follow each other in a fixed order: a grid, and a low-discrepancy sequence.

Both return the point of an index. They keep their place, so that the next index costs one step; an index below the
last one starts over.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from orchestrator.spec.model import Point
    from search_spaces import SearchSpace

MOST_TRIED = 100
"""Points of a sequence that are tried for each one that satisfies the constraints."""


@final
class GridPoints:
    """Points of a grid over the space: ``resolution`` values of each range, every option of each choice.

    >>> from search_spaces import Choice, SearchSpace
    >>> grid = GridPoints(SearchSpace({"a": Choice([1, 2]), "b": Choice([3, 4])}), resolution=3)
    >>> grid.point(2), grid.point(0)
    ({'a': 2, 'b': 3}, {'a': 1, 'b': 3})
    """

    def __init__(self, space: SearchSpace, resolution: int) -> None:
        self._grid = space.grid(resolution)
        self._next, self._points = 0, iter(self._grid)

    def point(self, index: int) -> Point:
        """Return the ``index``-th point, counted from 0.

        Raises:
            IndexError: the grid has no more points.
        """
        if index < self._next:
            self._next, self._points = 0, iter(self._grid)
        skipped, self._next = index - self._next, index + 1
        for point in islice(self._points, skipped, None):
            return point
        raise IndexError(f"the grid has no point {index}")


@final
class SobolPoints:
    """Points of a scrambled Sobol sequence (Owen 1998) over the space, one coordinate for each parameter.

    Points that break a constraint are skipped, so that the point of an index depends on the space and the seed alone.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space, self._seed = space, seed
        self._sequence: Any = None
        self._asked, self._tried, self._accepted = -1, 0, 0

    def point(self, index: int) -> Point:
        """Return the ``index``-th point, counted from 0; one sampled from the space where too many were skipped.

        Raises:
            InfeasibleError: no point satisfies the constraints, of all that were tried.
        """
        if index <= self._asked or self._sequence is None:
            self._start()
        self._asked = index
        if not self._space.constraints:
            self._skip(index - self._tried)
        while self._tried < (index + 1) * MOST_TRIED:
            point = self._next()
            self._accepted += point is not None
            if point is not None and self._accepted == index + 1:
                return point
        return self._space.sample(self._seed)

    def _start(self) -> None:
        from scipy.stats import qmc  # type: ignore[import-untyped]  # noqa: PLC0415  for this sampler alone

        self._sequence = qmc.Sobol(len(self._space.names), scramble=True, rng=self._seed)
        self._asked, self._tried, self._accepted = -1, 0, 0

    def _skip(self, count: int) -> None:
        if count:
            self._sequence.fast_forward(count)
            self._tried += count
            self._accepted += count

    def _next(self) -> Point | None:
        """Return the next point of the sequence, or None if it breaks a constraint."""
        self._tried += 1
        point: Point = {}
        for name, unit in zip(self._space.names, self._sequence.random(1)[0], strict=True):
            condition = self._space.when.get(name)
            if condition is None or condition.holds(point):
                point[name] = self._space.parameters[name].from_unit(float(unit))
        return point if all(constraint.holds(point) for constraint in self._space.constraints) else None
