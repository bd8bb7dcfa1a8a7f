"""Sweep as TensorBoard's event files: the one door to tensorboard. A run for each trial, and one for the experiment.

Each metric of a trial is a scalar by epoch, at the time of its report. The page HPARAMS shows parameters and the
scalars ``objective/<metric>``. These have one value, only where trials may be compared: after a full budget, or at
``--epoch``. Scalars of TensorBoard are float32; a metric that was not finite is NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator.export.libraries import library

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.export.history import SweepHistory, TrialHistory

EXTRA = "tensorboard"
VERSION = "brain.Event:2"


def write_events(history: SweepHistory, folder: Path) -> None:
    """Write event files into a folder, one below ``<trial>/`` for each trial.

    Raises:
        MissingExtraError: tensorboard is not installed; names the extra.
    """
    hparams = library("tensorboard.plugins.hparams.summary_v2", extra=EXTRA)
    metrics = [hparams.Metric(_tag(name)) for name in history.plan.spec.objective.metrics]
    names = [hparams.HParam(name) for name in dict.fromkeys((*history.parameters, "seed"))]
    created_at = history.plan.created_at
    config = hparams.hparams_config_pb(names, metrics, time_created_secs=created_at)
    _write(folder, created_at, [(created_at, 0, config)])
    for entry in history.trials:
        begun_at = entry.started_at or entry.created_at
        start = hparams.hparams_pb(_hparams(entry), trial_id=entry.trial.id, start_time_secs=begun_at)
        events = [(begun_at, 0, start), *_scalars(entry), *_objectives(entry, history)]
        _write(folder / entry.trial.id, begun_at, events)


def _hparams(entry: TrialHistory) -> dict[str, Any]:
    """Return the parameters that a trial has, and its seed."""
    parameters = {"seed": entry.trial.config.get("seed"), **entry.trial.point}
    return {name: value for name, value in parameters.items() if value is not None}


def _scalars(entry: TrialHistory) -> Iterable[tuple[float, int, Any]]:
    scalar_pb = library("tensorboard.plugins.scalar.summary_v2", extra=EXTRA).scalar_pb
    for epoch, report in sorted(entry.reports.items()):
        for name, value in report.metrics.items():
            yield report.time, epoch, scalar_pb(name, math.nan if value is None else value)


def _objectives(entry: TrialHistory, history: SweepHistory) -> Iterable[tuple[float, int, Any]]:
    """Yield the objectives of a trial that may be compared."""
    scalar_pb = library("tensorboard.plugins.scalar.summary_v2", extra=EXTRA).scalar_pb
    for item in history.plan.spec.objective.all:
        score, epoch = entry.score(item, history.epoch), entry.epoch_of(item, history.epoch)
        if epoch is not None and (history.epoch is not None or entry.trial.status == "completed"):
            yield entry.reports[epoch].time, epoch, scalar_pb(_tag(item.metric), score)


def _tag(metric: str) -> str:
    return f"objective/{metric}"


def _write(folder: Path, created_at: float, events: Iterable[tuple[float, int, Any]]) -> None:
    """Write one event file: (time, step, summary) for each event."""
    event = library("tensorboard.compat.proto.event_pb2", extra=EXTRA).Event
    record_writer = library("tensorboard.summary.writer.record_writer", extra=EXTRA)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"events.out.tfevents.{created_at:010.0f}.ravel").open("wb") as file:
        records = record_writer.RecordWriter(file)
        records.write(event(wall_time=created_at, file_version=VERSION).SerializeToString())
        for time, step, summary in events:
            records.write(event(wall_time=time, step=step, summary=summary).SerializeToString())
