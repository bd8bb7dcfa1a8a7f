"""Tables of a sweep: a row for each trial, and a row for each epoch of each trial. Pure, and exact.

A metric that was not finite is NaN, as the log has null for it; one that was not measured is None. Names of parameters
begin with ``params.``, those of metrics with ``metrics.`` and those of objectives with ``objective.``, so that none is
the name of another column.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.planning.seeds import configuration_of, seed_index_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.export.history import SweepHistory, TrialHistory

Cell: TypeAlias = "str | int | float | bool | None"
GPU_S, EPOCH_S = "cost/gpu_s", "time/epoch_s"
TEXT_FOR_PEOPLE = frozenset({"reason", "host"})
"""Columns of free text, which no program computes with."""


@dataclass(frozen=True)
class Table:
    """Columns by name, all of one length."""

    name: str
    columns: Mapping[str, list[Cell]]

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """Cells by row."""
        return list(zip(*self.columns.values(), strict=True))


def tables(history: SweepHistory) -> tuple[Table, Table]:
    """Return the table of trials and the table of reports."""
    return trials_table(history), reports_table(history)


def trials_table(history: SweepHistory) -> Table:
    """Return a row for each trial: id and state, parameters, objectives, then all else."""
    objectives, epoch = history.plan.spec.objective.all, history.epoch
    rows = []
    for entry in history.trials:
        trial, metrics = entry.trial, entry.metrics(epoch)
        rows.append(
            {
                "trial": trial.id,
                "state": trial.status,
                **{f"params.{name}": trial.point.get(name) for name in history.parameters},
                **{f"objective.{item.metric}": entry.score(item, epoch) for item in objectives},
                "objective_epoch": entry.epoch_of(objectives[0], epoch),
                **_numbers_of(entry),
                **(_place_of(trial.id) if history.plan.spec.search.seeds > 1 else {}),
                **{f"metrics.{name}": _measured(metrics, name) for name in history.metrics},
                "config": json.dumps(trial.config, ensure_ascii=False, allow_nan=True),
            }
        )
    first = {"trial": None, "state": None, **{f"params.{name}": None for name in history.parameters}}
    return Table("trials", _columns(rows, first))


def _numbers_of(entry: TrialHistory) -> dict[str, Cell]:
    """Return epochs, seed, times, costs and the reason of an end of one trial."""
    trial = entry.trial
    return {
        "epoch": trial.epoch,
        "budget": trial.budget,
        "rung": trial.stopping_rung,
        "origin": trial.origin,
        "seed": trial.config.get("seed"),
        "attempts": trial.attempts,
        "failed_attempts": len(trial.failures),
        "created_at": entry.created_at,
        "started_at": entry.started_at,
        "ended_at": entry.ended_at,
        "training_s": entry.total(EPOCH_S),
        "gpu_s": entry.total(GPU_S),
        "cause": entry.cause,
        "reason": entry.reason,
    }


def _place_of(trial: str) -> dict[str, Cell]:
    """Return the configuration of a trial and the number of its seed, in a sweep with several seeds."""
    return {"configuration": configuration_of(trial), "seed_index": seed_index_of(trial)}


def reports_table(history: SweepHistory) -> Table:
    """Return a row for each trial and epoch: its metrics, the objectives first."""
    rows: list[dict[str, Cell]] = [
        {
            "trial": entry.trial.id,
            "epoch": epoch,
            **{f"metrics.{name}": _measured(report.metrics, name) for name in history.metrics},
            "attempt": report.attempt,
            "since_restore": report.since_restore,
            "time": report.time,
            "host": report.host,
        }
        for entry in history.trials
        for epoch, report in sorted(entry.reports.items())
    ]
    names = ("trial", "epoch", *(f"metrics.{name}" for name in history.metrics), "attempt", "since_restore", "time")
    return Table("reports", _columns(rows, dict.fromkeys((*names, "host"))))


def _measured(metrics: Mapping[str, float | None], name: str) -> float | None:
    """Return a metric: NaN if it was not finite, None if it was not measured."""
    value = metrics.get(name)
    return math.nan if value is None and name in metrics else value


def _columns(rows: list[dict[str, Any]], names: Mapping[str, Any]) -> dict[str, list[Cell]]:
    """Return rows as columns; of a table without a row, these names."""
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else names)}
