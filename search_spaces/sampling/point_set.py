"""Points of a space: which it contains, how they are completed, drawn, enumerated and counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING

from search_spaces.conditions.definition import active_names
from search_spaces.sampling import counting, enumeration, perturbation, random_sampling
from search_spaces.sampling.points import completed, point_problems

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from search_spaces.conditions.condition import Condition
    from search_spaces.conditions.constraints import Constraint
    from search_spaces.domains.types import Domain, Scalar
    from search_spaces.sampling.feasibility import Feasibility
    from search_spaces.sampling.points import Point


class PointSet(ABC):
    """A space as the set of its points, which follows from its parameters, conditions and constraints.

    `SearchSpace` adds the algebra of spaces and their written forms.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, Domain]:
        """Domain of each parameter, parents before children (read-only)."""

    @property
    @abstractmethod
    def when(self) -> Mapping[str, Condition]:
        """Condition of each conditional parameter (read-only)."""

    @property
    @abstractmethod
    def constraints(self) -> tuple[Constraint, ...]:
        """Constraints between the values of a point, in the order of the arguments."""

    def contains(self, point: Mapping[str, object]) -> bool:
        """Return True if the point has a valid value for every active parameter, and for no other."""
        return not self.problems(point)

    def problems(self, point: Mapping[str, object]) -> list[str]:
        """Return a message for each problem of the point; an empty list if the space contains it.

        >>> from search_spaces import catalog
        >>> catalog.mixup().problems({"mixup.alpha": 0.0, "mixup.layer": "input"})
        ["mixup.layer: unknown parameter; did you mean 'mixup.layers'?"]
        """
        return [str(problem) for problem in point_problems(self, point)]

    def active(self, values: Mapping[str, Scalar]) -> frozenset[str]:
        """Return the names of the parameters that exist, given the values of their parents.

        >>> from search_spaces import catalog
        >>> sorted(catalog.mixup().active({"mixup.alpha": 0.0}))
        ['mixup.alpha']
        """
        return active_names(self, values)

    def complete(self, values: Mapping[str, Scalar], defaults: Mapping[str, object] = MappingProxyType({})) -> Point:
        """Return a whole point from some of its values; an active parameter without one takes its default.

        A parameter whose domain does not contain its default takes the middle of the domain. Values of inactive
        parameters are left out.

        >>> from search_spaces import catalog
        >>> catalog.optimizer().complete({"optimizer.name": "adamw"}, {"optimizer.lr": 1e-3})["optimizer.lr"]
        0.001
        """
        return completed(self, values, defaults)

    def sample(self, seed: int = 0) -> Point:
        """Draw one point; see `sample_many`."""
        return self.sample_many(1, seed)[0]

    def sample_many(self, n: int, seed: int = 0) -> list[Point]:
        """Draw n points. Each parameter has its own random stream: adding one changes no draw of another.

        >>> from search_spaces import Float, SearchSpace
        >>> space = SearchSpace({"lr": Float(1e-4, 1.0, log=True)})
        >>> space.sample_many(2, seed=0)[0] == space.sample(seed=0)
        True
        """
        return random_sampling.sample_many(self, n, seed=seed)

    def perturb(
        self, point: Mapping[str, Scalar], names: Collection[str], *, resample: float = 0.25, seed: int = 0
    ) -> perturbation.Perturbed:
        """Return a point near another one, and how each changed value came about: population based training's step.

        Of the named parameters a number is multiplied by 0.8 or 1.25 within its range, and an option moves to a
        neighbour; with probability `resample` the value is sampled.

        >>> from search_spaces import Float, SearchSpace
        >>> SearchSpace({"lr": Float(0.01, 1.0, log=True)}).perturb({"lr": 0.1}, ["lr"], resample=0.0).changes
        {'lr': 'x 1.25'}
        """
        return perturbation.perturbed(self, point, names, resample=resample, seed=seed)

    def feasibility(self, n: int = 10_000, seed: int = 0) -> Feasibility:
        """Return the rejection statistics of n draws: the number accepted, and refused by each constraint.

        >>> from search_spaces import Float, SearchSpace
        >>> space = SearchSpace({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, constraints=["a <= b"])
        >>> print(space.feasibility(1000))
        500 of 1,000 draws (50 %) satisfy the constraints; refused by 'a <= b': 500
        """
        return random_sampling.feasibility(self, n, seed=seed)

    def grid(self, resolution: int = 3) -> enumeration.Grid:
        """Return every combination of `resolution` quantiles for each range and of all options, lazily.

        >>> from search_spaces import Choice, Float, SearchSpace
        >>> list(SearchSpace({"lr": Float(0.0, 1.0), "n": Choice([1])}).grid(resolution=2))
        [{'lr': 0.0, 'n': 1}, {'lr': 1.0, 'n': 1}]
        """
        return enumeration.Grid(self, resolution)

    def corners(self) -> list[Point]:
        """Return the extreme points of every combination of active parameters.

        For each: all low, all high, and from all low each parameter alone at its other extremes. With constraints,
        each parameter is also moved alone from all high. Points that break a constraint are left out.

        >>> from search_spaces import Float, SearchSpace
        >>> SearchSpace({"a": Float(0.0, 1.0), "b": Float(2.0, 3.0)}).corners()[:2]
        [{'a': 0.0, 'b': 2.0}, {'a': 1.0, 'b': 3.0}]
        """
        return enumeration.corners(self)

    def size(self) -> float:
        """Return the number of points, `math.inf` where a continuous parameter can be active.

        Only constraints on parameters with finitely many values are counted.

        Raises:
            SpaceError: the parameters of a constraint have too many combinations to try one by one.

        >>> from search_spaces import Choice, Int, SearchSpace
        >>> SearchSpace({"a": Int(1, 3), "b": Choice([True, False])}).size()
        6
        """
        return counting.size(self)
