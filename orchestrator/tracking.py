"""Event log to MLflow: batched, beside the training, idempotent, surviving an MLflow outage.

The tracker follows the log from a cursor and sends what is new; the cursor file moves only after MLflow took it. Sent
again after a crash, a point changes nothing: timestamps come from the log, and a trial's run is found by its tag.
The one door to MLflow.
"""

from __future__ import annotations

import json
import logging
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.events import (
    AttemptStarted,
    EpochReported,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    read_events,
)
from orchestrator.history import SweepHistory
from orchestrator.storage import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from orchestrator.events import Event
    from orchestrator.plan import SweepPlan
    from orchestrator.storage import SweepFolder

DEFAULT_URI = "sqlite:///mlflow.db"
STATUS = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the follower retries by itself, and must be able to stop
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


@dataclass
class Cursor:
    """How far MLflow has followed: a byte offset of the log, and the run ids MLflow assigned."""

    offset: int = 0
    experiment: str | None = None
    sweep_run: str | None = None
    runs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """The saved cursor, or a fresh one."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (
            OSError,
            ValueError,
            TypeError,
        ):  # lost or unreadable: everything is sent again, which changes nothing
            return cls()

    def save(self, path: Path) -> None:
        """Write the cursor, atomically."""
        write_atomically(path, json.dumps(vars(self)))


def tracking_uri(plan: SweepPlan) -> str:
    """Where this sweep is tracked."""
    return plan.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def without_password(text: str) -> str:
    """Text fit to be shown: user and password of every address in it are hidden.

    >>> without_password("http://ada:secret@host:5000 refused")
    'http://***@host:5000 refused'
    """
    return re.sub(r"://[^/@\s]+@", "://***@", text)


class Tracker:
    """Brings MLflow up to date with one sweep's log."""

    def __init__(self, plan: SweepPlan, folder: SweepFolder) -> None:
        self._plan, self._folder = plan, folder
        self._cursor = Cursor.load(folder.cursor)
        self._history = SweepHistory(event for event, end in read_events(folder.events) if end <= self._cursor.offset)
        self._client: MlflowClient | None = None

    def catch_up(self) -> bool:
        """Send what is new; True when there was something.

        Raises:
            Exception: whatever MLflow raises; nothing is lost, the next call sends it again.
        """
        events = list(read_events(self._folder.events, self._cursor.offset))
        if not events:
            return False
        if self._client is None:
            self._connect()
        with self._reconnecting():
            for event, _ in events:
                self._history.apply(event)
            self._send([event for event, _ in events])
        self._cursor.offset = events[-1][1]
        self._cursor.save(self._folder.cursor)
        return True

    def _connect(self) -> None:
        """Open the store, find or make the experiment, and find the runs that are there already by their tags."""
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        from mlflow import MlflowClient  # noqa: PLC0415  costs seconds: only a tracker pays them

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri(self._plan))
        experiment = _experiment(client, self._plan)
        self._cursor.experiment = experiment
        token = None
        while True:
            page = client.search_runs(
                [experiment], f"tags.`ravel.sweep` = '{self._plan.sweep}'", max_results=1000, page_token=token
            )
            for run in page:
                if run.data.tags["ravel.kind"] == "sweep":
                    self._cursor.sweep_run = run.info.run_id
                else:
                    self._cursor.runs[run.data.tags["ravel.trial"].rpartition("/")[2]] = run.info.run_id
            token = page.token
            if not token:
                break
        self._client = client

    @contextmanager
    def _reconnecting(self) -> Iterator[None]:
        """After a failure, whether a run was made is unknown: look again before the next try."""
        try:
            yield
        except BaseException:
            self._client = None
            raise

    def _send(self, events: list[Event]) -> None:
        metrics: dict[str, list[EpochReported]] = {}
        for event in events:
            match event:
                case SweepStarted():
                    self._start_sweep(event)
                case AttemptStarted():
                    self._start_trial(event)
                case EpochReported():
                    metrics.setdefault(event.trial, []).append(event)
                case TrialEnded():
                    self._log_metrics(event.trial, metrics.pop(event.trial, []))
                    self._end_trial(event)
                case SweepEnded():
                    self._end_sweep(event)
                case _:
                    pass
        for trial, reported in metrics.items():
            self._log_metrics(trial, reported)

    def _start_sweep(self, event: SweepStarted) -> None:
        plan, cursor, client = self._plan, self._cursor, self._require()
        if cursor.sweep_run is None:
            tags = {
                **self._tags("sweep"),
                "mlflow.runName": plan.sweep,
                "ravel.spec_fingerprint": plan.fingerprint,
            }
            run = client.create_run(cursor.experiment, start_time=_ms(event.time), tags=tags)
            cursor.sweep_run = run.info.run_id
            client.log_batch(cursor.sweep_run, params=_params(_settings(plan)))
            client.log_text(cursor.sweep_run, _spec_yaml(plan), "spec.yaml")
        else:
            client.update_run(cursor.sweep_run, status="RUNNING")
        client.set_tag(cursor.sweep_run, "ravel.generation", str(event.generation))

    def _start_trial(self, event: AttemptStarted) -> None:
        cursor, client = self._cursor, self._require()
        trial = self._history.trials[event.trial]
        run = cursor.runs.get(trial.id)
        if run is None:
            tags = {
                **self._tags("trial"),
                "mlflow.runName": f"{trial.id} {self._plan.sweep}",
                "ravel.trial": f"{self._plan.sweep}/{trial.id}",
                "ravel.origin": trial.origin,
            }
            run = client.create_run(cursor.experiment, start_time=_ms(event.time), tags=tags).info.run_id
            cursor.runs[trial.id] = run
            client.log_batch(run, params=_params(trial.config))
        elif event.attempt > 1:
            client.update_run(run, status="RUNNING")
        client.set_tag(run, "ravel.attempts", str(event.attempt))

    def _log_metrics(self, trial: str, reported: list[EpochReported]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        points = [
            Metric(name, value, _ms(event.time), event.epoch)
            for event in reported
            for name, value in event.metrics.items()
            if value is not None
        ]
        if points:
            self._require().log_batch(self._cursor.runs[trial], metrics=points)

    def _end_trial(self, event: TrialEnded) -> None:
        from mlflow.entities import RunTag  # noqa: PLC0415

        told = {"ravel.status": event.status, "ravel.rung": event.rung, "ravel.reason": event.reason}
        tags = [RunTag(name, str(value)) for name, value in told.items() if value is not None]
        client, run = self._require(), self._cursor.runs.get(event.trial)
        if run is None:  # it ended before an actor ever had it
            return
        client.log_batch(run, tags=tags)
        if event.traceback:
            client.log_text(run, event.traceback, "traceback.txt")
        client.set_terminated(run, STATUS[event.status], _ms(event.time))

    def _end_sweep(self, event: SweepEnded) -> None:
        from mlflow.entities import Metric, RunTag  # noqa: PLC0415

        client, history, objective = self._require(), self._history, self._plan.spec.objective
        run = self._cursor.sweep_run
        counts = {f"trials/{status}": len(history.with_status(status)) for status in STATUS}  # type: ignore[arg-type]
        best = history.best(objective)
        metrics: dict[str, float] = {**counts, "epochs_run": history.epochs_run}
        tags = {"ravel.status": event.status, "ravel.reason": event.reason}
        if best is not None:
            metrics[f"best/{objective.metric}"] = best.score(objective) or 0.0
            tags["ravel.best_trial"] = best.id
        at = _ms(event.time)
        client.log_batch(
            run,
            metrics=[Metric(name, float(value), at, history.generation) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items() if value is not None],
        )
        status = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}[event.status]
        client.set_terminated(run, status, at)

    def _tags(self, kind: str) -> dict[str, str]:
        source = self._plan.provenance
        tags = {"ravel.kind": kind, "ravel.sweep": self._plan.sweep, "mlflow.source.name": "ravel"}
        if source.git_commit:
            tags |= {
                "mlflow.source.git.commit": source.git_commit,
                "ravel.git_dirty": str(source.git_dirty).lower(),
            }
        return tags

    def _require(self) -> MlflowClient:
        if self._client is None:
            raise ConnectionError("MLflow is not connected")
        return self._client


