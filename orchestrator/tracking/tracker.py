"""Event log to MLflow: batched, in the background, idempotent, and safe against an outage of MLflow.

The tracker reads the log from a cursor and sends the new events. It moves the cursor after MLflow has taken them, so a
crash sends some events twice; the second time changes nothing. If MLflow refuses an event for good, the tracker warns
and skips that run. Any other failure is an outage: the next call sends the same events.

If the cursor is ahead of the log, the log was restored from an older copy. What MLflow has beyond it will be measured
again, so runs with such points are replaced (``orchestrator.tracking.superseded``).
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import TYPE_CHECKING, TypeVar

from orchestrator.redaction import one_line, without_password
from orchestrator.state.event_log import read_events
from orchestrator.state.events import (
    AttemptStarted,
    EpochReported,
    OrderAccepted,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    TrialReopened,
)
from orchestrator.state.log_segments import end_of, flush
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking import runs
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.run_writer import RunGone, RunWriter
from orchestrator.tracking.store.sqlite import use_wal
from orchestrator.tracking.store.store import experiment_of, open_store, refuse_deleted, search, tracking_uri
from orchestrator.tracking.superseded import set_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_folder import SweepFolder

T = TypeVar("T")
logger = logging.getLogger(__name__)
MOST_EVENTS = 2000
"""Batch size of ``catch_up``; the cursor is saved after each batch."""
FEW_EVENTS = 200
"""Batch size of ``advance``, during a sweep: less than a second of work for a server on the same cores."""
PERMANENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"}


class Tracker:
    """Brings MLflow up to date with the log of one sweep.

    Args:
        plan: Plan of the sweep.
        folder: Files of the sweep.
        replay: Send the whole log, and ignore the cursor file.
        until: Returns the offset of the log that must not be passed. If this machine is lost, events that only it has
            are lost too, and must not stay in MLflow.
    """

    def __init__(
        self,
        plan: SweepPlan,
        folder: SweepFolder,
        *,
        replay: bool = False,
        until: Callable[[], float] = lambda: math.inf,
    ) -> None:
        store = without_password(tracking_uri(plan))
        self._plan, self._folder, self._until = plan, folder, until
        self._cursor = Cursor(store=store) if replay else Cursor.resume(folder, store)
        self._is_ahead = Cursor.is_ahead(folder, store)
        self._state = SweepState()
        self._shown = runs.ShownMetrics(plan)
        self._client: MlflowClient | None = None
        self._writer: RunWriter | None = None
        self._num_sent = 0
        self._skipped: set[str] = set()
        self._warned: set[str] = set()

    @property
    def skipped(self) -> tuple[str, ...]:
        """Trials whose runs MLflow refuses, and the sweep itself if MLflow refuses its summary run."""
        return tuple(sorted(self._skipped))

    @property
    def num_sent(self) -> int:
        """Number of events that MLflow has."""
        return self._num_sent

    def catch_up(self) -> bool:
        """Send all new events; return True if it sent any.

        Raises:
            OrchestratorError: the experiment is deleted.
            Exception: any error of MLflow; nothing is lost, and the next call sends the same events.
        """
        end, has_sent = self._end(), False
        while self._send_next(MOST_EVENTS, end):
            has_sent = True
        return has_sent

    def advance(self) -> bool:
        """Send some of the new events; return True if it sent any. It raises the errors of ``catch_up``."""
        return self._send_next(FEW_EVENTS, self._end())

    def _end(self) -> float:
        """Return the offset of the log up to which events may be sent."""
        return min(self._until(), end_of(self._folder.events))

    def _send_next(self, at_most: int, end: float) -> bool:
        """Send at most so many of the events before an offset; return False if none is new."""
        if not self._unsent(1, end):
            return False
        with self._reconnecting():
            writer = self._writer or self._connect()
            events = self._unsent(at_most, end)
            flush(self._folder.events)
            self._send(writer, (event for event, _ in events))
        self._cursor.move_to(events[-1][1], self._folder)
        self._cursor.save(self._folder.cursor)
        self._num_sent = self._state.num_events
        return True

    def _unsent(self, at_most: int, end: float) -> list[tuple[Event, int]]:
        """Return the new events before an offset, each with the offset after it."""
        new = read_events(self._folder.events, self._cursor.offset)
        return list(islice(takewhile(lambda pair: pair[1] <= end, new), at_most))

    def _connect(self) -> RunWriter:
        """Open the store, find or create the experiment, and continue from the runs that the store has."""
        client = open_store(tracking_uri(self._plan))
        self._cursor.experiment = experiment_of(client, self._plan)
        use_wal(tracking_uri(self._plan))
        known_parameters = self._find_runs(client)
        sent = (event for event, end in read_events(self._folder.events) if end <= self._cursor.offset)
        self._state = SweepState(sent)
        self._num_sent = self._state.num_events
        self._client = client
        self._writer = RunWriter(
            client,
            self._cursor,
            plan=self._plan,
            folder=self._folder,
            state=self._state,
            shown=self._shown,
            known_parameters=known_parameters,
            warn=self._warn,
        )
        return self._writer

    def _find_runs(self, client: MlflowClient) -> dict[str, frozenset[str]]:
        """Find the sweep's runs by their tags, and return their parameters' names. A deleted run stays deleted."""
        cursor, sweep = self._cursor, self._plan.sweep
        existing = list(search(client, cursor.experiment, sweep))
        if self._is_ahead:
            if set_aside(client, existing, sweep=sweep, log=self._folder.events):
                existing = list(search(client, cursor.experiment, sweep))
            self._is_ahead = False
        named = [(runs.run_name(sweep, run.data.tags), run.info) for run in existing]
        known = {name for name, _ in named if name is not None}
        if not known:  # the store was emptied or replaced
            cursor.offset = 0
        active = {name: info.run_id for name, info in named if name is not None and info.lifecycle_stage == "active"}
        for name, info in named:
            if name in active and info.run_id == active[name] and info.run_name == runs.former_name(sweep, name):
                client.update_run(info.run_id, name=name)
        self._skipped.clear()
        for name in sorted(known - active.keys()):
            self._skip(name, "it was deleted there")
        cursor.sweep_run = active.pop(sweep, None)
        cursor.runs = active
        return {run.info.run_id: frozenset(run.data.params) for run in existing}

    @contextmanager
    def _reconnecting(self) -> Iterator[None]:
        """Forget the connection after a failure: a run may or may not exist now, so the next call searches for it."""
        try:
            yield
        except BaseException:
            self._writer = None
            raise

    def _send(self, writer: RunWriter, events: Iterable[Event]) -> None:
        sweep, metrics = self._plan.sweep, dict[str, list[EpochReported]]()
        for event in events:
            self._state.apply(event)
            match event:
                case SweepStarted():
                    self._try(sweep, writer.start_sweep, event)
                case AttemptStarted():
                    self._try(event.trial, writer.start_trial, event)
                case EpochReported():
                    metrics.setdefault(event.trial, []).append(event)
                case TrialEnded():
                    self._try(event.trial, writer.log_epochs, metrics.pop(event.trial, []))
                    self._try(event.trial, writer.end_trial, event)
                case TrialReopened():
                    self._try(event.trial, writer.reopen_trial, event)
                case OrderAccepted():
                    self._try(sweep, writer.log_order, event)
                case SweepEnded():
                    self._try(sweep, writer.end_sweep, event)
                case _:
                    pass
        for trial, reported in metrics.items():
            self._try(trial, writer.log_epochs, reported)

    def _try(self, name: str, send: Callable[[T], None], content: T) -> None:
        """Send something to one run. If MLflow refuses it for good, skip the run and continue with the next."""
        if name in self._skipped:
            return
        try:
            send(content)
        except RunGone:
            self._skip(name, "it is gone there")
        except Exception as error:
            if self._client is None or getattr(error, "error_code", None) not in PERMANENT:
                raise
            refuse_deleted(self._client.get_experiment(self._cursor.experiment))
            self._skip(name, one_line(error))

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.add(name)
        self._warn(f"the run of {name}", reason)

    def _warn(self, missing: str, reason: str) -> None:
        if missing not in self._warned:
            self._warned.add(missing)
            sync = f"ravel sync {reference(self._folder)}"
            logger.warning(
                "MLflow continues without %s (%s); the event log has it, to send it later: %s", missing, reason, sync
            )
