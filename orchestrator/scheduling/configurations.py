"""Configurations of a sweep with several seeds: their trials taken as one, for schedulers and samplers.

A configuration is compared at a level by the mean over as many seeds as the level needs: 1 at the first rung, all at
the last rung and at the end. A mean over fewer is never compared. So where a seed failed, diverged or was stopped by
order, the configuration is incomplete, and over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.rungs import seeds_at
from orchestrator.scheduling.trial_views import TrialView
from orchestrator.state.events import TrialEnded
from orchestrator.state.ranking import is_finite, measured
from orchestrator.state.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from orchestrator.scheduling.trial_views import State
    from orchestrator.spec.objective import Objective
    from orchestrator.state.ranking import Measured
    from orchestrator.state.trial import Status

ACTIVE = frozenset({"running", "waiting", "interrupted"})
"""Statuses of a trial that a worker has, or gets without a further decision."""


@dataclass(frozen=True)
class Configuration:
    """Trials of one configuration by the number of their seed; a trial that was not created yet is not among them.

    ``rungs`` are those of the scheduler, ``seeds`` the most that it may have.
    """

    trials: tuple[Trial, ...]
    rungs: tuple[int, ...]
    seeds: int
    objective: Objective

    @property
    def id(self) -> str:
        """Id, which is that of its first trial."""
        return self.trials[0].id

    @property
    def maximum(self) -> int:
        """Epochs of a full run."""
        return self.trials[0].budget

    @cached_property
    def levels(self) -> dict[int, int]:
        """Number of seeds that each level needs: its rungs in order, then its end."""
        needs = zip(self.rungs, seeds_at(self.rungs, self.seeds), strict=True)
        return {**{rung: count for rung, count in needs if rung < self.maximum}, self.maximum: self.seeds}

    def values(self, level: int) -> dict[int, Measured]:
        """Return the finite values that seeds which a level needs have measured, by their numbers."""
        metrics, modes = self.objective.metrics, self.objective.modes
        values = {
            number: measured([trial.epochs[level].get(metric) for metric in metrics], modes)
            for number, trial in enumerate(self.trials[: self.levels[level]])
            if level in trial.epochs
        }
        return {number: value for number, value in values.items() if is_finite(value)}

    @cached_property
    def means(self) -> dict[int, Measured]:
        """Mean over the seeds that a level needs, at each level where all of them have a finite value."""
        values = {level: list(self.values(level).values()) for level in self.levels}
        return {level: _mean(some) for level, some in values.items() if len(some) == self.levels[level]}

    @cached_property
    def decisions(self) -> dict[int, RungDecision]:
        """Decisions about its means, by rung."""
        decided = (decision for trial in self.trials for decision in trial.rungs.values() if decision.outcome == "mean")
        return {
            event.rung: RungDecision(event.rung, event.kept, competitors=event.competitors, rungs=event.rungs)
            for event in decided
        }

    @cached_property
    def promoted(self) -> frozenset[int]:
        """Rungs that it was promoted from: its first trial is the first that continues."""
        return frozenset(rung for rung in self.trials[0].promoted_from if rung in self.decisions)

    def has_advanced(self, level: int) -> bool:
        """Return True if it was kept at a level, or promoted from it."""
        return level in self.promoted or (level in self.decisions and self.decisions[level].kept)

    @cached_property
    def target(self) -> int | None:
        """Level that its seeds are on their way to; None where it is paused, or has reached its end."""
        level = next(level for level in self.levels if not self.has_advanced(level))
        is_reached = level in self.decisions or (level == self.maximum and self.state == "completed")
        return None if is_reached else level

    @cached_property
    def over_because(self) -> str | None:
        """Reason for which no further seed of it matters, in words; None if one may."""
        if self.trials[0].seeds_dropped is not None:
            return f"{self.id} is out of the race: {self.trials[0].seeds_dropped.reason}"
        lost = next((trial for trial in self.trials if is_lost(trial)), None)
        if lost is None:
            return None
        how = "was stopped by order" if lost.stopped_by_order else lost.status
        return f"{self.id} is incomplete: its seed {self.trials.index(lost)} ({lost.id}) {how}"

    @cached_property
    def state(self) -> State:
        """State as a scheduler sees it."""
        if self.over_because is not None:
            return "over"
        statuses = {trial.status for trial in self.trials}
        if len(self.trials) == self.seeds and statuses == {"completed"}:
            return "completed"
        if "stopped" in statuses:  # its sweep has ended
            return "over"
        last = max(self.decisions, default=None)
        return "running" if last is None or self.has_advanced(last) else "paused"

    @property
    def level(self) -> int:
        """Last level that has a mean; of a dropped or incomplete one, the level that it was on its way to.

        So a budget counts the seeds of such a configuration as if all had come.
        """
        is_lost_on_its_way = self.over_because is not None and self.target is not None
        return self.target or 0 if is_lost_on_its_way else max(self.means, default=0)

    @property
    def is_active(self) -> bool:
        """Return True if a seed of it runs, or waits for its retry."""
        return any(trial.status in ACTIVE for trial in self.trials)

    def next_seed(self) -> int | None:
        """Return the number of the next seed to create, or to promote, on its way to its target; None if all run."""
        target = self.target
        if target is None or self.state != "running":
            return None
        for number in range(self.levels[target]):
            if number == len(self.trials):
                return number
            trial = self.trials[number]
            if target not in trial.epochs and trial.status == "paused":
                return number
        return None

    def missing(self, level: int) -> tuple[int, ...]:
        """Return the numbers of the seeds that a level needs and that lack a finite value at it."""
        values = self.values(level)
        return tuple(number for number in range(self.levels[level]) if number not in values)

    def view(self, *, stratum: Hashable, cost: int = 1) -> TrialView:
        """Return the view of the configuration, whose values are means; ``cost`` is that of an epoch of a seed."""
        return TrialView(
            self.id,
            maximum=self.maximum,
            stratum=stratum,
            exempt=self.trials[0].origin == "baseline",
            level=self.level,
            values=self.means,
            decisions=self.decisions,
            promoted=self.promoted,
            state=self.state,
            cost=cost,
        )

    def as_trial(self) -> Trial:
        """Return the configuration as one trial, with the means of its metrics at the levels that have one.

        One that racing dropped has what its seeds measured at the level it was dropped before, so that samplers learn
        from it; it counts as stopped at that level.
        """
        first, drop = self.trials[0], self.trials[0].seeds_dropped
        epochs = {level: self._metrics(level) for level in self.means}
        if drop is not None and self.values(drop.rung):
            epochs[drop.rung] = self._metrics(drop.rung)
        trial = Trial(first.id, first.origin, first.point, first.config, attempts=first.attempts, epochs=epochs)
        decided = (event for seed in self.trials for event in seed.rungs.values() if event.outcome == "mean")
        trial.rungs = {event.rung: event for event in decided}
        trial.end = self._end()
        return trial

    def _metrics(self, level: int) -> dict[str, float | None]:
        rows = [trial.epochs[level] for trial in self.trials[: self.levels[level]] if level in trial.epochs]
        names = [name for name in rows[0] if all(_is_number(row.get(name)) for row in rows)]
        return {name: math.fsum(row[name] or 0.0 for row in rows) / len(rows) for name in names}

    def _end(self) -> TrialEnded | None:
        status = self.status
        if status in ACTIVE:
            return None
        lost = next((trial for trial in self.trials if is_lost(trial)), None)
        if lost is not None and lost.end is not None and lost.stopped_by_order and not self.trials[0].seeds_dropped:
            return TrialEnded(time=0.0, trial=self.id, status=status, reason=lost.end.reason)  # at no rung
        rung = self.level if status in {"paused", "stopped"} else None
        return TrialEnded(time=0.0, trial=self.id, status=status, rung=rung, reason=self.over_because)

    @property
    def status(self) -> Status:
        """Status of the configuration as that of one trial: dropped by racing counts as stopped."""
        if self.state == "over":
            lost = next((trial.status for trial in self.trials if is_lost(trial)), None)
            return "stopped" if lost is None or self.trials[0].seeds_dropped is not None else lost
        return "running" if self.state == "running" else self.state


def is_lost(trial: Trial) -> bool:
    """Return True for a seed without which its configuration is incomplete: it failed, diverged, or was stopped."""
    return trial.status in {"failed", "diverged"} or trial.stopped_by_order


def _mean(values: Sequence[Measured]) -> Measured:
    return tuple(math.fsum(column) / len(values) for column in zip(*values, strict=True))


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)
