"""Replay: repeat every decision of a sweep from the log before it, and simulate other scheduler settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.propose import Proposer
from orchestrator.decisions.retention import RetentionIndex
from orchestrator.decisions.rung import decide
from orchestrator.decisions.steps import Descendant, FurtherSeed, Promotion, SeedDrop
from orchestrator.decisions.trial_views import DecisionState, trial_views_of, values_at
from orchestrator.errors import SpecError
from orchestrator.planning.loading import override
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.provenance import find_own_code
from orchestrator.planning.seeds import seed_index_of
from orchestrator.scheduling.budgeted.rung_schedule import NEWEST
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.scheduling.registry import rung_schedule_of, scheduler_of
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.state.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointsDropped,
    OrderAccepted,
    RungDecided,
    SeedsDropped,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
)
from orchestrator.state.ranking import order
from orchestrator.state.sweep_state import SweepState
from search_spaces import Problem
from trainables.import_paths import find_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.scheduling.simulator import Outcome
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import Trial

WHAT_IF = "scheduler."
DECIDE_KIND = frozenset({"name", "kind"})
"""Settings that may change promotion into stopping; under all others a sweep keeps its kind."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A decision with another result than recorded; ``event`` counts the lines of the log from 1."""

    event: int
    kind: str
    recorded: Any
    replayed: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """Number of repeated decisions by kind, and those with another result."""

    counts: dict[str, int]
    differences: tuple[Mismatch, ...]


def replay(plan: SweepPlan, events: Iterable[Event]) -> Replay:
    """Repeat every decision of a log: points proposed, rungs decided, trials promoted, checkpoints dropped.

    Each is a function of the plan and of the events before it, so the same version on the same machine repeats it bit
    for bit. The plan is that of the launch, until an event of an order extends it.

    Raises:
        SpecError: a user's own sampler or scheduler is no longer found, or no longer fits the spec.
        OwnCodeFailed: it raises, or gives an answer that breaks a rule.
    """
    find_own_code(plan.spec, Path(plan.working_directory))
    state, counts, differences = SweepState(), dict[str, int](), list[Mismatch]()
    decisions = DecisionState(plan.launched, state)
    proposer = Proposer(plan.launched.spec, decisions.searched)
    retention = RetentionIndex(state)
    for number, event in enumerate(events, start=1):
        decision = (
            _dropped_again(decisions.plan, retention, event)
            if isinstance(event, CheckpointsDropped)
            else _repeated(decisions, proposer, event)
        )
        if decision is not None:
            recorded, replayed = decision
            counts[event.kind] = counts.get(event.kind, 0) + 1
            if recorded != replayed:
                differences.append(Mismatch(number, event.kind, recorded, replayed))
        state.apply(event)
        decisions.apply(event)
        if isinstance(event, OrderAccepted):
            proposer = Proposer(decisions.plan.spec, decisions.searched)
    return Replay(counts, tuple(differences))


def _repeated(decisions: DecisionState, proposer: Proposer, event: Event) -> tuple[object, object] | None:
    """Return the recorded decision of an event, and the one that the state before it gives now."""
    match event:
        case TrialCreated() if decisions.is_seeded and seed_index_of(event.trial):
            return FurtherSeed(event.trial), next_step(decisions, now=event.time)
        case TrialCreated() if event.descent is not None:
            return Descendant(event.trial, event.point, event.descent), next_step(decisions, now=event.time)
        case TrialCreated():
            step, left = next_step(decisions, now=event.time), decisions.budget.unstarted(now=event.time)
            proposed = proposer.propose() if step is None and left else step
            return (event.origin, event.point), proposed
        case TrialPromoted():
            return Promotion(event.trial, event.rung, event.audited), next_step(decisions, now=event.time)
        case SeedsDropped():
            recorded_drop = SeedDrop(event.trial, event.rung, event.seeds, event.reason)
            return recorded_drop, next_step(decisions, now=event.time)
        case RungDecided():
            recorded = event.model_dump(exclude={"v", "time", "kind"})
            if not decisions.is_seeded and event.rung not in decisions.views[event.trial].values:
                return recorded, None  # a log without the epoch that was decided about
            return recorded, decide(decisions, event.trial, event.rung)
        case _:
            return None


