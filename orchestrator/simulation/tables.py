"""Table of recorded learning curves: points of one space, each trained to its end under one or more seeds."""

from __future__ import annotations

import gzip
import json
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.trial_views import passes_per_epoch
from orchestrator.errors import SpecError, quoted
from search_spaces import Problem, SearchSpace, SpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SECONDS = "time/epoch_s"
LEAST_POINTS = 16
"""Points with whole curves that a table must have, to predict other points from them."""
NOT_MEASURED = frozenset({SECONDS, "cost/gpu_s", "train/loss"})
"""Metrics that describe the training of an epoch, and that no sweep is decided by."""


@dataclass(frozen=True)
class Recorded:
    """One trial of a table: its point, its training seed, and each metric by epoch.

    A trial that diverged has curves that are shorter than a whole one.
    """

    point: Mapping[str, Any]
    seed: int
    curves: Mapping[str, tuple[float, ...]]
    diverged: bool = False


@dataclass(frozen=True)
class Table:
    """Recorded trials of one space.

    Args of note: ``fixed`` are the parameters that all trials share, ``epochs`` those of a whole run.
    """

    name: str
    space: SearchSpace
    fixed: Mapping[str, Any]
    trials: tuple[Recorded, ...]
    epochs: int

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that every trial measured at each epoch, and by which a sweep may be decided."""
        names = [name for name in self.trials[0].curves if name not in NOT_MEASURED]
        return tuple(name for name in names if all(name in trial.curves for trial in self.trials))

    @cached_property
    def by_point(self) -> list[list[Recorded]]:
        """Trials of each point, in the order of the table."""
        points: dict[str, list[Recorded]] = {}
        for trial in self.trials:
            points.setdefault(json.dumps(trial.point, sort_keys=True), []).append(trial)
        return list(points.values())

    @cached_property
    def pass_s(self) -> float:
        """Median seconds of one pass over the training set; 1 where seconds were not recorded."""
        seconds = [
            epoch_s / self.passes(trial.point) for trial in self.trials for epoch_s in trial.curves.get(SECONDS, ())
        ]
        return statistics.median(seconds) if seconds else 1.0

    def passes(self, point: Mapping[str, Any]) -> int:
        """Return the cost of an epoch of a point, in gradient evaluations of each training example."""
        return passes_per_epoch({**self.fixed, **point})


def load_table(path: str | Path) -> Table:
    """Load a table that ``benchmarks/scheduling/record.py`` wrote.

    Raises:
        SpecError: the file cannot be read, or is no such table.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SpecError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    try:
        document = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        return table_of(document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OSError, SpaceError) as error:
        requirement = "must be a recorded table (name, fixed, space, trials with point, seed, status and curves)"
        raise SpecError([Problem(str(path), f"{requirement}; {type(error).__name__}: {error}")]) from None


def require(table: Table, metrics: Iterable[str]) -> None:
    """Check that a table measured metrics, of enough points to predict more.

    Raises:
        SpecError: it did not.
    """
    whole = sum(any(not trial.diverged for trial in trials) for trials in table.by_point)
    problems = [
        Problem("--objective", f"must be measured by {table.name} ({', '.join(table.metrics)}), got {quoted(metric)}")
        for metric in metrics
        if metric not in table.metrics
    ]
    if whole < LEAST_POINTS:
        problems.append(Problem(table.name, f"must have at least {LEAST_POINTS} points with whole curves, got {whole}"))
    if problems:
        raise SpecError(problems)


def table_of(document: Mapping[str, Any]) -> Table:
    """Return the table in a document."""
    trials = tuple(
        Recorded(
            point=trial["point"],
            seed=trial["seed"],
            curves={name: tuple(map(float, values)) for name, values in trial["curves"].items()},
            diverged=trial["status"] != "completed",
        )
        for trial in document["trials"]
    )
    epochs = max(_length(trial.curves.values()) for trial in trials)
    space = SearchSpace.from_dict(document["space"])
    return Table(document["name"], space, document["fixed"], trials, epochs)


def _length(curves: Any) -> int:
    lengths: Sequence[int] = [len(curve) for curve in curves]
    if len(set(lengths)) != 1:
        raise ValueError(f"curves of one trial must have the same length, got {sorted(set(lengths))}")
    return lengths[0]
