"""Tune's door to the stopping rule: records what a trial reported, then decides from the history alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.events import RungDecided
from orchestrator.scheduling.asha import decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial

    from orchestrator.journal import Journal
    from orchestrator.plan import SweepPlan


class LogScheduler(FIFOScheduler):
    """Starts trials in order and stops those a rung rejects.

    One decision for each (trial, rung), taken from the value measured exactly there; the baseline is compared like any
    other trial but never stopped, so that every sweep has its control at full budget.

    Args of note: ``record`` writes a Tune result to the journal; Tune asks its scheduler before it tells its callbacks,
    and no decision may rest on something the log does not hold.
    """

    def __init__(
        self,
        plan: SweepPlan,
        journal: Journal,
        *,
        record: Callable[[Trial, dict[str, Any]], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._plan, self._journal, self._record, self._clock = plan, journal, record, clock

    def on_trial_result(self, tune_controller: object, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002  Tune's signature
        """CONTINUE, or STOP where the trial's rung rejects it."""
        name = self._record(trial, result)
        epoch = int(result["epoch"])
        if epoch not in self._plan.rungs:
            return str(TrialScheduler.CONTINUE)
        decision = self._decide(name, epoch)
        return str(TrialScheduler.CONTINUE if decision.kept else TrialScheduler.STOP)

    def _decide(self, name: str, rung: int) -> RungDecided:
        history, spec = self._journal.history, self._plan.spec
        trial = history.trials[name]
        if rung not in trial.rungs:
            values = history.rung_values(rung, spec.objective.metric)
            decision = decide(values, name, reduction_factor=spec.scheduler.reduction_factor, mode=spec.objective.mode)
            self._journal.append(
                RungDecided(
                    time=self._clock(),
                    trial=name,
                    rung=rung,
                    value=values[name],
                    cutoff=decision.cutoff,
                    competitors=decision.competitors,
                    kept=decision.kept or trial.origin == "baseline",
                )
            )
        return trial.rungs[rung]
