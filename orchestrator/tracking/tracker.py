"""Event log to MLflow: batched, beside the training, idempotent, surviving an MLflow outage.

The tracker follows the log from a cursor and sends what is new; the cursor file moves only after MLflow took it. Sent
again after a crash, a point changes nothing: timestamps come from the log, and a trial's run is found by its tag.
What MLflow refuses for good costs that one run, with a warning; any other failure is an outage, and is waited out.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from orchestrator.redaction import one_line, without_password
from orchestrator.state.event_log import end_of, flush, read_events
from orchestrator.state.events import AttemptStarted, EpochReported, SweepEnded, SweepStarted, TrialEnded
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_state import SweepState
from orchestrator.tracking import runs, views
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.sqlite import count_rows, use_wal
from orchestrator.tracking.store import experiment_of, open_store, refuse_deleted, search, tracking_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)
MOST_EVENTS = 2000
"""That are sent at a time, so that what was sent is noted."""
FEW_EVENTS = 200
"""That are sent at a time beside a sweep that runs: for a server on the same cores, less than a second of work."""
PERMANENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"}


class Tracker:
    """Brings MLflow up to date with one sweep's log.

    Args of note: ``replay`` sends the whole log again, whatever the cursor file says. ``until`` tells the offset of the
    log that must not be passed: what only this machine has could be lost with it, and must not stay in MLflow then.
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
        self._state = SweepState()
        self._client: MlflowClient | None = None
        self._told: dict[str, frozenset[str]] = {}
        self._shown: dict[str, frozenset[str]] = {}
        self._num_sent = 0
        self._skipped: set[str] = set()
        self._warned: set[str] = set()

    @property
    def skipped(self) -> tuple[str, ...]:
        """The trials MLflow does not take, and the sweep itself where it does not take the summary run."""
        return tuple(sorted(self._skipped))

    @property
    def num_sent(self) -> int:
        """How many events of the log MLflow has."""
        return self._num_sent

    def catch_up(self) -> bool:
        """Send all that is new; True when there was something.

        Raises:
            OrchestratorError: the experiment is deleted.
            Exception: whatever MLflow raises; nothing is lost, the next call sends it again.
        """
        end, found_any = self._end(), False
        while self._send_next(MOST_EVENTS, end):
            found_any = True
        return found_any

    def advance(self) -> bool:
        """Send some of what is new; True when there was something. It raises what ``catch_up`` raises."""
        return self._send_next(FEW_EVENTS, self._end())

    def _end(self) -> float:
        """The offset of the log up to which there is something to send."""
        return min(self._until(), end_of(self._folder.events))

    def _send_next(self, at_most: int, end: float) -> bool:
        """Send so many events of those before an offset; False where there is none."""
        if not self._unsent(1, end):
            return False
        with self._reconnecting():
            if self._client is None:
                self._connect()
            events = self._unsent(at_most, end)
            flush(self._folder.events)
            self._send(event for event, _ in events)
        self._cursor.move_to(events[-1][1], self._folder)
        self._cursor.save(self._folder.cursor)
        self._num_sent = self._state.num_events
        return True

    def _unsent(self, at_most: int, end: float) -> list[tuple[Event, int]]:
        """What is new in the log up to an offset, each with the offset behind it."""
        new = read_events(self._folder.events, self._cursor.offset)
        return list(islice(takewhile(lambda pair: pair[1] <= end, new), at_most))

    def _connect(self) -> None:
        """Open the store, find or make the experiment, and start from what the store and the log hold."""
        client = open_store(tracking_uri(self._plan))
        self._cursor.experiment = experiment_of(client, self._plan)
        use_wal(tracking_uri(self._plan))
        self._find_runs(client)
        sent = (event for event, end in read_events(self._folder.events) if end <= self._cursor.offset)
        self._state = SweepState(sent)
        self._num_sent = self._state.num_events
        self._client = client

    def _find_runs(self, client: MlflowClient) -> None:
        """The runs that are there, by their tags; one that somebody deleted stays deleted."""
        cursor, sweep = self._cursor, self._plan.sweep
        there = list(search(client, cursor.experiment, sweep))
        self._told = {run.info.run_id: frozenset(run.data.params) for run in there}
        found = [(runs.run_name(sweep, run.data.tags), run.info) for run in there]
        known = {name for name, _ in found if name is not None}
        if not known:  # the store was emptied or replaced since
            cursor.offset = 0
        active = {name: info.run_id for name, info in found if name is not None and info.lifecycle_stage == "active"}
        self._skipped.clear()
        for name in sorted(known - active.keys()):
            self._skip(name, "it was deleted there")
        cursor.sweep_run = active.pop(sweep, None)
        cursor.runs = active

    @contextmanager
    def _reconnecting(self) -> Iterator[None]:
        """After a failure, whether a run was made is unknown: look again before the next try."""
        try:
            yield
        except BaseException:
            self._client = None
            raise

    def _send(self, events: Iterable[Event]) -> None:
        sweep, metrics = self._plan.sweep, dict[str, list[EpochReported]]()
        for event in events:
            self._state.apply(event)
            match event:
                case SweepStarted():
                    self._try(sweep, self._start_sweep, event)
                case AttemptStarted():
                    self._try(event.trial, self._start_trial, event)
                case EpochReported():
                    metrics.setdefault(event.trial, []).append(event)
                case TrialEnded():
                    self._try(event.trial, self._log_epochs, metrics.pop(event.trial, []))
                    self._try(event.trial, self._end_trial, event)
                case SweepEnded():
                    self._try(sweep, self._end_sweep, event)
                case _:
                    pass
        for trial, reported in metrics.items():
            self._try(trial, self._log_epochs, reported)

    def _try(self, name: str, send: Callable[[Any], None], told: object) -> None:
        """Send one thing about one run; what MLflow refuses for good must not hold back all the others."""
        if name in self._skipped:
            return
        try:
            send(told)
        except Exception as error:
            if getattr(error, "error_code", None) not in PERMANENT:
                raise
            refuse_deleted(self._require().get_experiment(self._cursor.experiment))
            self._skip(name, one_line(error))

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.add(name)
        self._warn(f"the run of {name}", reason)

    def _warn(self, what: str, reason: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            sync = f"ravel sync {reference(self._folder)}"
            logger.warning(
                "MLflow goes on without %s (%s); the event log has it, to send it again: %s", what, reason, sync
            )

    def _start_sweep(self, event: SweepStarted) -> None:
        plan, cursor, client = self._plan, self._cursor, self._require()
        if cursor.sweep_run is None:
            made = client.create_run(cursor.experiment, start_time=_ms(event.time), tags=runs.summary_tags(plan))
            cursor.sweep_run = made.info.run_id
        else:
            client.update_run(cursor.sweep_run, status="RUNNING")
        self._publish_views()  # before what raises in an outage, which sends all of this again
        tags = {**runs.state_tags("running"), "ravel.generation": str(event.generation)}
        self._log(cursor.sweep_run, parameters=runs.parameters(runs.settings(plan)), tags=tags)
        self._log_text(cursor.sweep_run, runs.spec_yaml(plan), "spec.yaml")
        if self._folder.environment.exists():
            self._log_text(cursor.sweep_run, self._folder.environment.read_text(encoding="utf-8"), "environment.txt")

    def _start_trial(self, event: AttemptStarted) -> None:
        cursor, client = self._cursor, self._require()
        trial = self._state.trials[event.trial]
        run = cursor.runs.get(trial.id)
        if run is None:
            tags = runs.trial_tags(self._plan, trial)
            run = client.create_run(cursor.experiment, start_time=_ms(event.time), tags=tags).info.run_id
            cursor.runs[trial.id] = run
        elif event.attempt > 1:
            client.update_run(run, status="RUNNING")
        tags = {**runs.trial_state_tags("running"), "ravel.attempts": str(event.attempt)}
        self._log(run, parameters=runs.parameters(trial.config, first=trial.point), tags=tags)
        whole = runs.whole_configuration(trial.config)
        if whole is not None:
            self._log_text(run, whole, "config.json")

    def _log_epochs(self, reported: list[EpochReported]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        points = [
            Metric(name, value, _ms(event.time), event.epoch)
            for event in reported
            for name, value in event.metrics.items()
            if value is not None and name in self._shown_of(event)
        ]
        if not points:
            return
        trial = reported[0].trial
        if trial not in self._cursor.runs:
            self._skip(trial, "it is gone there")
            return
        run = self._cursor.runs[trial]
        self._require().log_batch(run, metrics=points)
        for digest in dict.fromkeys(event.data for event in reported if event.data is not None):
            self._log_data(run, trial, digest)

    def _shown_of(self, event: EpochReported) -> frozenset[str]:
        """What MLflow shows of a trial: decided by the taps of its first epoch that measured any."""
        if event.trial not in self._shown:
            taps = [tap for family, _, tap in map(_parted, event.metrics) if family == "entanglement"]
            shown = runs.shown_metrics(self._plan, taps)
            if not taps:
                return shown
            self._shown[event.trial] = shown
        return self._shown[event.trial]

    def _log_data(self, run: str, trial: str, digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput  # noqa: PLC0415

        config = self._state.trials[trial].config
        source_type, source = runs.data_source(config)
        name = str(config.get("data.name", ""))
        dataset = Dataset(name, digest[: runs.MAX_DIGEST], source_type=source_type, source=source)
        self._require().log_inputs(run, datasets=[DatasetInput(dataset)])

    def _end_trial(self, event: TrialEnded) -> None:
        run = self._cursor.runs.get(event.trial)
        if run is None:
            if self._state.trials[event.trial].attempts:  # else it ended before an actor ever had it
                self._skip(event.trial, "it is gone there")
            return
        self._log(run, tags=runs.trial_state_tags(event.status, rung=event.rung, reason=event.reason))
        if event.traceback:
            self._log_text(run, event.traceback, "traceback.txt")
        self._require().set_terminated(run, runs.STATUS[event.status], _ms(event.time))

    def _end_sweep(self, event: SweepEnded) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        state, objective, run = self._state, self._plan.spec.objective, self._cursor.sweep_run
        if run is None:
            self._skip(self._plan.sweep, "it is gone there")
            return
        best, at = state.best(objective), _ms(event.time)
        counts = runs.counts(state, objective).items()
        self._require().log_batch(run, metrics=[Metric(name, value, at, state.generation) for name, value in counts])
        tags = {} if best is None else {"ravel.best_trial": best.id}
        self._log(run, tags={**tags, **runs.state_tags(event.status, reason=event.reason)})
        self._require().set_terminated(run, runs.STATUS[event.status], at)
        count_rows(tracking_uri(self._plan))

    def _log(self, run: str, *, tags: dict[str, str], parameters: dict[str, str] | None = None) -> None:
        from mlflow.entities import Param, RunTag  # noqa: PLC0415

        told = self._told.get(run, frozenset())  # for good, and in the words of the version that told it
        self._require().log_batch(
            run,
            params=[Param(name, value) for name, value in (parameters or {}).items() if name not in told],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def _publish_views(self) -> None:
        """The prepared pages are a convenience, as artifacts are."""
        try:
            views.publish(self._require(), str(self._cursor.experiment), self._plan)
        except Exception as error:  # noqa: BLE001  a server may refuse the tag in its own way
            self._warn("prepared views", one_line(error))

    def _log_text(self, run: str, text: str, file: str) -> None:
        """An artifact is a convenience: a store that takes none (full, wrong rights) must not cost the metrics."""
        try:
            self._require().log_text(run, text, file)
        except Exception as error:  # noqa: BLE001  each artifact store has its own
            self._warn("artifacts", one_line(error))

    def _require(self) -> MlflowClient:
        if self._client is None:
            raise ConnectionError("MLflow is not connected")
        return self._client


def _parted(metric: str) -> tuple[str, str, str]:
    return metric.partition("/")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
