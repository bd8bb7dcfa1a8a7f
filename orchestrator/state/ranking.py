"""Who is better: one order for every rule, total and the same on every machine.

With one objective the order is that of its values. With several it is that of NSGA-II (Deb et al. 2002): by
non-dominated front, then by crowding distance, so that the ends and the gaps of a front outlive its middle. Ties are
broken by trial id, and what is not finite comes last.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Measured: TypeAlias = tuple[float, ...]
"""One value for each objective, turned so that higher is better; -inf stands for what is not finite."""


def measured(values: Sequence[float | None], modes: Sequence[str]) -> Measured:
    """Values as they are ranked.

    >>> measured([0.9, 0.1], ["max", "min"]), measured([float("inf")], ["max"])
    ((0.9, -0.1), (-inf,))
    """
    return tuple(_turned(value, mode) for value, mode in zip(values, modes, strict=True))


def is_finite(value: Measured) -> bool:
    """Whether every objective has a value: a trial for which one has not is ended as diverged."""
    return all(math.isfinite(each) for each in value)


def order(values: Mapping[str, Measured]) -> list[str]:
    """Trials, best first.

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
    """Trials front by front, and within a front by the first objective: as a leaderboard has them.

    >>> for_people({"a": (0.2, 1.0), "b": (0.9, 0.0), "c": (0.8, 0.0)})
    ['b', 'a', 'c']
    """
    if all(len(value) == 1 for value in values.values()):
        return order(values)
    return [trial for front in fronts(values) for trial in sorted(front, key=lambda name: (-values[name][0], name))]


def fronts(values: Mapping[str, Measured]) -> list[list[str]]:
    """The non-dominated front, the one behind it, and so on; what is not finite lies behind all others.

    >>> fronts({"a": (1.0, 0.0), "b": (0.0, 1.0), "c": (0.0, 0.5)})
    [['a', 'b'], ['c']]
    """
    # Whoever dominates a trial comes before it in this order, so one pass puts each into its front.
    found: list[list[str]] = []
    for trial in sorted(
        (name for name in values if is_finite(values[name])), key=lambda name: (_worst(values[name]), name)
    ):
        dominated = (any(_dominates(values[other], values[trial]) for other in front) for front in found)
        place = next((at for at, is_dominated in enumerate(dominated) if not is_dominated), len(found))
        if place == len(found):
            found.append([])
        found[place].append(trial)
    behind = [trial for trial, value in values.items() if not is_finite(value)]
    return [*found, behind] if behind else found


def _worst(value: Measured) -> Measured:
    """A key that sorts the best first."""
    return tuple(-each for each in value)


def _dominates(one: Measured, other: Measured) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _crowding(front: Sequence[str], values: Mapping[str, Measured]) -> dict[str, float]:
    """How far apart each trial's neighbours in the front are, summed over objectives scaled to the front's width."""
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


def _turned(value: float | None, mode: str) -> float:
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if mode == "max" else -value
