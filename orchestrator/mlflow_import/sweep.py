"""Runs of any MLflow experiment as a sweep of ours: a plan and an event log, for reports.

Every trial of the sweep has ended, so that a driver finds no work in it. It gets an MLflow experiment of its own, so
that a sync writes copies, and never the runs that it came from.
"""

from __future__ import annotations

import heapq
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import SpecError
from orchestrator.mlflow_import.runs import value_of
from orchestrator.planning.plan import make_plan
from orchestrator.planning.seeds import trial_ids
from orchestrator.spec.model import Budget, Failures, SchedulerSpec
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_lookup import create_folder, new_id
from orchestrator.state.sweep_state import IMPORTED, OVER
from search_spaces import Problem, adopt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from orchestrator.mlflow_import.runs import ImportedRun, Values
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Event, TrialStatus
    from orchestrator.state.sweep_folder import SweepFolder
    from search_spaces import SearchSpace

ORIGINS = ("baseline", "point", "search")
MOST_CHARACTERS = 63


class ImportedEpoch(NamedTuple):
    """Metrics of a run at one step; ``number`` counts from 1."""

    number: int
    time: float
    metrics: dict[str, float | None]


class ImportedTrial(NamedTuple):
    """A run, its epochs in order, and the id of its trial."""

    run: ImportedRun
    epochs: list[ImportedEpoch]
    trial: str


def import_sweep(
    trials: Sequence[ImportedTrial], spec: SweepSpec, *, storage: str, now: datetime, working_directory: Path
) -> SweepFolder:
    """Write the runs as a sweep that has ended. The plan is written last: without a plan, a folder is no sweep.

    Args:
        trials: Trials from ``as_trials``.
        spec: Spec with the objective and the space; its search, scheduler and budget are ignored.
        storage: Storage of sweeps: a folder, or a prefix in S3.
        now: Time for the folder's name.
        working_directory: Folder that a relative store of the spec is relative to.
    """
    name = f"imported-{spec.name}"[:MOST_CHARACTERS]
    folder = create_folder(storage, new_id(name, now=now))
    over = _over(spec, name=name, experiment=folder.sweep, num_trials=len(trials))
    plan = make_plan(over, folder, slots=1, now=now.timestamp(), working_directory=working_directory)
    max_epochs = max(_budget(trial) for trial in trials)
    lock = sweep_lock.acquire(folder)
    try:
        with EventLog(folder.events) as log:
            for event in events_of(trials, spec):
                log.append(event)
        if folder.remote is not None:
            Mirror(folder, folder.remote).catch_up()
        plan.model_copy(update={"max_epochs": max_epochs}).save(folder)
    finally:
        lock.release()
    return folder


def as_trials(
    runs: Sequence[ImportedRun], curves: Sequence[dict[str, Values]], *, metric: str, objective: str
) -> list[ImportedTrial]:
    """Return the runs as trials: steps become epochs from 1 on, and ``metric`` becomes the objective too.

    Trials of a sweep of ours keep their ids; other runs are numbered in the order of their start.

    Raises:
        SpecError: no run measured the metric, or the runs measured the objective too.
    """
    if not any(metric in run.metrics for run in runs):
        names = ", ".join(sorted({name for run in runs for name in run.metrics})) or "none"
        raise SpecError([Problem("--metric", f"no run measured {metric!r}; there are {names}")])
    if metric != objective and any(objective in run.metrics for run in runs):
        problem = f"the runs measured {objective!r} too, which is the objective of the spec; leave --metric out"
        raise SpecError([Problem("--metric", problem)])
    first = min((step for curve in curves for values in curve.values() for step in values), default=1)
    named = [{**curve, objective: curve[metric]} if metric in curve else curve for curve in curves]
    return [
        ImportedTrial(run, _epochs(curve, shift=max(0, 1 - first)), trial)
        for run, curve, trial in zip(runs, named, _ids(runs), strict=True)
    ]


def events_of(trials: Sequence[ImportedTrial], spec: SweepSpec) -> Iterator[Event]:
    """Yield the events of the runs as the log of a sweep, in the order of their times.

    If an event of a run is out of order, as a metric with a time after the run's end, it gets the time of the event
    before it.
    """
    events = list(heapq.merge(*(_in_order(_events(trial, spec)) for trial in trials), key=lambda event: event.time))
    yield SweepStarted(time=events[0].time, generation=1, host=socket.gethostname(), pid=os.getpid())
    yield from events
    yield SweepEnded(time=events[-1].time, status="completed", reason=IMPORTED)


