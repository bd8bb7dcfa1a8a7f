"""Protocol of a scheduler: a function of trial views alone, and the decision it returns.

A level is an amount of the resource (epochs, unless the spec says otherwise). A scheduler knows neither Ray nor the
event log: ``decisions.trial_views`` makes the views from the sweep state, ``simulator`` from recorded curves, and a
scheduler cannot tell the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from orchestrator.scheduling.rung_decision import RungDecision
    from orchestrator.scheduling.trial_views import TrialView, TrialViews


class Scheduler(Protocol):
    """Scheduler: a function of trial views alone, so that a resumed or replayed sweep decides as the first one did."""

    @property
    def pauses(self) -> bool:
        """Return True if a rejected trial is paused at its rung, so that it may resume later; else it is over."""

    @property
    def rungs(self) -> tuple[int, ...] | None:
        """Levels at which it may decide; None for all."""

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Decide about a trial that has just measured a level; None if nothing is decided."""

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Choose the paused trial to promote when a worker is free; ``unstarted`` new trials may yet be started."""


@runtime_checkable
class RacingScheduler(Scheduler, Protocol):
    """Scheduler of configurations with several seeds: it also names the one that a further configuration must reach."""

    def rival(self, views: TrialViews, view: TrialView, level: int) -> str | None:
        """Return the configuration in the last place kept at a rung, None before one is."""
