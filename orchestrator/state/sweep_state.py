"""Sweep state: a pure fold over the events of a log; it holds nothing that the log does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.state.event_log import read_events
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsDropped,
    EpochReported,
    OfSweep,
    OrderAccepted,
    OrderRefused,
    RungDecided,
    SeedsDropped,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
    TrialReopened,
)
from orchestrator.state.log_segments import refuse_lost
from orchestrator.state.ranking import for_people, fronts, is_finite, measured
from orchestrator.state.trial import ORDERED, OVER, Status, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.spec.objective import Objective
    from orchestrator.state.events import Event, TrialStatus

__all__ = ["IMPORTED", "ORDERED", "OVER", "HostHistory", "Status", "SweepState", "Trial", "missing_ends"]

IMPORTED = "imported from MLflow"
"""Reason of the end of a sweep that was imported: its trials were never ours to continue."""


@dataclass
class HostHistory:
    """Attempts that ended on one machine: ``lost`` to it, with their trial, or ``kept``; in order of time."""

    lost: list[tuple[float, str]] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)


class SweepState:
    """State of a sweep, updated by one event at a time.

    Example:
        >>> state = SweepState()
        >>> state.apply(TrialCreated(time=1.0, trial="t000", origin="baseline", point={}, config={"epochs": 3}))
        >>> state.trials["t000"].status
        'waiting'
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, Trial] = {}
        self.generation = 0
        self.ended: SweepEnded | None = None
        self.last_time = 0.0
        self._ran_s = self._age_s = 0.0
        self.num_events = 0
        self.hosts: dict[str, HostHistory] = {}
        self.num_given = 0
        """Trials of the baseline and of given points: the sampler proposed the rest."""
        self.orders: dict[str, OrderAccepted | OrderRefused] = {}
        """Answers to orders, by the order's id."""
        self.to_stop: dict[str, OrderAccepted] = {}
        """Trials that an order stops, and that are not over yet."""
        self.to_reopen: dict[str, OrderAccepted] = {}
        """Trials that an order reopens, in the order in which that happens."""
        self.is_imported = False
        self.changes: list[str] = []
        """Trial of each event that concerns one, in order. A reader that keeps its place sees what changed since."""
        for event in events:
            self.apply(event)

    @classmethod
    def read(cls, log: Path) -> SweepState:
        """Fold the events of a log.

        Raises:
            LogDamaged: it is damaged, or missing though its sweep began.
        """
        refuse_lost(log)
        return cls(event for event, _ in read_events(log))

    def apply(self, event: Event) -> None:
        """Apply one event; of a (trial, epoch) or a (trial, rung) that occurs twice, the first counts."""
        self._advance(event)
        self.num_events += 1
        if not isinstance(event, OfSweep):
            self.changes.append(event.trial)
        match event:
            case EpochReported():
                self.trials[event.trial].epochs.setdefault(event.epoch, event.metrics)
            case SweepStarted():
                self.generation = event.generation
                self.ended = None
                for trial in self.trials.values():  # those of a killed driver
                    trial.has_worker = False
            case TrialCreated():
                self.trials[event.trial] = Trial(
                    id=event.trial,
                    origin=event.origin,
                    point=event.point,
                    config=event.config,
                    descent=event.descent,
                )
                if event.descent is not None:
                    self.trials[event.descent.replaces].replaced_by = event.trial
                self.num_given += event.origin in {"baseline", "point"}
            case SweepEnded():
                self.ended = event
                self.is_imported = self.is_imported or event.reason == IMPORTED
            case OrderAccepted() | OrderRefused():
                self._answer(event)
            case TrialReopened():
                self._reopen(self.trials[event.trial], event)
            case _:
                if isinstance(event, AttemptFailed | TrialEnded):
                    self._leave_host(self.trials[event.trial], event)
                self._apply_to_trial(self.trials[event.trial], event)
                if isinstance(event, TrialEnded):
                    self._note_end(event)

    def _note_end(self, event: TrialEnded) -> None:
        self.trials[event.trial].ended_at = self.num_events
        if event.status in OVER:
            self.to_stop.pop(event.trial, None)

    def _answer(self, order: OrderAccepted | OrderRefused) -> None:
        """Note what an order requires; an extension gives every trial that is not over its configuration at once."""
        self.orders[order.order] = order
        if isinstance(order, OrderRefused):
            return
        if order.action == "stop":
            self.to_stop |= dict.fromkeys(order.trials, order)
            return
        self.to_reopen |= dict.fromkeys(order.trials, order)
        for trial in self.trials.values():
            if trial.status not in OVER:
                trial.config = {**trial.config, **order.config}

    def _reopen(self, trial: Trial, event: TrialReopened) -> None:
        self.to_reopen.pop(trial.id, None)
        order = self.orders.get(event.order)
        if isinstance(order, OrderAccepted):
            trial.config = {**trial.config, **order.config}
        trial.forgiven = len(trial.failures)
        paused = TrialEnded(time=event.time, trial=trial.id, status="paused", rung=event.rung)
        trial.end, trial.is_reopened = (None, True) if event.rung is None else (paused, False)

    def _advance(self, event: Event) -> None:
        """Add the time since the event before; a clock that was set back loses this interval and subtracts nothing.

        No driver runs before a start, nor after the end of the sweep.
        """
        step_s = self._since_last_s(event.time)
        self._age_s += step_s
        self._ran_s += 0.0 if isinstance(event, SweepStarted) or self.ended is not None else step_s
        self.last_time = event.time

    def _since_last_s(self, time: float) -> float:
        return max(0.0, time - self.last_time) if self.generation else 0.0

    def _leave_host(self, trial: Trial, event: AttemptFailed | TrialEnded) -> None:
        """Count the end of an attempt for or against its host, unless it says nothing about it."""
        host, trial.host = trial.host, None
        if host is None or event.cause == "preemption" or _is_interruption(event) or _is_shared(event):
            return
        history = self.hosts.setdefault(host, HostHistory())
        if event.cause == "infrastructure":
            history.lost.append((event.time, event.trial))
        else:
            history.kept.append(event.time)

    @staticmethod
    def _apply_to_trial(
        trial: Trial,
        event: AttemptStarted
        | AttemptFailed
        | RungDecided
        | TrialPromoted
        | CheckpointSaved
        | CheckpointsDropped
        | SeedsDropped
        | TrialEnded,
    ) -> None:
        match event:
            case AttemptStarted():
                trial.attempts = event.attempt
                trial.host = event.host
                trial.end = None
                trial.is_reopened = False
                trial.has_worker = True
            case AttemptFailed():
                trial.failures.append(event)
                trial.has_worker = False
            case RungDecided():
                trial.rungs.setdefault(event.rung, event)
            case TrialPromoted():
                trial.promotions.append(event)
                trial.end = None
            case CheckpointSaved():
                trial.checkpoints.append(event)
            case CheckpointsDropped():
                trial.dropped += trial.checkpoints
                trial.checkpoints, trial.drop = [], event
            case SeedsDropped():
                trial.seeds_dropped = event
            case TrialEnded():
                trial.end = event
                trial.has_worker = False

    def with_status(self, *statuses: Status) -> list[Trial]:
        """Return the trials with any of these statuses, in the order of their creation."""
        return [trial for trial in self.trials.values() if trial.status in statuses]

    def ranked(self, objective: Objective) -> list[Trial]:
        """Rank the trials that measured the objective, best first; of equal trials the smaller id is first.

        With several objectives the order is by Pareto front, and within a front by the first objective.
        """
        scores = {
            trial.id: measured([trial.last(target.metric) for target in objective.all], objective.modes)
            for trial in self.trials.values()
        }
        return [self.trials[name] for name in for_people(scores) if is_finite(scores[name])]

    def front(self, objective: Objective) -> list[Trial]:
        """Return the Pareto front of the completed trials, the best in the first objective first."""
        scores = {
            trial.id: measured([trial.last(target.metric) for target in objective.all], objective.modes)
            for trial in self.ranked(objective)
            if trial.status == "completed"
        }
        best = fronts(scores)[0] if scores else []
        return [self.trials[name] for name in sorted(best, key=lambda name: scores[name], reverse=True)]

    def best(self, objective: Objective) -> Trial | None:
        """Return the best trial that ran its full budget; before there is one, the best trial."""
        ranked = self.ranked(objective)
        return next((trial for trial in ranked if trial.status == "completed"), ranked[0] if ranked else None)

    def elapsed_s(self, *, now: float) -> float:
        """Return the time that drivers have run: without that from an end, or a kill, to the next start.

        >>> state = SweepState([SweepStarted(time=5.0, generation=1, host="here", pid=1)])
        >>> state.elapsed_s(now=7.0), state.elapsed_s(now=3.0)
        (2.0, 0.0)
        """
        return self._ran_s + (self._since_last_s(now) if self.ended is None else 0.0)

    def age_s(self, *, now: float) -> float:
        """Return the time since the first driver started, whether a driver ran or not."""
        return self._age_s + self._since_last_s(now)

    @property
    def epochs_run(self) -> int:
        """Number of distinct epochs that all trials reported."""
        return sum(len(trial.epochs) for trial in self.trials.values())

    def total(self, metric: str) -> float:
        """Sum a metric over all epochs of all trials."""
        return sum(metrics.get(metric) or 0.0 for trial in self.trials.values() for metrics in trial.epochs.values())

    def stopped_by_rung(self) -> dict[int, int]:
        """Count the stopped trials by rung, without those that are out of the race."""
        rungs = [trial.stopping_rung for trial in self.with_status("stopped") if not trial.is_out_of_race]
        return {rung: rungs.count(rung) for rung in sorted({rung for rung in rungs if rung is not None})}


