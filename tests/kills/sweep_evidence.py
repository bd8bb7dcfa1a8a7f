"""Evidence of what a sweep left: its plan, its log, its runs in MLflow's database, its lock records, its checkpoints.

The database is read by SQL: what MLflow's own client would smooth over is seen.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.planning.plan import SweepPlan
from orchestrator.state.event_log import read_events
from orchestrator.state.events import SweepEnded
from orchestrator.state.s3_mirror import LOG, download_folder
from orchestrator.state.sweep_state import SweepState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.state.events import Event
    from orchestrator.state.sweep_folder import SweepFolder

TABLES = {
    "tags": "select run_uuid, key, value from tags where run_uuid in ({runs})",
    "metrics": "select run_uuid, key, step, value from metrics where run_uuid in ({runs})",
    "runs": "select run_uuid, status from runs where lifecycle_stage = 'active' and run_uuid in ({runs})",
}
OF_SWEEP = "select run_uuid from tags where key = 'ravel.sweep' and value = '{sweep}'"


@dataclass(frozen=True)
class Run:
    """A run of MLflow: ``trial`` is None for the sweep's summary; ``points`` are (key, step, value)."""

    id: str
    trial: str | None
    status: str
    points: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True)
class Evidence:
    """What a sweep left behind.

    Args:
        folder: Its files.
        plan: Its plan.
        events: Its log.
        runs: Its runs in MLflow.
        locks: Its lock records, oldest first.
        before: An earlier log of it, of which the log must be a continuation.
        left: Paths of Ray's temporary folders whose driver is gone.
        in_s3: Content of the parts of its log in S3, by name; None if it is kept in a folder.
    """

    folder: SweepFolder
    plan: SweepPlan
    events: tuple[Event, ...]
    runs: tuple[Run, ...]
    locks: tuple[dict[str, Any], ...] = ()
    before: tuple[Event, ...] = ()
    left: tuple[str, ...] = ()
    in_s3: Mapping[str, bytes] | None = None

    @classmethod
    def read(
        cls, folder: SweepFolder, database: Path | str, *, before: tuple[Event, ...] = (), temporary: Path | None = None
    ) -> Evidence:
        """Read a sweep without a driver; ``temporary`` is the folder of temporary files that its drivers had.

        ``database`` is a file of SQLite, or the address of a PostgreSQL.
        """
        left = () if temporary is None else tuple(str(path) for path in sorted(temporary.glob("ravel-ray-*")))
        return cls(
            folder=folder,
            plan=SweepPlan.load(folder),
            events=events_of(folder),
            runs=tuple(runs_of(database, folder.sweep)),
            locks=tuple(json.loads(record) for record in _lock_records(folder)),
            before=before,
            left=left,
            in_s3=_log_in_s3(folder),
        )

    @property
    def state(self) -> SweepState:
        """State after the last event."""
        return SweepState(self.events)

    @property
    def is_finished(self) -> bool:
        """True if no driver will continue the sweep."""
        return bool(self.events) and isinstance(self.events[-1], SweepEnded) and self.events[-1].status == "completed"

    def of_kind(self, kind: type) -> list[Event]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @contextlib.contextmanager
    def checkpoint(self, path: str) -> Iterator[Path]:
        """Return the folder of a checkpoint; that of a sweep in S3 is downloaded for the body."""
        if self.folder.remote is None:
            yield self.folder.path / path
            return
        with tempfile.TemporaryDirectory() as folder:
            download_folder(self.folder.remote.child(path), Path(folder))
            yield Path(folder)


def events_of(folder: SweepFolder) -> tuple[Event, ...]:
    """Return the whole events of a log."""
    return tuple(event for event, _ in read_events(folder.events))


def runs_of(database: Path | str, sweep: str) -> Iterator[Run]:
    """Yield the runs of a sweep that were not deleted."""
    if isinstance(database, Path) and not database.exists():
        return
    with contextlib.closing(_connect(database)) as connection:
        rows = {name: _rows(connection, query, sweep) for name, query in TABLES.items()}
    tags = defaultdict[str, dict[str, str]](dict)
    for run, key, value in rows["tags"]:
        tags[run][key] = value
    points = defaultdict[str, list[tuple[str, int, float]]](list)
    for run, *point in rows["metrics"]:
        points[run].append(tuple(point))
    for run, status in rows["runs"]:
        is_trial = tags[run]["ravel.kind"] == "trial"
        trial = tags[run]["ravel.trial"].rpartition("/")[2] if is_trial else None
        yield Run(run, trial, status, tuple(sorted(points[run])))


def _connect(database: Path | str) -> Any:
    if isinstance(database, Path):
        return sqlite3.connect(database)
    import psycopg

    return psycopg.connect(database)


def _rows(connection: Any, query: str, sweep: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(query.format(runs=OF_SWEEP.format(sweep=sweep)))
    return list(cursor.fetchall())


def _lock_records(folder: SweepFolder) -> Iterator[bytes]:
    if folder.remote is None:
        yield from (path.read_bytes() for path in sorted(folder.locks.glob("[0-9]*.json")))
        return
    bucket = folder.remote.child(folder.locks.name)
    yield from (bucket.read(item.key) for item in sorted(bucket.list(), key=lambda item: item.key))


def _log_in_s3(folder: SweepFolder) -> dict[str, bytes] | None:
    if folder.remote is None:
        return None
    keys = [item.key for item in folder.remote.list(LOG)]
    return {key.rpartition("/")[2]: folder.remote.read(key) for key in keys}