def _events(imported: ImportedTrial, spec: SweepSpec) -> Iterator[Event]:
    run, trial = imported.run, imported.trial
    domains = spec.space.parameters
    config = {name: value_of(text, domains.get(name)) for name, text in run.parameters.items()}
    origin = run.tags.get("ravel.origin")
    yield TrialCreated(
        time=run.started,
        trial=trial,
        origin=origin if origin in ORIGINS else "point",
        point=_point(config, spec.space),
        config={**config, "epochs": _budget(imported)},
    )
    yield AttemptStarted(time=run.started, trial=trial, attempt=1)
    for count, epoch in enumerate(imported.epochs, start=1):
        yield EpochReported(
            time=epoch.time, trial=trial, attempt=1, epoch=epoch.number, since_restore=count, metrics=epoch.metrics
        )
    yield _end(imported, objective=spec.objective.metric)


def _end(imported: ImportedTrial, *, objective: str) -> TrialEnded:
    """Return the end of a trial, which is always final."""
    run, last = imported.run, imported.epochs[-1] if imported.epochs else None
    own, rung = run.tags.get("ravel.status"), run.tags.get("ravel.rung", "")
    status: TrialStatus = own if own in OVER else _status(run, imported.epochs, objective)  # type: ignore[assignment]
    reached = last.number if last else 0
    reason = [run.tags.get("ravel.reason", ""), f"MLflow's run {run.name} ({run.id}), {run.status}"]
    return TrialEnded(
        time=run.ended or (last.time if last else run.started),
        trial=imported.trial,
        status=status,
        rung=(int(rung) if rung.isdecimal() else reached) if status == "stopped" else None,
        reason="; ".join(filter(None, reason)),
    )


def _status(run: ImportedRun, epochs: Sequence[ImportedEpoch], objective: str) -> TrialStatus:
    """Return the status of a run that is not ours: one that was killed or is still running counts as stopped."""
    if run.status != "FINISHED":
        return "failed" if run.status == "FAILED" else "stopped"
    measured = [epoch.metrics[objective] for epoch in epochs if objective in epoch.metrics]
    return "diverged" if measured and measured[-1] is None else "completed"


def _budget(imported: ImportedTrial) -> int:
    """Return the epochs of a full run: the run's own parameter if it is possible, or else the epochs it has."""
    reached = max((epoch.number for epoch in imported.epochs), default=1)
    epochs = value_of(imported.run.parameters.get("epochs", ""))
    return epochs if type(epochs) is int and epochs >= reached else reached


def _epochs(curve: dict[str, Values], *, shift: int) -> list[ImportedEpoch]:
    steps = sorted({step for values in curve.values() for step in values})
    return [
        _epoch({name: values[step] for name, values in curve.items() if step in values}, step + shift) for step in steps
    ]


def _epoch(measured: dict[str, tuple[float | None, float]], number: int) -> ImportedEpoch:
    at = max(time for _, time in measured.values())
    return ImportedEpoch(number, at, {name: value for name, (value, _) in measured.items()})


def _in_order(events: Iterator[Event]) -> Iterator[Event]:
    now = 0.0
    for event in events:
        now = max(now, event.time)
        yield event.model_copy(update={"time": now})


def _ids(runs: Sequence[ImportedRun]) -> list[str]:
    own = [run.tags.get("ravel.trial", "").rpartition("/") for run in runs]
    is_one_sweep = len({sweep for sweep, _, _ in own}) == 1 and len({trial for _, _, trial in own} - {""}) == len(runs)
    return [trial for _, _, trial in own] if is_one_sweep else trial_ids(len(runs))


def _point(config: dict[str, Any], space: SearchSpace) -> Point:
    """Return the searched part of a configuration: as the space writes it if it is inside, or else as it is."""
    point = {name: value for name, value in config.items() if name in space.names}
    adoption = adopt(space, [point])
    return adoption.points[0] if adoption.reports[0].outcome == "kept" else point


def _over(spec: SweepSpec, *, name: str, experiment: str, num_trials: int) -> SweepSpec:
    """Return a spec that leaves a sweep of so many trials no work."""
    return spec.model_copy(
        update={
            "name": name,
            "search": spec.search.model_copy(update={"num_trials": num_trials, "points": ()}),
            "scheduler": SchedulerSpec(name="none"),
            "failures": Failures(allowed=num_trials),
            "budget": Budget(),
            "tracking": spec.tracking.model_copy(update={"experiment": experiment}),
        }
    )
