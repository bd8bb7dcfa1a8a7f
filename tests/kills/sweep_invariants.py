"""Invariants of a sweep, whatever happened to it: pure functions over its log, its plan and its MLflow database.

``violations(Evidence.read(folder, database))`` is empty for a sweep without a living driver, finished or interrupted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.analysis.replay import replay
from orchestrator.decisions.trial_views import passes_per_epoch
from orchestrator.errors import StorageError
from orchestrator.planning.changes.extension import extended, in_force
from orchestrator.planning.seeds import searched_state
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.state.events import (
    CheckpointSaved,
    CheckpointsDropped,
    EpochReported,
    OrderAccepted,
    OrderRefused,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
    TrialReopened,
)
from orchestrator.state.log_segments import segments
from orchestrator.state.sweep_state import OVER
from trainables.engine import checkpoint
from trainables.errors import CheckpointError
from trainables.metrics import CLASSIFIER_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sweep_evidence import Evidence

RUN_STATUS = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "paused": "SCHEDULED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
MOST_TAPS = 6
MINOR = frozenset(metric.name for metric in CLASSIFIER_METRICS if metric.minor)


def _trials_end_once(sweep: Evidence) -> Iterator[str]:
    over = dict[str, str]()
    for event in sweep.events:
        trial = getattr(event, "trial", None)
        if isinstance(event, TrialReopened):
            over.pop(trial, None)
        if isinstance(event, CheckpointsDropped):
            if trial not in over:
                yield f"{trial} has {event.kind} before it is over"
        elif trial in over:
            yield f"{trial} has {event.kind} after it {over[trial]}"
        if isinstance(event, TrialEnded) and event.status in OVER:
            over[event.trial] = event.status
    state = sweep.state
    if sweep.is_finished:
        yield from (f"{trial} never ended" for trial in state.trials if trial not in over)
    if state.ended is not None:
        yield from (f"{trial.id} runs after the sweep ended" for trial in state.with_status("running"))


def _epochs_are_contiguous(sweep: Evidence) -> Iterator[str]:
    begins = {trial.id: trial.descent.epoch for trial in sweep.state.trials.values() if trial.descent is not None}
    last = Counter[str](begins)
    for event in sweep.of_kind(EpochReported):
        if event.epoch != last[event.trial] + 1:
            yield f"{event.trial} reports epoch {event.epoch} after {last[event.trial]}"
        last[event.trial] = event.epoch


def _nothing_is_lost(sweep: Evidence) -> Iterator[str]:
    for number, (old, new) in enumerate(zip(sweep.before, sweep.events, strict=False), start=1):
        if old != new:
            yield f"line {number} was {old}, is {new}"
            return
    if len(sweep.events) < len(sweep.before):
        yield f"{len(sweep.before) - len(sweep.events)} of {len(sweep.before)} lines are gone"


def _each_trial_has_a_run(sweep: Evidence) -> Iterator[str]:
    runs = Counter(run.trial for run in sweep.runs)
    trained = {trial.id for trial in sweep.state.trials.values() if trial.attempts}
    expected = trained | ({None} if sweep.events else set())
    for trial in expected | set(runs):
        if runs[trial] != (trial in expected):
            yield f"{trial or 'the summary'} has {runs[trial]} runs"


def _no_point_is_there_twice(sweep: Evidence) -> Iterator[str]:
    for run in sweep.runs:
        counts = Counter((key, step) for key, step, _ in run.points)
        yield from (f"{run.trial} has {key} at {step} {n} times" for (key, step), n in counts.items() if n > 1)


def _mlflow_has_the_metrics_of_the_log(sweep: Evidence) -> Iterator[str]:
    """MLflow may lack a metric of a trial entirely if it is minor or one of many taps; it has no other value."""
    trials = sweep.state.trials
    for run in sweep.runs:
        if run.trial not in trials:
            continue
        logged = {
            (name, epoch, value)
            for epoch, metrics in trials[run.trial].epochs.items()
            for name, value in metrics.items()
            if value is not None
        }
        spared = _spared({name for name, *_ in logged}) - {name for name, *_ in run.points}
        points = set(run.points)
        yield from (f"{run.trial} lacks {point}" for point in logged - points if point[0] not in spared)
        yield from (f"{run.trial} has {point}, which the log lacks" for point in points - logged)


def _spared(names: set[str]) -> set[str]:
    taps = {name for name in names if name.startswith("entanglement/")}
    temperatures = {name for name in names if name.startswith("temperature/")}
    return (names & MINOR) | temperatures | (taps if len(taps) > MOST_TAPS else set())


def _runs_show_how_trials_ended(sweep: Evidence) -> Iterator[str]:
    """No run is RUNNING, as no driver is."""
    state = sweep.state
    for run in sweep.runs:
        trial = state.trials.get(run.trial or "")
        expected = RUN_STATUS.get(trial.status) if trial is not None and state.ended is not None else None
        if run.status == "RUNNING" or expected not in {None, run.status}:
            yield f"the run of {run.trial or 'the summary'} is {run.status}, the trial {trial and trial.status}"


def _replay_agrees(sweep: Evidence) -> Iterator[str]:
    for other in replay(sweep.plan, sweep.events).differences:
        yield f"line {other.event} ({other.kind}): {other.recorded} was recorded, {other.replayed} replayed"


def _orders_are_answered_and_carried_out_once(sweep: Evidence) -> Iterator[str]:
    answers = Counter(event.order for event in sweep.events if isinstance(event, OrderAccepted | OrderRefused))
    yield from (f"order {order} has {count} answers" for order, count in answers.items() if count > 1)
    reopened = Counter((event.order, event.trial) for event in sweep.of_kind(TrialReopened))
    yield from (
        f"{trial} was reopened {count} times by {order}" for (order, trial), count in reopened.items() if count > 1
    )
    if sweep.is_finished and (sweep.state.to_stop or sweep.state.to_reopen):
        yield f"left to stop: {list(sweep.state.to_stop)}, to reopen: {list(sweep.state.to_reopen)}"


def _the_budget_is_kept(sweep: Evidence) -> Iterator[str]:
    state = sweep.state
    plan = in_force(sweep.plan, state)
    count = sum(trial.descent is None for trial in searched_state(plan, state).trials.values())
    if count > plan.spec.search.num_trials:
        yield f"{count} trials, search.num_trials is {plan.spec.search.num_trials}"
    for trial in state.trials.values():
        if trial.epoch > min(trial.budget, plan.max_epochs):
            yield f"{trial.id} has {trial.epoch} epochs, its budget is {min(trial.budget, plan.max_epochs)}"
    if isinstance(plan.scheduler, BudgetedAsha):
        schedule = plan.scheduler.schedule
        searched = [trial for trial in state.trials.values() if trial.origin != "baseline"]
        costs = [passes_per_epoch(trial.config) if schedule.is_priced else 1 for trial in searched]
        epochs = [min(trial.epoch, trial.blind_from or trial.epoch) for trial in searched]
        spent = sum(cost * count for cost, count in zip(costs, epochs, strict=True))
        budget = schedule.budget * sum(costs) / max(1, len(costs))
        if schedule.passes is not None:
            budget = max(schedule.passes, (*schedule.rungs, 0)[0] * sum(costs))
        most = budget + (schedule.maximum * max(costs, default=1) if schedule.is_priced else 0)
        if spent > most:
            yield f"{spent} {schedule.resource}, those of the rungs are {budget}"
    gpu_s, at, budget = 0.0, sweep.plan, sweep.plan.spec.budget
    for event in sweep.events:
        if isinstance(event, EpochReported):
            gpu_s += event.metrics.get("cost/gpu_s") or 0.0
        elif isinstance(event, OrderAccepted):
            at = extended(at, event)
            budget = at.spec.budget
        elif isinstance(event, TrialCreated | TrialPromoted):
            wall_clock_s = event.time - sweep.events[0].time
            if budget.wall_clock_s is not None and wall_clock_s >= budget.wall_clock_s:
                yield f"{event.trial}: {event.kind} after {wall_clock_s} s of {budget.wall_clock_s}"
            if budget.gpu_s is not None and gpu_s > budget.gpu_s:
                yield f"{event.trial}: {event.kind} after {gpu_s} GPU seconds of {budget.gpu_s}"


def _the_lock_is_free(sweep: Evidence) -> Iterator[str]:
    generations = [event.generation for event in sweep.of_kind(SweepStarted)]
    if generations != sorted(set(generations)) or len(sweep.locks) < len(generations):
        yield f"{len(sweep.locks)} lock records for the generations {generations}"
    holder = sweep.locks[-1] if sweep.locks else {"released": True}
    if not holder["released"] and Path(f"/proc/{holder['pid']}").exists():
        yield f"process {holder['pid']} holds it"


def _checkpoints_are_readable(sweep: Evidence) -> Iterator[str]:
    """Yield the last checkpoints that cannot be read, and files of dropped ones."""
    state = sweep.state
    last = {event.trial: event for event in sweep.of_kind(CheckpointSaved)}
    for trial in state.trials.values():
        for event in trial.dropped:
            if (sweep.folder.path / event.path).exists():
                yield f"{trial.id}: {event.path} was dropped, and is there"
            last.pop(trial.id, None)
        for event in trial.checkpoints[-1:]:
            last[trial.id] = event
    for trial, event in last.items():
        try:
            with sweep.checkpoint(event.path) as path:
                epoch = checkpoint.load(path).epoch
        except (CheckpointError, StorageError) as error:
            yield f"{trial}: {error}"
        else:
            if epoch != event.epoch:
                yield f"{trial}: {event.path} is of epoch {epoch}, not {event.epoch}"
    for trial in state.with_status("completed"):
        if not trial.has_final_checkpoint and not trial.is_dropped:
            yield f"{trial.id} completed without a checkpoint of its last epoch"


def _s3_has_the_log(sweep: Evidence) -> Iterator[str]:
    if sweep.in_s3 is None:
        return
    here = {segment.path.name: segment.path.read_bytes() for segment in segments(sweep.folder.events)}
    for name in sorted({**here, **sweep.in_s3}):
        if here.get(name, b"") != sweep.in_s3.get(name, b""):
            sizes = len(here.get(name, b"")), len(sweep.in_s3.get(name, b""))
            yield f"{name} has {sizes[0]} bytes here, {sizes[1]} in S3, or others"


def _no_folder_of_ray_is_left(sweep: Evidence) -> Iterator[str]:
    yield from sweep.left


INVARIANTS = {
    "trials end once": _trials_end_once,
    "epochs are contiguous": _epochs_are_contiguous,
    "nothing is lost": _nothing_is_lost,
    "each trial has a run": _each_trial_has_a_run,
    "no point is there twice": _no_point_is_there_twice,
    "MLflow has the metrics of the log": _mlflow_has_the_metrics_of_the_log,
    "runs show how trials ended": _runs_show_how_trials_ended,
    "replay agrees": _replay_agrees,
    "orders are answered and carried out once": _orders_are_answered_and_carried_out_once,
    "the budget is kept": _the_budget_is_kept,
    "the lock is free": _the_lock_is_free,
    "checkpoints are readable": _checkpoints_are_readable,
    "S3 has the log": _s3_has_the_log,
    "no folder of Ray is left": _no_folder_of_ray_is_left,
}
OF_EXPORTS = frozenset(
    {"each trial has a run", "MLflow has the metrics of the log", "runs show how trials ended", "S3 has the log"}
)
"""Invariants that hold only after ``ravel sync`` if MLflow or S3 lagged when the driver ended."""


def violations(sweep: Evidence) -> dict[str, list[str]]:
    """Return what violates each invariant that does not hold."""
    found = {name: list(invariant(sweep)) for name, invariant in INVARIANTS.items()}
    return {name: texts for name, texts in found.items() if texts}
