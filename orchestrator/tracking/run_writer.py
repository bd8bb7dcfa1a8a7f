"""Writer of a sweep's runs: send events to MLflow over one connection.

Every method may be called twice with the same event. The second call changes nothing: timestamps come from the event,
and a parameter that MLflow has is not sent a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.planning.seeds import searched_state
from orchestrator.redaction import one_line
from orchestrator.tracking import note, runs, views
from orchestrator.tracking.store.sqlite import count_rows
from orchestrator.tracking.store.store import tracking_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow import MlflowClient

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import (
        AttemptStarted,
        EpochReported,
        OrderAccepted,
        SweepEnded,
        SweepStarted,
        TrialEnded,
        TrialReopened,
    )
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import SweepState
    from orchestrator.tracking.cursor import Cursor


class RunGone(Exception):
    """MLflow no longer has the run that an event belongs to."""


class RunWriter:
    """Writes the runs of one sweep.

    Args:
        client: Connection to the store.
        cursor: Ids of the experiment and the runs; the writer adds the runs that it creates.
        plan: Plan of the sweep.
        folder: Files of the sweep.
        state: State of the sweep, up to and including the event that is written.
        shown: Metrics of each trial that MLflow shows.
        known_parameters: Names of the parameters that MLflow has, by run. MLflow never changes them.
        warn: Called with a name and a reason when MLflow refuses something that a sweep can spare.
    """

    def __init__(
        self,
        client: MlflowClient,
        cursor: Cursor,
        *,
        plan: SweepPlan,
        folder: SweepFolder,
        state: SweepState,
        shown: runs.ShownMetrics,
        known_parameters: Mapping[str, frozenset[str]],
        warn: Callable[[str, str], None],
    ) -> None:
        self._client, self._cursor = client, cursor
        self._plan, self._folder, self._state = plan, folder, state
        self._shown, self._known_parameters, self._warn = shown, dict(known_parameters), warn

    def start_sweep(self, event: SweepStarted) -> None:
        """Create or reopen the summary run, and send the sweep's settings, files and prepared views."""
        plan, cursor, client = self._plan, self._cursor, self._client
        if cursor.sweep_run is None:
            run = client.create_run(
                cursor.experiment, start_time=runs.milliseconds(event.time), tags=runs.summary_tags(plan)
            )
            cursor.sweep_run = run.info.run_id
        else:
            client.update_run(cursor.sweep_run, status="RUNNING")
        self._publish_views()  # first, as a failure of the calls below sends the whole event a second time
        tags = {**runs.state_tags("running"), "ravel.generation": str(event.generation), **self._note(cursor.sweep_run)}
        self._log(cursor.sweep_run, parameters=runs.parameters(runs.settings(plan)), tags=tags)
        self._log_text(cursor.sweep_run, runs.spec_yaml(plan), "spec.yaml")
        packages = self._packages()
        if packages is not None:
            self._log_text(cursor.sweep_run, packages, "environment.txt")

    def start_trial(self, event: AttemptStarted) -> None:
        """Create or reopen the run of a trial, and send its configuration."""
        cursor, client = self._cursor, self._client
        trial = self._state.trials[event.trial]
        run = cursor.runs.get(trial.id)
        if run is None:
            tags = runs.trial_tags(self._plan, trial)
            run = client.create_run(cursor.experiment, start_time=runs.milliseconds(event.time), tags=tags).info.run_id
            cursor.runs[trial.id] = run
        elif event.attempt > 1:
            client.update_run(run, status="RUNNING")
        batched = {} if event.batched is None else {"ravel.batched": str(event.batched)}
        tags = {**runs.trial_state_tags("running"), "ravel.attempts": str(event.attempt), **batched}
        self._log(run, parameters=runs.parameters(trial.config, first=trial.point), tags=tags)
        whole = runs.whole_configuration(trial.config)
        if whole is not None:
            self._log_text(run, whole, "config.json")

    def log_order(self, event: OrderAccepted) -> None:
        """Send an accepted order as a tag of the summary run, whose parameters stay those of the launch.

        Raises:
            RunGone: MLflow no longer has the summary run.
        """
        if self._cursor.sweep_run is None:
            raise RunGone(self._plan.sweep)
        number = list(self._state.orders).index(event.order) + 1
        text = f"{event.action} by {event.author}: {'; '.join(event.notes)}"
        self._log(self._cursor.sweep_run, tags={f"ravel.order.{number}": text[: runs.MAX_VALUE]})

    def reopen_trial(self, event: TrialReopened) -> None:
        """Send that a trial continues by order, with its number of epochs: MLflow never changes the parameter.

        Raises:
            RunGone: MLflow no longer has the trial's run.
        """
        trial = self._state.trials[event.trial]
        run = self._cursor.runs.get(event.trial)
        if run is None:
            if trial.attempts:
                raise RunGone(event.trial)
            return
        status = "waiting" if event.rung is None else "paused"
        tags = runs.trial_state_tags(status, rung=event.rung, reason="reopened by order")
        self._log(run, tags={**tags, "ravel.epochs": str(trial.budget)})
        self._client.update_run(run, status="SCHEDULED")

    def log_epochs(self, events: Sequence[EpochReported]) -> None:
        """Send the metrics and data sets of a trial's epochs.

        Raises:
            RunGone: MLflow no longer has the trial's run.
        """
        from mlflow.entities import Metric  # noqa: PLC0415

        points = [
            Metric(name, value, runs.milliseconds(event.time), event.epoch)
            for event in events
            for name, value in event.metrics.items()
            if value is not None and name in self._shown.of(event)
        ]
        if not points:
            return
        trial = events[0].trial
        if trial not in self._cursor.runs:
            raise RunGone(trial)
        run = self._cursor.runs[trial]
        self._client.log_batch(run, metrics=points)
        for digest in dict.fromkeys(event.data for event in events if event.data is not None):
            self._log_data(run, trial, digest)

    def end_trial(self, event: TrialEnded) -> None:
        """Send the end of a trial. A trial that no actor ever had has no run, and needs none.

        Raises:
            RunGone: MLflow no longer has the trial's run.
        """
        run = self._cursor.runs.get(event.trial)
        if run is None:
            if self._state.trials[event.trial].attempts:
                raise RunGone(event.trial)
            return
        self._log(run, tags=runs.trial_state_tags(event.status, rung=event.rung, reason=event.reason))
        if event.traceback:
            self._log_text(run, event.traceback, "traceback.txt")
        self._client.set_terminated(run, runs.STATUS[event.status], runs.milliseconds(event.time))

    def end_sweep(self, event: SweepEnded) -> None:
        """Send the counts and the best score of a sweep, and end its summary run.

        Raises:
            RunGone: MLflow no longer has the summary run.
        """
        from mlflow.entities import Metric  # noqa: PLC0415

        state, objective, run = self._state, self._plan.spec.objective, self._cursor.sweep_run
        if run is None:
            raise RunGone(self._plan.sweep)
        best, at = searched_state(self._plan, state).best(objective), runs.milliseconds(event.time)
        counts = runs.counts(state, objective, best=best).items()
        self._client.log_batch(run, metrics=[Metric(name, value, at, state.generation) for name, value in counts])
        tags = {} if best is None else {"ravel.best_trial": best.id}
        self._log(run, tags={**tags, **runs.state_tags(event.status, reason=event.reason)})
        self._client.set_terminated(run, runs.STATUS[event.status], at)
        count_rows(tracking_uri(self._plan))

    def _log(self, run: str, *, tags: dict[str, str], parameters: dict[str, str] | None = None) -> None:
        from mlflow.entities import Param, RunTag  # noqa: PLC0415

        known = self._known_parameters.get(run, frozenset())
        self._client.log_batch(
            run,
            params=[Param(name, value) for name, value in (parameters or {}).items() if name not in known],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        if parameters:
            self._known_parameters[run] = known | parameters.keys()

    def _log_data(self, run: str, trial: str, digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput  # noqa: PLC0415

        config = self._state.trials[trial].config
        source_type, source = runs.data_source(config)
        name = str(config.get("data.name", ""))
        dataset = Dataset(name, digest[: runs.MAX_DIGEST], source_type=source_type, source=source)
        self._client.log_inputs(run, datasets=[DatasetInput(dataset)])

    def _log_text(self, run: str, text: str, file: str) -> None:
        """Send an artifact. A store that takes none (full, wrong rights) must not cost the metrics."""
        try:
            self._client.log_text(run, text, file)
        except Exception as error:  # noqa: BLE001  each artifact store has its own
            self._warn("artifacts", one_line(error))

    def _packages(self) -> str | None:
        """Return the installed packages; None if their file is missing (of older sweeps) or cannot be read."""
        try:
            return self._folder.environment.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("environment.txt", one_line(error))
            return None

    def _note(self, run: str) -> dict[str, str]:
        """Return the tag with the description of the summary run, unless a user has written another."""
        if not note.is_ours(self._client.get_run(run).data.tags.get(note.TAG)):
            return {}
        return {note.TAG: note.note_of(self._plan, experiment=str(self._cursor.experiment), run=run)}

    def _publish_views(self) -> None:
        """Publish the prepared views. Like artifacts, they are a convenience."""
        try:
            views.publish(self._client, str(self._cursor.experiment), self._plan)
        except Exception as error:  # noqa: BLE001  a server may refuse the tag in its own way
            self._warn("prepared views", one_line(error))
