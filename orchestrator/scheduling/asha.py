"""Asynchronous successive halving, stopping rule (Li et al. 2020, arXiv 1810.05934, algorithm 2 without promotion).

A trial that reaches a rung goes on if it is among the best 1/eta of all trials that reached that rung so far, itself
included. Values that are not finite rank last. Pure functions of what the event log holds: a resumed sweep decides
exactly as an uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Decision:
    """What a rung said: ``cutoff`` is the value of the last place that goes on, ``competitors`` counts the trials."""

    kept: bool
    cutoff: float | None
    competitors: int


def rungs(grace_period: int, reduction_factor: int, max_epochs: int) -> tuple[int, ...]:
    """The epochs at which trials are compared: integers below ``max_epochs``, exact where logarithms round.

    Example:
        >>> rungs(3, 3, 27), rungs(1, 3, 243)
        ((3, 9), (1, 3, 9, 27, 81))
    """
    found = []
    rung = grace_period
    while rung < max_epochs:
        found.append(rung)
        rung *= reduction_factor
    return tuple(found)


def decide(values: Mapping[str, float | None], trial: str, *, reduction_factor: int, mode: str) -> Decision:
    """Whether ``trial`` goes on, given what every trial measured at this rung (null: not finite).

    The best ``max(1, n // reduction_factor)`` of ``n`` go on, and all that tie with the last of them. The first trial
    at a rung goes on; a trial whose value is not finite never does.

    Example:
        >>> decide({"a": 0.9, "b": 0.5, "c": 0.7}, "c", reduction_factor=3, mode="max")
        Decision(kept=False, cutoff=0.9, competitors=3)
    """
    ranked = sorted((_rank(value, mode) for value in values.values()), reverse=True)
    last_kept = ranked[max(1, len(ranked) // reduction_factor) - 1]
    own = _rank(values[trial], mode)
    cutoff = None if last_kept == -math.inf else (last_kept if mode == "max" else -last_kept)
    return Decision(kept=own > -math.inf and own >= last_kept, cutoff=cutoff, competitors=len(ranked))


def _rank(value: float | None, mode: str) -> float:
    """Higher is better whatever the mode; not finite is worst."""
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if mode == "max" else -value