def _dropped_again(plan: SweepPlan, retention: RetentionIndex, event: CheckpointsDropped) -> tuple[object, object]:
    """Return the trial whose checkpoints were dropped and the number of those kept, as recorded and as decided now."""
    keep_best = event.keep_best if event.author is not None else plan.spec.storage.keep_best
    chosen = retention.droppable(plan.spec.objective, keep_best=event.keep_best)
    return (event.trial, event.keep_best), (event.trial if event.trial in chosen else None, keep_best)


def what_if(plan: SweepPlan, state: SweepState, settings: Sequence[str], *, workers: int) -> tuple[SweepPlan, Outcome]:
    """Simulate the recorded curves under other scheduler settings (``scheduler.grace_period=4``), in virtual time.

    Trials start in their recorded order. One that would have continued after the end of its record ends ``unknown``.

    Raises:
        SpecError: no such setting, or one that this sweep cannot have.
    """
    find_in(Path(plan.working_directory))
    other = _with(plan, settings, slots=workers)
    views = trial_views_of(state, other)
    curves = {
        trial.id: LearningCurve(
            values=[values_at(trial, epoch, other.spec) for epoch in sorted(trial.epochs)],
            unmeasured=_unmeasured(trial, other.spec),
            end="diverged" if trial.status in {"diverged", "failed"} else "unknown",
            seconds=[trial.epochs[epoch].get("time/epoch_s") or 0.0 for epoch in sorted(trial.epochs)],
            maximum=trial.budget,
            bracket=views[trial.id].bracket,
            stratum=views[trial.id].stratum,
            exempt=views[trial.id].exempt,
            cost=views[trial.id].cost,
        )
        for trial in state.trials.values()
        if trial.epochs
    }
    return other, simulate(curves, other.scheduler, workers=workers)


def winner(outcome: Outcome) -> str | None:
    """Return the best trial that a simulated sweep trained to its end."""
    views = outcome.views
    ended = {trial: views[trial].values[views[trial].maximum] for trial in outcome.completed_at}
    return order(ended)[0] if ended else None


def most_at_once(events: Iterable[Event]) -> int:
    """Return the largest number of trials that ran at the same time."""
    running, most = set[str](), 1
    for event in events:
        match event:
            case AttemptStarted():
                running.add(event.trial)
            case AttemptFailed() | TrialEnded():
                running.discard(event.trial)
            case _:
                pass
        most = max(most, len(running))
    return most


def _unmeasured(trial: Trial, spec: SweepSpec) -> frozenset[int]:
    """Return the epochs that did not measure every objective, at which no rung can be decided."""
    metrics = spec.objective.metrics
    epochs = trial.epochs.items()
    return frozenset(epoch for epoch, measured in epochs if any(metric not in measured for metric in metrics))


def _with(plan: SweepPlan, settings: Sequence[str], *, slots: int) -> SweepPlan:
    """Return the plan with other scheduler settings."""
    problems = [
        Problem(f"--what-if {setting}", f"must be {WHAT_IF}FIELD=VALUE, since the recorded curves are fixed")
        for setting in settings
        if not setting.startswith(WHAT_IF)
    ]
    if problems:
        raise SpecError(problems)
    changes_name = f"{WHAT_IF}name=pbt" in settings
    if changes_name or plan.spec.scheduler.name == "pbt":
        requirement = "must not be pbt to simulate other settings"
        reason = "a trial that continues another one with other values has no recorded curve"
        raise SpecError([Problem("scheduler.name", f"{requirement}, as {reason}; use ravel replay alone")])
    spec = override(plan.spec, settings)
    if spec.search.seeds > 1:
        requirement = "must be 1 to simulate other settings, as seeds that were not trained have no curve"
        raise SpecError([Problem("search.seeds", f"{requirement}; got {spec.search.seeds}; use ravel replay alone")])
    if spec.scheduler.rung_unit != "epochs":
        raise SpecError([Problem("scheduler.resource", "must be 'epochs' to simulate other settings")])
    touched = {setting.partition("=")[0].removeprefix(WHAT_IF) for setting in settings} & DECIDE_KIND
    pauses = promotes(spec, slots=slots) if touched else plan.pauses
    design = NEWEST if plan.rung_schedule is None else plan.rung_schedule.design
    is_budgeted = spec.scheduler.is_budgeted
    rungs = rung_schedule_of(spec, max_epochs=plan.max_epochs, design=design) if is_budgeted else None
    scheduler = scheduler_of(spec, pauses=pauses, max_epochs=plan.max_epochs, schedule=rungs)
    return SweepPlan(
        **{**dict(plan), "spec": spec, "pauses": pauses, "rungs": scheduler.rungs or (), "rung_schedule": rungs}
    )
