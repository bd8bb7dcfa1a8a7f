"""Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): stopping and promotion as pure functions.

Both ask who is among the best 1/eta of the trials that reached a rung so far. Stopping asks once, when a trial arrives:
those who came first face few competitors and go on. Promotion (algorithm 2 of the paper) pauses every trial at the rung
and asks again whenever a worker is free, so that nobody profits from having come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.state.ranking import is_finite, order

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from orchestrator.state.ranking import Measured


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rung said: ``rival`` is the trial in the last place that goes on, ``competitors`` counts the trials."""

    kept: bool
    rival: str | None
    competitors: int


def decide(values: Mapping[str, Measured], trial: str, *, reduction_factor: float, at_least: int = 1) -> Decision:
    """Whether ``trial`` goes on at once, given what every trial measured at this rung, itself included.

    The best ``n // reduction_factor`` of ``n`` go on, and ``at_least`` so many: with 1, as ASHA that stops wants it,
    the first at a rung goes on; with 0 nobody is promoted before ``reduction_factor`` trials are there. A trial whose
    value is not finite never goes on.

    >>> decide({"a": (0.9,), "b": (0.5,), "c": (0.7,)}, "c", reduction_factor=3)
    Decision(kept=False, rival='a', competitors=3)
    """
    ranked = order(values)
    places = max(at_least, int(len(ranked) // reduction_factor))
    rival = next((each for each in reversed(ranked[:places]) if is_finite(values[each])), None)
    kept = trial in ranked[:places] and is_finite(values[trial])
    return Decision(kept=kept, rival=rival, competitors=len(ranked))


def promotable(
    values: Mapping[str, Measured], paused: Collection[str], *, reduction_factor: float, at_least: int = 0
) -> str | None:
    """The best paused trial among the best 1/eta of a rung; None where those have all been promoted.

    >>> promotable({"a": (0.9,), "b": (0.5,), "c": (0.7,)}, {"b", "a"}, reduction_factor=3)
    'a'
    """
    ranked = order(values)
    best = ranked[: max(at_least, int(len(ranked) // reduction_factor))]
    return next((trial for trial in best if trial in paused and is_finite(values[trial])), None)
