"""Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): stopping and promotion as pure functions.

Both ask which are the best 1/eta of the trials that reached a rung so far. Stopping asks once, when a trial arrives:
the first arrivals face few competitors and continue. Promotion (algorithm 2 of the paper) pauses every trial at the
rung and asks each time a worker is free, so that no trial profits from having come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.trial_views import RungIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.scheduling.trial_views import TrialView, TrialViews
    from orchestrator.state.ranking import Ranking


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of a trial at a rung: ``rival`` is the trial in the last place kept, ``competitors`` counts all trials."""

    kept: bool
    rival: str | None
    competitors: int


def placement(ranking: Ranking, trial: str, *, reduction_factor: float, at_least: int = 1) -> Placement:
    """Return the place of ``trial`` among all trials that measured this rung, itself included.

    The best ``n // reduction_factor`` of ``n`` are kept, and ``at_least`` so many: with 1, as ASHA that stops requires,
    the first at a rung is kept; with 0 none is before ``reduction_factor`` trials have come. A trial whose value is not
    finite is never kept.

    >>> from orchestrator.state.ranking import Ranking
    >>> placement(Ranking({"a": (0.9,), "b": (0.5,), "c": (0.7,)}), "c", reduction_factor=3)
    Placement(kept=False, rival='a', competitors=3)
    """
    places = _places(ranking, reduction_factor, at_least)
    rival = ranking[places - 1] if places else None
    return Placement(kept=ranking.place(trial) < places, rival=rival, competitors=len(ranking))


def promotable(ranking: Ranking, paused: Ranking, *, reduction_factor: float, at_least: int = 0) -> str | None:
    """Return the best paused trial among the best 1/eta of a rung; None where those have all been promoted.

    >>> from orchestrator.state.ranking import Ranking
    >>> values = {"a": (0.9,), "b": (0.5,), "c": (0.7,)}
    >>> promotable(Ranking(values), Ranking({"a": (0.9,), "b": (0.5,)}), reduction_factor=3)
    'a'
    """
    best = ranking.best_of(paused)
    return best if best is not None and ranking.place(best) < _places(ranking, reduction_factor, at_least) else None


def _places(ranking: Ranking, reduction_factor: float, at_least: int) -> int:
    """Return how many of the best are kept; values that are not finite come last and take no place."""
    return min(max(at_least, int(len(ranking) // reduction_factor)), ranking.num_finite)


@dataclass(frozen=True)
class NoStopping:
    """Scheduler that stops no trial."""

    pauses: bool = False
    rungs: tuple[int, ...] | None = ()

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:  # noqa: ARG002  the protocol's
        """Decide nothing."""
        return None

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:  # noqa: ARG002
        """Promote none: no trial is ever paused."""
        return None

    def rival(self, views: TrialViews, view: TrialView, level: int) -> str | None:  # noqa: ARG002
        """Return none: there is no rung."""
        return None


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: ``brackets`` holds the rungs of each, ``pauses`` chooses promotion.

    An exempt trial is compared like any other, and is kept whatever its place.
    """

    brackets: tuple[tuple[int, ...], ...]
    reduction_factor: float
    pauses: bool = False

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """Rungs of all brackets."""
        return tuple(sorted({rung for bracket in self.brackets for rung in bracket}))

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Keep a trial at a rung of its bracket if it is among the best 1/eta of those that came so far."""
        view = views[trial]
        if level not in self.brackets[view.bracket]:
            return None
        ranking = views.index(RungIndex, self.rungs).at(level, view.group).ranked
        place = placement(ranking, trial, reduction_factor=self.reduction_factor, at_least=0 if self.pauses else 1)
        cutoff = None if place.rival is None else ranking.values[place.rival]
        return RungDecision(level, place.kept or view.exempt, cutoff, place.competitors)

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Promote, from the highest rung that has one, the best paused trial among the best 1/eta.

        When nothing else is left to do, the first at a rung with fewer than eta trials is promoted as well, and if all
        promoted trials were lost before their end, the best that is still paused.
        """
        index = views.index(RungIndex, self.rungs)
        trial = best_paused(index, self.rungs, self.reduction_factor)
        if trial is not None or unstarted or not views.is_quiet:
            return trial
        trial = best_paused(index, self.rungs, self.reduction_factor, at_least=1)
        return trial if trial is not None or views.any_completed else first_paused(index, self.rungs)

    def rival(self, views: TrialViews, view: TrialView, level: int) -> str | None:
        """Return the trial in the last of the best 1/eta at a rung; none before eta trials have come."""
        ranking = views.index(RungIndex, self.rungs).at(level, view.group).ranked
        kept = _places(ranking, self.reduction_factor, 0)
        return ranking[kept - 1] if kept else None


def best_paused(index: RungIndex, rungs: Sequence[int], reduction_factor: float, *, at_least: int = 0) -> str | None:
    """Return the best promotable trial of the highest of these rungs that has one."""
    for rung in reversed(rungs):
        for group in index.paused_at(rung):
            trial = promotable(group.ranked, group.paused, reduction_factor=reduction_factor, at_least=at_least)
            if trial is not None:
                return trial
    return None


def first_paused(index: RungIndex, rungs: Sequence[int]) -> str | None:
    """Return the best paused trial of the highest of these rungs that has one, promotable or not."""
    groups = (group for rung in reversed(rungs) for group in index.paused_at(rung))
    return next((group.ranked.best_of(group.paused) for group in groups), None)