def _experiment(client: MlflowClient, plan: SweepPlan) -> str:
    """The id of the sweep's experiment, made if it is not there; a local store keeps its artifacts beside its file."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    found = client.get_experiment_by_name(plan.experiment)
    if found is not None:
        return str(found.experiment_id)
    uri = tracking_uri(plan)
    local = uri.startswith("sqlite:///")
    artifacts = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts" / plan.experiment).as_uri()
    try:
        return str(client.create_experiment(plan.experiment, artifact_location=artifacts if local else None))
    except MlflowException:  # another sweep of the family made it a moment ago
        return str(client.get_experiment_by_name(plan.experiment).experiment_id)


def _params(config: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param  # noqa: PLC0415

    return [Param(name, _plain(value)) for name, value in config.items()]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _settings(plan: SweepPlan) -> dict[str, Any]:
    spec = plan.spec
    sections = {"objective": spec.objective, "search": spec.search, "scheduler": spec.scheduler}
    flat = {f"{name}.{key}": value for name, section in sections.items() for key, value in section if key != "points"}
    return {**flat, "rungs": list(plan.rungs), "epochs": plan.max_epochs}


def _spec_yaml(plan: SweepPlan) -> str:
    import yaml  # noqa: PLC0415

    return str(yaml.safe_dump(plan.spec.document(), sort_keys=False))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
