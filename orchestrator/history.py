"""What a sweep looks like after a list of events: a pure fold, never anything the log does not hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from orchestrator.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    RungDecided,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    read_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.events import Cause, Event, Origin
    from orchestrator.spec import Objective

Status: TypeAlias = Literal["waiting", "running", "completed", "stopped", "diverged", "failed", "interrupted"]
OVER: frozenset[str] = frozenset({"completed", "stopped", "diverged", "failed"})


@dataclass
class Trial:
    """One trial so far."""

    id: str
    origin: Origin
    point: dict[str, Any]
    config: dict[str, Any]
    attempts: int = 0
    epochs: dict[int, dict[str, float | None]] = field(default_factory=dict)
    rungs: dict[int, RungDecided] = field(default_factory=dict)
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    failures: list[AttemptFailed] = field(default_factory=list)
    end: TrialEnded | None = None

    @property
    def status(self) -> Status:
        """Where the trial stands."""
        if self.end is not None:
            return self.end.status
        broke_off = bool(self.failures) and self.failures[-1].attempt == self.attempts
        return "running" if self.attempts and not broke_off else "waiting"

    @property
    def epoch(self) -> int:
        """The last epoch reported, 0 before the first."""
        return max(self.epochs, default=0)

    @property
    def budget(self) -> int:
        """The epochs of a full run."""
        return int(self.config["epochs"])

    @property
    def rejected_at(self) -> int | None:
        """The rung that decided to stop the trial, whether it has ended yet or not."""
        return next((rung.rung for rung in self.rungs.values() if not rung.kept), None)

    @property
    def has_final_checkpoint(self) -> bool:
        """Whether a checkpoint of the last epoch reported was completed."""
        return any(checkpoint.epoch == self.epoch for checkpoint in self.checkpoints)

    def failures_of(self, cause: Cause) -> int:
        """How many attempts broke off for this cause."""
        return sum(failure.cause == cause for failure in self.failures)

    @property
    def stopping_rung(self) -> int | None:
        """The rung at which ASHA stopped the trial."""
        return self.end.rung if self.end is not None else None

    def values(self, metric: str) -> dict[int, float]:
        """The finite values of a metric by epoch, in order."""
        measured = {epoch: metrics.get(metric) for epoch, metrics in sorted(self.epochs.items())}
        return {epoch: value for epoch, value in measured.items() if value is not None and math.isfinite(value)}

    def score(self, objective: Objective) -> float | None:
        """The objective at the last epoch that measured it: the model that the last checkpoint holds.

        Never the best epoch: the maximum of a noisy curve on validation data flatters noisy trials.
        """
        return next(reversed(self.values(objective.metric).values()), None)


class SweepHistory:
    """The state of a sweep: apply events in order, ask at any time.

    Example:
        >>> history = SweepHistory()
        >>> history.apply(TrialCreated(time=1.0, trial="t000", origin="baseline", point={}, config={"epochs": 3}))
        >>> history.trials["t000"].status
        'waiting'
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, Trial] = {}
        self.generation = 0
        self.started_at: float | None = None
        self.ended: SweepEnded | None = None
        self.last_time: float | None = None
        for event in events:
            self.apply(event)

    @classmethod
    def read(cls, log: Path) -> SweepHistory:
        """The history in an event log."""
        return cls(event for event, _ in read_events(log))

    def apply(self, event: Event) -> None:
        """Take one event in; of a (trial, epoch) or a (trial, rung) seen twice, the first stands."""
        self.last_time = event.time
        match event:
            case SweepStarted():
                self.generation = event.generation
                self.started_at = event.time if self.started_at is None else self.started_at
                self.ended = None
            case TrialCreated():
                self.trials[event.trial] = Trial(
                    id=event.trial,
                    origin=event.origin,
                    point=event.point,
                    config=event.config,
                )
            case SweepEnded():
                self.ended = event
            case _:
                self._apply_to_trial(self.trials[event.trial], event)

    @staticmethod
    def _apply_to_trial(
        trial: Trial,
        event: AttemptStarted | AttemptFailed | EpochReported | RungDecided | CheckpointSaved | TrialEnded,
    ) -> None:
        match event:
            case AttemptStarted():
                trial.attempts = event.attempt
                trial.end = None
            case AttemptFailed():
                trial.failures.append(event)
            case EpochReported():
                trial.epochs.setdefault(event.epoch, event.metrics)
            case RungDecided():
                trial.rungs.setdefault(event.rung, event)
            case CheckpointSaved():
                trial.checkpoints.append(event)
            case TrialEnded():
                trial.end = event

    def with_status(self, *statuses: Status) -> list[Trial]:
        """The trials in any of these states, in the order they were created."""
        return [trial for trial in self.trials.values() if trial.status in statuses]

    def rung_values(self, rung: int, metric: str) -> dict[str, float | None]:
        """What every trial that reached an epoch measured there; null stands for a value that was not finite."""
        return {trial.id: trial.epochs[rung].get(metric) for trial in self.trials.values() if rung in trial.epochs}

    def ranked(self, objective: Objective) -> list[Trial]:
        """Trials that measured the objective, best first; ties go to the older trial."""
        scored = [(trial.score(objective), trial) for trial in self.trials.values()]
        sign = -1 if objective.mode == "max" else 1
        measured = [(score, trial) for score, trial in scored if score is not None]
        return [trial for _, trial in sorted(measured, key=lambda pair: sign * pair[0])]

    def best(self, objective: Objective) -> Trial | None:
        """The best trial that ran its full budget; before there is one, the best of all."""
        ranked = self.ranked(objective)
        return next((trial for trial in ranked if trial.status == "completed"), ranked[0] if ranked else None)

    @property
    def epochs_run(self) -> int:
        """Distinct epochs reported by all trials."""
        return sum(len(trial.epochs) for trial in self.trials.values())

    def stopped_by_rung(self) -> dict[int, int]:
        """How many trials ASHA stopped at each rung."""
        rungs = [trial.stopping_rung for trial in self.with_status("stopped")]
        return {rung: rungs.count(rung) for rung in sorted({rung for rung in rungs if rung is not None})}


def settle(history: SweepHistory, *, now: float) -> list[TrialEnded]:
    """The ends that a killed driver had decided but not written: a stop at a rung, a full budget.

    A full budget whose last checkpoint was not completed is no end yet: the trial goes on from the checkpoint before.
    """
    ends = []
    for trial in history.with_status("running", "waiting", "interrupted"):
        if trial.rejected_at is not None:
            ends.append(TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.rejected_at))
        elif trial.epoch >= trial.budget and trial.has_final_checkpoint:
            ends.append(TrialEnded(time=now, trial=trial.id, status="completed"))
    return ends
