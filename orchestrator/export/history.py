"""History of a sweep for export: its trials with their times and everything that they reported, from the log alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.comparison.comparison import compare
from orchestrator.planning.changes.extension import in_force
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.seeds import configuration_of, searched_state
from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptStarted, EpochReported, TrialCreated
from orchestrator.state.log_segments import refuse_lost
from orchestrator.state.sweep_state import OVER, SweepState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.spec.objective import Objective
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial


@dataclass
class TrialHistory:
    """Trial of a sweep with its times, in seconds since 1970 (UTC), and the first report of each epoch."""

    trial: Trial
    created_at: float
    started_at: float | None = None
    reports: dict[int, EpochReported] = field(default_factory=dict)

    @property
    def ended_at(self) -> float | None:
        """Time at which the trial was over; None if it may continue."""
        end = self.trial.end
        return end.time if end is not None and end.status in OVER else None

    @property
    def reported_at(self) -> float | None:
        """Time of the last report; None before the first."""
        return max((report.time for report in self.reports.values()), default=None)

    @property
    def reason(self) -> str | None:
        """Reason of the trial's end, or of its last failed attempt; None if none is known."""
        end, failures = self.trial.end, self.trial.failures
        if end is not None and end.reason:
            return end.reason
        return failures[-1].reason if failures else None

    @property
    def cause(self) -> str | None:
        """Cause of the trial's end, or of its last failed attempt; None if none is known."""
        end, failures = self.trial.end, self.trial.failures
        if end is not None and end.cause:
            return end.cause
        return failures[-1].cause if failures else None

    def total(self, metric: str) -> float | None:
        """Sum a metric over the epochs that measured it; None if none did."""
        measured = (report.metrics.get(metric) for report in self.reports.values())
        values = [value for value in measured if value is not None]
        return sum(values) if values else None

    def epoch_of(self, objective: Objective, epoch: int | None) -> int | None:
        """Return the epoch at which an objective counts: ``epoch`` if it was measured there, by default the last."""
        measured = self.trial.values(objective.metric)
        if epoch is not None:
            return epoch if epoch in measured else None
        return max(measured, default=None)

    def score(self, objective: Objective, epoch: int | None) -> float | None:
        """Return an objective at that epoch; None if it was not measured, or was not finite."""
        at = self.epoch_of(objective, epoch)
        return None if at is None else self.trial.values(objective.metric)[at]

    def metrics(self, epoch: int | None) -> dict[str, float | None]:
        """Return the metrics of an epoch, by default of the last; empty if the trial did not report it."""
        report = self.reports.get(self.trial.epoch if epoch is None else epoch)
        return {} if report is None else dict(report.metrics)


@dataclass
class ConfigurationHistory(TrialHistory):
    """Configuration of a sweep with several seeds, as one trial whose values are means over its seeds."""

    seeds: tuple[TrialHistory, ...] = ()

    @classmethod
    def of(cls, trial: Trial, seeds: tuple[TrialHistory, ...]) -> ConfigurationHistory:
        """Return the history of a configuration from those of its seeds."""
        started = [seed.started_at for seed in seeds if seed.started_at is not None]
        created_at = min(seed.created_at for seed in seeds)
        return cls(trial, created_at, min(started, default=None), seeds=seeds)

    @property
    def ended_at(self) -> float | None:
        """Time at which its last seed was over; None if it may continue."""
        ends = [seed.ended_at for seed in self.seeds if seed.ended_at is not None]
        return max(ends, default=None) if self.trial.status in OVER else None

    @property
    def reported_at(self) -> float | None:
        """Time of the last report of any seed; None before the first."""
        return max((seed.reported_at for seed in self.seeds if seed.reported_at is not None), default=None)

    def total(self, metric: str) -> float | None:
        """Sum a metric over the epochs of all seeds; None if none measured it."""
        totals = [total for seed in self.seeds if (total := seed.total(metric)) is not None]
        return sum(totals) if totals else None

    def metrics(self, epoch: int | None) -> dict[str, float | None]:
        """Return the means at an epoch, by default the last that has some."""
        return dict(self.trial.epochs.get(self.trial.epoch if epoch is None else epoch, {}))


@dataclass(frozen=True)
class SweepHistory:
    """Sweep as an export has it; trials are compared at ``epoch``, or each at its last one if that is None."""

    plan: SweepPlan
    state: SweepState
    folder: SweepFolder
    trials: tuple[TrialHistory, ...]
    epoch: int | None

    @classmethod
    def read(cls, folder: SweepFolder, *, epoch: int | None = None) -> SweepHistory:
        """Read the history of a sweep that ended, runs, or was interrupted.

        Raises:
            OrchestratorError: no trial measured the objective at ``epoch``.
            LogDamaged, SweepNotFound, PlanDamaged: the log or the plan cannot be read.
        """
        refuse_lost(folder.events)
        events = [event for event, _ in read_events(folder.events)]
        state = SweepState(events)
        plan = in_force(SweepPlan.load(folder), state)
        if epoch is not None:
            compare(plan, state, epoch=epoch)
        return cls(plan, state, folder, histories(events, state), epoch)

    @cached_property
    def configurations(self) -> tuple[TrialHistory, ...]:
        """Trials, or the configurations of a sweep with several seeds, in the order of their creation."""
        if self.plan.spec.search.seeds == 1:
            return self.trials
        seeds: dict[str, list[TrialHistory]] = {}
        for entry in self.trials:
            seeds.setdefault(configuration_of(entry.trial.id), []).append(entry)
        searched = searched_state(self.plan, self.state).trials
        return tuple(ConfigurationHistory.of(trial, tuple(seeds[name])) for name, trial in searched.items())

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of the points of all trials: the searched ones in the space's order, then further ones."""
        return _in_order(self.plan.spec.space.names, (trial.trial.point for trial in self.trials))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that any trial reported: the objectives, then all others by name."""
        reported = (report.metrics for trial in self.trials for report in trial.reports.values())
        return _in_order(self.plan.spec.objective.metrics, reported)


def histories(events: Iterable[Event], state: SweepState) -> tuple[TrialHistory, ...]:
    """Return the history of each trial, in the order of their creation; of an epoch's reports the first counts."""
    by_id: dict[str, TrialHistory] = {}
    for event in events:
        match event:
            case TrialCreated():
                by_id[event.trial] = TrialHistory(state.trials[event.trial], event.time)
            case AttemptStarted():
                history = by_id[event.trial]
                history.started_at = event.time if history.started_at is None else history.started_at
            case EpochReported():
                by_id[event.trial].reports.setdefault(event.epoch, event)
            case _:
                pass
    return tuple(by_id.values())


def _in_order(first: Iterable[str], mappings: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return the names of all mappings, those in ``first`` in front and the others sorted.

    >>> _in_order(["b", "z"], [{"c": 1, "a": 2}, {"b": 3}])
    ('b', 'z', 'a', 'c')
    """
    names = dict.fromkeys(first)
    others = {name for mapping in mappings for name in mapping} - names.keys()
    return (*names, *sorted(others))
