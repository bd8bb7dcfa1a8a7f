"""Trials at each rung: how many reached it, what became of them, and their comparison there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.comparison.comparison import Comparison, compare
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial

PROMOTED = "promoted"
AUDITED = "audited"
FULL = "full budget"
UNDECIDED = "undecided"
OUTCOMES = (FULL, PROMOTED, "stopped", "paused", AUDITED, "stopped by order", "diverged", "failed", UNDECIDED)
"""Outcomes of a trial at a rung, in the order of tables and legends."""


@dataclass(frozen=True)
class Rung:
    """Trials at one rung, which is an epoch: their comparison there, and the outcome of each that reached it.

    ``is_last`` marks the full budget, at which no trial is promoted.
    """

    comparison: Comparison
    outcomes: Mapping[str, str]
    is_last: bool

    @property
    def epoch(self) -> int:
        """Epoch of the rung."""
        return self.comparison.epoch

    @property
    def name(self) -> str:
        """Name of the rung in tables and figures."""
        return f"full budget, epoch {self.epoch}" if self.is_last else f"rung {self.epoch}"

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials of each outcome, those with some."""
        counts = Counter(self.outcomes.values())
        return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}

    @property
    def summary(self) -> str:
        """Number of trials that reached the rung, and what became of them, in words."""
        return f"{len(self.outcomes)} reached: {', '.join(f'{count} {words}' for words, count in self.counts.items())}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "rung": self.epoch,
            "is_full_budget": self.is_last,
            "reached": len(self.outcomes),
            "counts": self.counts,
            "outcomes": dict(self.outcomes),
            "comparison": self.comparison.as_json(),
        }


def rungs_of(plan: SweepPlan, state: SweepState) -> list[Rung]:
    """Return the rungs that some trial has reached, the lowest first, and the full budget last.

    A scheduler that moves its rungs has all that it used. Audited trials were rejected at the rung, and ran on to
    measure if that was right.

    Raises:
        OrchestratorError: rungs are no epochs, so trials are at different epochs there; or no trial has reached one.
    """
    resource = plan.spec.scheduler.rung_unit
    if resource != "epochs":
        raise OrchestratorError(
            f"{plan.sweep}: scheduler.resource must be epochs to compare trials at rungs, got {resource}; trials have "
            "run different epochs at such a rung, so choose one with --epoch"
        )
    levels = {*plan.rungs, plan.max_epochs, *(rung for trial in state.trials.values() for rung in trial.rungs)}
    metric = plan.spec.objective.metric
    measured = {epoch for trial in state.trials.values() for epoch in trial.values(metric)}
    reached = sorted(levels & measured)
    if not reached:
        listed = ", ".join(map(str, sorted(levels)))
        raise OrchestratorError(f"{plan.sweep}: no trial has measured {metric} at a rung yet; they are {listed}")
    return [rung_at(plan, state, epoch) for epoch in reached]


def rung_at(plan: SweepPlan, state: SweepState, epoch: int) -> Rung:
    """Return the trials at an epoch with their outcomes there.

    Raises:
        OrchestratorError: no trial measured the objective at that epoch.
    """
    comparison = compare(plan, state, epoch=epoch)
    outcomes = {name: outcome_at(state.trials[name], epoch) for name in comparison.values}
    return Rung(comparison, outcomes, is_last=epoch >= plan.max_epochs)


def outcome_at(trial: Trial, epoch: int) -> str:
    """Return what became of a trial after an epoch: one of ``OUTCOMES``."""
    if trial.blind_from is not None and trial.blind_from <= epoch:
        return AUDITED
    if trial.epoch > epoch:
        return PROMOTED
    if trial.stopped_by_order:
        return "stopped by order"
    if trial.status == "completed":
        return FULL
    return trial.status if trial.status in OUTCOMES else UNDECIDED
