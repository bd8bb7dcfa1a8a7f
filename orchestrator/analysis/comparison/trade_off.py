"""Trials by two objectives at one epoch, and their Pareto front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.epochs import comparable_epoch
from orchestrator.state.ranking import fronts, measured
from trainables.metrics import lookup

if TYPE_CHECKING:
    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState

SECOND = "val/robust_accuracy"


@dataclass(frozen=True)
class TradeOff:
    """Both metrics, the epoch, the values of each trial that measured both at it, and the front by its first value."""

    first: str
    second: str
    epoch: int
    points: dict[str, tuple[float, float]]
    front: tuple[str, ...]


def trade_off(plan: SweepPlan, state: SweepState, comparison: Comparison) -> TradeOff:
    """Return the trials by their first two objectives; by default accuracy and robust accuracy.

    The epoch is that of the comparison if two trials or more measured both at it, else the highest that 12 trials did.

    Raises:
        OrchestratorError: no trial measured both.
    """
    objective, trials = plan.spec.objective, state.trials
    first, second = (*objective.metrics, SECOND)[:2]
    modes = [*objective.modes, lookup(SECOND).direction or "max"][:2]
    both = {
        name for name, trial in trials.items() if {comparison.epoch} <= {*trial.values(first)} & {*trial.values(second)}
    }
    epoch = comparison.epoch if len(both) > 1 else comparable_epoch(plan, state, metrics=(first, second))
    points = {
        name: (trial.values(first)[epoch], trial.values(second)[epoch])
        for name, trial in trials.items()
        if epoch in trial.values(first) and epoch in trial.values(second)
    }
    front = fronts({name: measured(values, modes) for name, values in points.items()})[0]
    return TradeOff(first, second, epoch, points, tuple(sorted(front, key=points.__getitem__)))
