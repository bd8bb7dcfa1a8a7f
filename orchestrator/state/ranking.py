"""Ranking of trials: one total order for every scheduler, the same on every machine.

With one objective the order is that of its values. With several it is that of NSGA-II (Deb et al. 2002): by
non-dominated front, then by crowding distance, so that the ends and the gaps of a front outlive its middle. Ties are
broken by trial id, and values that are not finite come last.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Measured: TypeAlias = tuple[float, ...]
"""One value for each objective, signed so that higher is better; -inf stands for a value that is not finite."""


def measured(values: Sequence[float | None], modes: Sequence[str]) -> Measured:
    """Return values as they are ranked.

    >>> measured([0.9, 0.1], ["max", "min"]), measured([float("inf")], ["max"])
    ((0.9, -0.1), (-inf,))
    """
    return tuple(_signed(value, mode) for value, mode in zip(values, modes, strict=True))


def is_finite(value: Measured) -> bool:
    """Return True if every objective has a value; a trial that lacks one ends as diverged."""
    return all(map(math.isfinite, value))


def order(values: Mapping[str, Measured]) -> list[str]:
    """Return the trials, best first.

    >>> order({"b": (0.5,), "a": (0.5,), "c": (0.9,), "d": (-math.inf,)})
    ['c', 'a', 'b', 'd']
    >>> order({"a": (1.0, 0.0), "b": (0.6, 0.6), "c": (0.0, 1.0), "d": (0.5, 0.5)})
    ['a', 'c', 'b', 'd']
    """
    if all(len(value) == 1 for value in values.values()):
        return sorted(values, key=lambda trial: (-values[trial][0], trial))
    ranked: list[str] = []
    for front in fronts(values):
        crowding = _crowding(front, values)
        ranked += sorted(front, key=lambda trial: (-crowding[trial], trial))
    return ranked


def for_people(values: Mapping[str, Measured]) -> list[str]:
    """Return the trials front by front, and within a front by the first objective, as a leaderboard shows them.

    >>> for_people({"a": (0.2, 1.0), "b": (0.9, 0.0), "c": (0.8, 0.0)})
    ['b', 'a', 'c']
    """
    if all(len(value) == 1 for value in values.values()):
        return order(values)
    return [trial for front in fronts(values) for trial in sorted(front, key=lambda name: (-values[name][0], name))]


def fronts(values: Mapping[str, Measured]) -> list[list[str]]:
    """Return the non-dominated front, the next front, and so on; values that are not finite form the last one.

    >>> fronts({"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.0, 0.5)})
    [['a', 'b'], ['c']]
    """
    # In this order a trial follows all that dominate it, so one pass puts each into its front.
    ranked: list[list[str]] = []
    finite = (trial for trial in values if is_finite(values[trial]))
    for trial in sorted(finite, key=lambda name: (_worst(values[name]), name)):
        place = _front_of(values[trial], ranked, values)
        if place == len(ranked):
            ranked.append([])
        ranked[place].append(trial)
    last = [trial for trial, value in values.items() if not is_finite(value)]
    return [*ranked, last] if last else ranked


class Ranking:
    """Trials in the order of ``order``, kept while values are added and discarded.

    With one objective each method costs O(log n) comparisons. With several, a single value may reorder all trials: the
    order is computed the next time it is read after a change.

    >>> ranking = Ranking({"a": (0.5,), "b": (0.9,)})
    >>> ranking.add("c", (0.7,))
    >>> list(ranking), ranking.place("c")
    (['b', 'c', 'a'], 1)
    """

    def __init__(self, values: Mapping[str, Measured] | None = None) -> None:
        self.values: dict[str, Measured] = {}
        self.num_finite = 0
        self.is_linear = True
        self._keys: list[tuple[float, str]] = []
        self._places: dict[str, int] | None = None
        for trial, value in (values or {}).items():
            self.add(trial, value)

    def add(self, trial: str, value: Measured) -> None:
        """Add a trial that is not ranked yet."""
        self.values[trial] = value
        self.num_finite += is_finite(value)
        self.is_linear = len(value) == 1
        if self.is_linear:
            insort(self._keys, _key(trial, value))
        self._places = None

    def discard(self, trial: str) -> None:
        """Discard a trial that is ranked."""
        value = self.values.pop(trial)
        self.num_finite -= is_finite(value)
        if self.is_linear:
            del self._keys[bisect_left(self._keys, _key(trial, value))]
        self._places = None

    def place(self, trial: str) -> int:
        """Return the place of a ranked trial; the best has place 0."""
        if self.is_linear:
            return bisect_left(self._keys, _key(trial, self.values[trial]))
        return self._ordered()[trial]

    def best_of(self, some: Ranking) -> str | None:
        """Return the best trial of this ranking that is in ``some``, a part of it; None if that is empty."""
        if self.is_linear:
            return some[0] if some else None
        return next((trial for trial in self if trial in some), None)

    def __getitem__(self, place: int) -> str:
        """Return the trial at a place."""
        return self._keys[place][1] if self.is_linear else list(self._ordered())[place]

    def __contains__(self, trial: object) -> bool:
        """Return True if the trial is ranked."""
        return trial in self.values

    def __iter__(self) -> Iterator[str]:
        """Iterate over the trials, best first."""
        return (trial for _, trial in self._keys) if self.is_linear else iter(self._ordered())

    def __len__(self) -> int:
        """Return the number of trials."""
        return len(self.values)

    def _ordered(self) -> dict[str, int]:
        if self._places is None:
            self._places = {trial: place for place, trial in enumerate(order(self.values))}
        return self._places


def _key(trial: str, value: Measured) -> tuple[float, str]:
    return (-value[0] if math.isfinite(value[0]) else math.inf), trial


def _worst(value: Measured) -> Measured:
    """Return a key that sorts the best first."""
    return tuple(-number for number in value)


def _dominates(one: Measured, other: Measured) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _front_of(value: Measured, ranked: Sequence[Sequence[str]], values: Mapping[str, Measured]) -> int:
    """Return the first front that does not dominate a value, by bisection: each front dominates the next one."""
    return bisect_left(ranked, True, key=lambda front: not _is_dominated(value, front, values))


def _is_dominated(value: Measured, front: Sequence[str], values: Mapping[str, Measured]) -> bool:
    """Return True if a trial of a front dominates a value that follows all of its trials in the order of ``fronts``.

    With two objectives the last of them has the highest second value, so it dominates whatever another one does.
    """
    rivals = front[-1:] if len(value) == 2 else reversed(front)
    return any(_dominates(values[rival], value) for rival in rivals)


def _crowding(front: Sequence[str], values: Mapping[str, Measured]) -> dict[str, float]:
    """Return the distance of each trial's neighbours, summed over objectives scaled to the width of the front."""
    distance = dict.fromkeys(front, 0.0)
    for objective in range(len(values[front[0]])):
        along = sorted(front, key=lambda trial: (values[trial][objective], trial))
        first, last = values[along[0]][objective], values[along[-1]][objective]
        distance[along[0]] = distance[along[-1]] = math.inf
        if not (math.isfinite(first) and last / 2 > first / 2):
            continue
        for before, trial, after in zip(along, along[1:], along[2:], strict=False):
            # Halved, as the difference of two floats may overflow where the floats do not.
            distance[trial] += (values[after][objective] / 2 - values[before][objective] / 2) / (last / 2 - first / 2)
    return distance


def _signed(value: float | None, mode: str) -> float:
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if mode == "max" else -value