def _is_interruption(event: AttemptFailed | TrialEnded) -> bool:
    return isinstance(event, TrialEnded) and event.status == "interrupted"


def _is_shared(event: AttemptFailed | TrialEnded) -> bool:
    return isinstance(event, AttemptFailed) and event.shared_by is not None


def replaced_end(trial: Trial, child: Trial, *, now: float) -> TrialEnded:
    """Return the end of a member of a population whose place another trial has taken."""
    descent = child.descent
    assert descent is not None, "it was made by population based training"  # noqa: S101  our own bookkeeping
    reason = f"replaced by {child.id}, which continues {descent.parent} from epoch {descent.epoch}"
    return TrialEnded(time=now, trial=trial.id, status="stopped", rung=trial.stopping_rung, reason=reason)


def missing_ends(state: SweepState, *, pauses: bool, now: float) -> list[TrialEnded]:
    """Return the ends that a killed driver had decided but not logged: a replacement, a rung, a full budget.

    A trial with its full budget but without its last checkpoint has not ended: it resumes from the checkpoint before.
    """
    paused = state.with_status("paused")
    ends = [
        replaced_end(trial, state.trials[trial.replaced_by], now=now)
        for trial in paused
        if trial.replaced_by is not None
    ]
    for trial in state.with_status("running", "waiting", "interrupted"):
        if trial.id in state.to_stop:
            continue  # an order ends it
        if trial.rejected_at is not None:
            status: TrialStatus = "paused" if pauses else "stopped"
            ends.append(TrialEnded(time=now, trial=trial.id, status=status, rung=trial.rejected_at))
        elif trial.epoch >= trial.budget and trial.has_final_checkpoint:
            ends.append(TrialEnded(time=now, trial=trial.id, status="completed"))
    return ends
