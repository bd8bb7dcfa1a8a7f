"""Runs of any MLflow experiment as a sweep of ours: a plan and an event log, to report on.

Every trial of it is over, so that a driver finds no work in it; its own experiment in MLflow is one that is not there
yet, so that what is synced are copies, and never the runs it came from.
"""

from __future__ import annotations

import heapq
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import SpecError
from orchestrator.mlflow_import.runs import value_of
from orchestrator.planning.plan import make_plan
from orchestrator.planning.seeds import trial_id
from orchestrator.spec.model import Budget, Failures, SchedulerSpec
from orchestrator.state import sweep_lock
from orchestrator.state.event_log import EventLog
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialCreated, TrialEnded
from orchestrator.state.s3_mirror import Mirror
from orchestrator.state.sweep_lookup import create_folder
from orchestrator.state.sweep_state import OVER
from search_spaces import Problem, adopt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from orchestrator.mlflow_import.runs import Run, Values
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Event, TrialStatus
    from orchestrator.state.sweep_folder import SweepFolder
    from search_spaces import SearchSpace

ORIGINS = ("baseline", "point", "search")
MOST_CHARACTERS = 63


class Epoch(NamedTuple):
    """What a run measured at one step; ``number`` counts from 1."""

    number: int
    time: float
    metrics: dict[str, float | None]


class Imported(NamedTuple):
    """A run, its epochs in order, and the trial it becomes."""

    run: Run
    epochs: list[Epoch]
    trial: str


def import_sweep(
    trials: Sequence[Imported], spec: SweepSpec, *, storage: str, now: datetime, working_directory: Path
) -> SweepFolder:
    """Write the runs down as a sweep that is over; the plan last, without which a folder is no sweep.

    Args:
        trials: from ``as_trials``.
        spec: says the objective and the space; how it searches, stops and spends does not matter any more.
        storage: where sweeps are kept: a folder, or a prefix in S3.
        now: names the folder.
        working_directory: where a relative store of the spec lies.
    """
    name = f"imported-{spec.name}"[:MOST_CHARACTERS]
    folder = create_folder(storage, name, now=now)
    over = _over(spec, name=name, experiment=folder.sweep, num_trials=len(trials))
    plan = make_plan(over, folder, slots=1, now=now.timestamp(), working_directory=working_directory)
    most = max(_budget(each) for each in trials)
    held = sweep_lock.acquire(folder)
    try:
        with EventLog(folder.events) as log:
            for event in events_of(trials, spec):
                log.append(event)
        if folder.remote is not None:
            Mirror(folder, folder.remote).catch_up()
        plan.model_copy(update={"max_epochs": most}).save(folder)
    finally:
        held.release()
    return folder


def as_trials(
    runs: Sequence[Run], curves: Sequence[dict[str, Values]], *, metric: str, objective: str
) -> list[Imported]:
    """The runs as trials: their steps as epochs from 1 on, and their ``metric`` as the objective too.

    A sweep of ours keeps the ids of its trials; other runs are numbered in the order they began.

    Raises:
        SpecError: no run measured the metric, or the runs have an objective of their own beside it.
    """
    if not any(metric in run.metrics for run in runs):
        there = ", ".join(sorted({name for run in runs for name in run.metrics})) or "none"
        raise SpecError([Problem("--metric", f"no run measured {metric!r}; there are {there}")])
    if metric != objective and any(objective in run.metrics for run in runs):
        law = f"the runs measured {objective!r} too, which is the objective of the spec; leave --metric out"
        raise SpecError([Problem("--metric", law)])
    first = min((step for curve in curves for values in curve.values() for step in values), default=1)
    named = [{**curve, objective: curve[metric]} if metric in curve else curve for curve in curves]
    return [
        Imported(run, _epochs(curve, shift=max(0, 1 - first)), trial)
        for run, curve, trial in zip(runs, named, _ids(runs), strict=True)
    ]


def events_of(trials: Sequence[Imported], spec: SweepSpec) -> Iterator[Event]:
    """The log of a sweep that these runs were, in the order things happened.

    What a run tells out of order, such as a metric timed after its end, is put at the time of what came before it.
    """
    told = heapq.merge(*(_in_order(_events(each, spec)) for each in trials), key=lambda event: event.time)
    events = list(told)
    yield SweepStarted(time=events[0].time, generation=1, host=socket.gethostname(), pid=os.getpid())
    yield from events
    yield SweepEnded(time=events[-1].time, status="completed", reason="imported from MLflow")


def _events(imported: Imported, spec: SweepSpec) -> Iterator[Event]:
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


def _end(imported: Imported, *, objective: str) -> TrialEnded:
    """How a trial ended: always for good."""
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


def _status(run: Run, epochs: Sequence[Epoch], objective: str) -> TrialStatus:
    """How a run of others ended: one that was killed, or goes on, stopped where it is."""
    if run.status != "FINISHED":
        return "failed" if run.status == "FAILED" else "stopped"
    measured = [epoch.metrics[objective] for epoch in epochs if objective in epoch.metrics]
    return "diverged" if measured and measured[-1] is None else "completed"


def _budget(imported: Imported) -> int:
    """The epochs of a full run: what the run says, if that can be, else those it has."""
    reached = max((epoch.number for epoch in imported.epochs), default=1)
    told = value_of(imported.run.parameters.get("epochs", ""))
    return told if type(told) is int and told >= reached else reached


def _epochs(curve: dict[str, Values], *, shift: int) -> list[Epoch]:
    steps = sorted({step for values in curve.values() for step in values})
    return [
        _epoch({name: values[step] for name, values in curve.items() if step in values}, step + shift) for step in steps
    ]


def _epoch(measured: dict[str, tuple[float | None, float]], number: int) -> Epoch:
    at = max(time for _, time in measured.values())
    return Epoch(number, at, {name: value for name, (value, _) in measured.items()})


def _in_order(events: Iterator[Event]) -> Iterator[Event]:
    now = 0.0
    for event in events:
        now = max(now, event.time)
        yield event.model_copy(update={"time": now})


def _ids(runs: Sequence[Run]) -> list[str]:
    own = [run.tags.get("ravel.trial", "").rpartition("/") for run in runs]
    is_one_sweep = len({sweep for sweep, _, _ in own}) == 1 and len({trial for _, _, trial in own} - {""}) == len(runs)
    return [trial for _, _, trial in own] if is_one_sweep else [trial_id(index) for index in range(len(runs))]


def _point(config: dict[str, Any], space: SearchSpace) -> Point:
    """The searched part of a configuration: as the space has it where it lies inside, else as it is."""
    given = {name: value for name, value in config.items() if name in space.names}
    adoption = adopt(space, [given])
    return adoption.points[0] if adoption.reports[0].outcome == "kept" else given


def _over(spec: SweepSpec, *, name: str, experiment: str, num_trials: int) -> SweepSpec:
    """A spec under which a sweep of so many trials has nothing left to do."""
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
