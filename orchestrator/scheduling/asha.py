"""Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): stopping and promotion as pure functions.

Both ask who is among the best 1/eta of the trials that reached a rung so far. Stopping asks once, when a trial arrives:
those who came first face few competitors and go on. Promotion (algorithm 2 of the paper) pauses every trial at the rung
and asks again whenever a worker is free, so that nobody profits from having come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.scheduling.protocol import RungDecision
from orchestrator.state.ranking import is_finite, order

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from orchestrator.scheduling.protocol import TrialViews
    from orchestrator.state.ranking import Measured


@dataclass(frozen=True, slots=True)
class Placement:
    """What a rung said: ``rival`` is the trial in the last place that goes on, ``competitors`` counts the trials."""

    kept: bool
    rival: str | None
    competitors: int


def decide(values: Mapping[str, Measured], trial: str, *, reduction_factor: float, at_least: int = 1) -> Placement:
    """Whether ``trial`` goes on at once, given what every trial measured at this rung, itself included.

    The best ``n // reduction_factor`` of ``n`` go on, and ``at_least`` so many: with 1, as ASHA that stops wants it,
    the first at a rung goes on; with 0 nobody is promoted before ``reduction_factor`` trials are there. A trial whose
    value is not finite never goes on.

    >>> decide({"a": (0.9,), "b": (0.5,), "c": (0.7,)}, "c", reduction_factor=3)
    Placement(kept=False, rival='a', competitors=3)
    """
    ranked = order(values)
    places = max(at_least, int(len(ranked) // reduction_factor))
    rival = next((each for each in reversed(ranked[:places]) if is_finite(values[each])), None)
    kept = trial in ranked[:places] and is_finite(values[trial])
    return Placement(kept=kept, rival=rival, competitors=len(ranked))


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


@dataclass(frozen=True)
class NoStopping:
    """Nobody is stopped."""

    pauses: bool = False
    rungs: tuple[int, ...] | None = ()

    def judge(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:  # noqa: ARG002  the protocol's
        """Nothing to decide."""
        return None

    def resume(self, views: TrialViews, *, unstarted: int) -> str | None:  # noqa: ARG002
        """Nobody waits."""
        return None


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: ``brackets`` holds the rungs of each, ``pauses`` chooses promotion.

    An exempt trial is compared like any other, and goes on whatever its place.
    """

    brackets: tuple[tuple[int, ...], ...]
    reduction_factor: float
    pauses: bool = False

    @property
    def rungs(self) -> tuple[int, ...]:
        """Those of all brackets."""
        return tuple(sorted({rung for bracket in self.brackets for rung in bracket}))

    def judge(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """At a rung of its bracket: among the best 1/eta of those who came so far, or not."""
        view = views.views[trial]
        if level not in self.brackets[view.bracket]:
            return None
        values = views.at(level, view.group)
        decision = decide(values, trial, reduction_factor=self.reduction_factor, at_least=0 if self.pauses else 1)
        cutoff = None if decision.rival is None else values[decision.rival]
        return RungDecision(level, decision.kept or view.exempt, cutoff, decision.competitors)

    def resume(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Of the highest rung, the best that waits among the best 1/eta.

        When nothing else is left to do, the first at a rung with fewer than eta trials goes on as well, and if all who
        went on were lost before their end, the best that still waits.
        """
        found = best_waiting(views, self.rungs, self.reduction_factor)
        if found is not None or unstarted or not views.is_quiet():
            return found
        found = best_waiting(views, self.rungs, self.reduction_factor, at_least=1)
        return found if found is not None or views.somebody_completed() else first_waiting(views, self.rungs)


def best_waiting(views: TrialViews, rungs: Sequence[int], reduction_factor: float, *, at_least: int = 0) -> str | None:
    """The best promotable trial of the highest of these rungs that has one."""
    for rung in reversed(rungs):
        for group, waiting in waiting_at(views, rung).items():
            values = views.at(rung, group)
            found = promotable(values, waiting, reduction_factor=reduction_factor, at_least=at_least)
            if found is not None:
                return found
    return None


def first_waiting(views: TrialViews, rungs: Sequence[int]) -> str | None:
    """The best trial that waits at the highest of these rungs where one does, promotable or not."""
    for rung in reversed(rungs):
        for group, waiting in waiting_at(views, rung).items():
            return next(trial for trial in order(views.at(rung, group)) if trial in waiting)
    return None


def waiting_at(views: TrialViews, rung: int) -> dict[Hashable, set[str]]:
    """Who waits at a rung, by group, in the order the groups came up."""
    groups: dict[Hashable, set[str]] = {}
    for each in views.paused():
        if each.level == rung:
            groups.setdefault(each.group, set()).add(each.trial)
    return groups
