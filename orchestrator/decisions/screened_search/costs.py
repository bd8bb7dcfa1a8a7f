"""Costs of points, and the most that the next one may cost: a search for costly points spends more than was planned.

What wins under attack is what costs most: PGD of many steps. If a sweep's later points are all of that kind, comparing
them at the first rung takes the budget of all later rungs. So the mean cost of all points proposed is kept at that of
random points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from orchestrator.spec.trial_costs import mean_passes_of, passes_of_point

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.spec.model import Point, SweepSpec


@final
class PointCosts:
    """Passes of an epoch of the points that a sweep has proposed, and the most that the next one may have.

    >>> from orchestrator.spec.model import SweepSpec
    >>> from search_spaces import Choice, SearchSpace
    >>> trial = {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd"}
    >>> space = SearchSpace({"adversarial.steps": Choice([1, 3])})
    >>> costs = PointCosts(SweepSpec(name="a", trial=trial, space=space))
    >>> costs.affordable([{"adversarial.steps": 1}, {"adversarial.steps": 3}])
    [0]
    >>> costs.add({"adversarial.steps": 1})
    >>> costs.affordable([{"adversarial.steps": 1}, {"adversarial.steps": 3}])
    [0, 1]
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._proposed, self._count = 0, 0
        self._mean: float | None = None

    def add(self, point: Point) -> None:
        """Count a point that was proposed."""
        self._proposed += passes_of_point(self._spec, point)
        self._count += 1

    def affordable(self, points: Iterable[Point]) -> list[int]:
        """Return the indices of the points that the mean cost has room for; if it has for none, of the cheapest."""
        costs = [passes_of_point(self._spec, point) for point in points]
        self._mean = mean_passes_of(self._spec) if self._mean is None else self._mean
        room = self._mean * (self._count + 1) - self._proposed
        most = max(room, min(costs, default=0))
        return [index for index, cost in enumerate(costs) if cost <= most]
