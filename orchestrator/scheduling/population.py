"""Population based training (Jaderberg et al. 2017, arXiv 1711.09846): which member is over, and who continues it.

Members pause at each rung. A free worker takes a paused member of the lowest rung, the best of them first: so the
population stays together, and the worst are evaluated last, when most members have come. Only a member among the
worst of those that came so far is over; a copy of one of the best, with perturbed values, takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.trial_views import RungIndex

if TYPE_CHECKING:
    from orchestrator.scheduling.trial_views import TrialView, TrialViews
    from orchestrator.state.ranking import Ranking

INTERVALS = 9
"""Parts into which ``interval: auto`` cuts the epochs."""


def interval_of(interval: int | str, max_epochs: int) -> int:
    """Return the epochs between two rungs of a population.

    >>> interval_of("auto", 27), interval_of("auto", 5), interval_of(4, 27)
    (3, 1, 4)
    """
    return max(1, max_epochs // INTERVALS) if isinstance(interval, str) else interval


@dataclass(frozen=True)
class Pbt:
    """Population based training. An exempt trial, the baseline, runs to its end outside the population."""

    rungs: tuple[int, ...]
    quantile: float
    pauses: bool = True

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Pause a member at each rung."""
        if level not in self.rungs or views[trial].exempt:
            return None
        ranked = self._ranked(views, trial, level)
        places = self._num_worst(ranked)
        cutoff = ranked.values[ranked[len(ranked) - places - 1]] if places else None
        return RungDecision(level, kept=False, cutoff=cutoff, competitors=len(ranked))

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Return the best paused member of the lowest rung, once the whole population has started.

        It resumes, unless it is `worst`.
        """
        if unstarted:
            return None
        index = views.index(MemberIndex, self.rungs)
        groups = (group for rung in self.rungs for group in index.paused_at(rung))
        return next((group.ranked.best_of(group.paused) for group in groups), None)

    def parents(self, views: TrialViews, trial: str) -> tuple[str, ...]:
        """Return the best members at the rung of a paused one, best first, if it is among the worst; else none."""
        ranked = self._ranked(views, trial, views[trial].level)
        places = self._num_worst(ranked)
        if ranked.place(trial) < len(ranked) - places:
            return ()
        return tuple(ranked[place] for place in range(min(places, ranked.num_finite)))

    def _num_worst(self, ranked: Ranking) -> int:
        """Return how many of the members that came so far are the worst, and how many the best: less than half."""
        return min(int(len(ranked) * self.quantile), (len(ranked) - 1) // 2)

    def _ranked(self, views: TrialViews, trial: str, level: int) -> Ranking:
        """Return what all members measured at a rung; the baseline is none of them."""
        return views.index(MemberIndex, self.rungs).at(level, views[trial].group).ranked


class MemberIndex(RungIndex):
    """Members at each rung: all trials but the exempt one."""

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:
        """Replace what a view contributed."""
        if not new.exempt:
            super().replace(number, old, new)
