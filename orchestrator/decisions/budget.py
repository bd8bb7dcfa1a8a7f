"""Budget of a sweep: the part of it that is used, a fold over events."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from orchestrator.planning.seeds import seed_index_of
from orchestrator.state.events import EpochReported, TrialCreated

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import Event, Origin
    from orchestrator.state.sweep_state import SweepState, Trial


class BudgetUse:
    """Used part of a sweep's budget; apply each event after the sweep state has.

    GPU seconds are summed exactly, so that the sum does not depend on the order in which epochs were reported.
    """

    def __init__(self, plan: SweepPlan, state: SweepState) -> None:
        self._plan, self._state = plan, state
        self._gpu_s = Fraction(0)
        self._counted: dict[str, int] = {}
        self._num_started = sum(self._is_first(trial.id, trial.origin) for trial in state.trials.values())
        self._on_target: set[str] = set()
        for trial in state.trials.values():
            for epoch in trial.epochs:
                self._add(trial, epoch)

    def apply(self, event: Event) -> None:
        """Take one event in; an epoch that was reported before is not counted."""
        if isinstance(event, TrialCreated):
            self._num_started += self._is_first(event.trial, event.origin)
        if not isinstance(event, EpochReported):
            return
        trial = self._state.trials[event.trial]
        if len(trial.epochs) > self._counted.get(trial.id, 0):
            self._add(trial, event.epoch)

    def is_spent(self, *, now: float) -> bool:
        """Return True if the budget is used up: no trial is started or promoted, those that run continue."""
        return self.spent(now=now) is not None

    def spent(self, *, now: float) -> tuple[str, str, float] | None:
        """Return the field of the budget that is used up, what would be required of it, and the limit; or None."""
        budget, age_s = self._plan.spec.budget, self._state.age_s(now=now)
        if budget.wall_clock_s is not None and age_s >= budget.wall_clock_s:
            return "budget.wall_clock_s", f"above {age_s:.0f}, the seconds since the launch", budget.wall_clock_s
        if budget.gpu_s is not None and self._gpu_s >= budget.gpu_s:
            return "budget.gpu_s", f"above {float(self._gpu_s):.0f}, the GPU seconds so far", budget.gpu_s
        if budget.target is not None and self._on_target:
            return "budget.target", f"beyond what {min(self._on_target)} has reached", budget.target
        return None

    def unstarted(self, *, now: float) -> int:
        """Return the number of new trials that may yet be started; with several seeds, of new configurations."""
        return 0 if self.is_spent(now=now) else max(0, self._plan.spec.search.num_trials - self._num_started)

    def _is_first(self, trial: str, origin: Origin) -> bool:
        """Return True if a trial is the first of its point: it has the first seed, and continues no other trial."""
        if origin == "pbt":
            return False
        return self._plan.spec.search.seeds == 1 or not seed_index_of(trial)

    def _add(self, trial: Trial, epoch: int) -> None:
        self._counted[trial.id] = len(trial.epochs)
        budget, objective = self._plan.spec.budget, self._plan.spec.objective
        if budget.gpu_s is not None:
            self._gpu_s += Fraction(trial.epochs[epoch].get("cost/gpu_s") or 0.0)
        if budget.target is not None:
            score = trial.score(objective)
            is_reached = score is not None and not objective.is_better(budget.target, score)
            (self._on_target.add if is_reached else self._on_target.discard)(trial.id)
