"""A sweep in Python: its trials, its best one, a table and figures, read from the event log at each use, and orders.

A sweep that runs may be opened like one that ended: every property reads what the log has by then.
"""

from __future__ import annotations

import io
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from rich.console import Console

from orchestrator import changing
from orchestrator.analysis.order_history import answered_orders, lineage_lines, order_history, order_lines
from orchestrator.analysis.result import SweepResult, TrialResult
from orchestrator.analysis.sweep_progress import headline, progress
from orchestrator.cli.shared.live_display import overview
from orchestrator.errors import Interrupted, OrchestratorError
from orchestrator.export import registry
from orchestrator.orders.order import extend_order
from orchestrator.planning.changes.fork import Fork
from orchestrator.planning.plan import SweepPlan
from orchestrator.state.log_segments import num_events
from orchestrator.state.sweep_lock import is_held
from orchestrator.state.sweep_lookup import find_sweep
from ravel.background import DriverProcess
from ravel.plots import Plots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from orchestrator.analysis.claims.claim import Claim
    from orchestrator.analysis.order_history import OrderEntry
    from orchestrator.analysis.sweep_progress import Progress
    from orchestrator.changing import OrderAnswer
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.sweep_folder import SweepFolder

ROWS = 10
REFRESH_S = 2.0
STOP_S = 60.0
CALLBACK_ELSEWHERE = "callback: must be None in the background, where another process notifies; read the sweep"
COLUMNS = 100
_PAGE = (
    '<pre style="font-family:Menlo,Consolas,DejaVu Sans Mono,monospace;font-size:12px;line-height:1.25">{code}</pre>'
)


class Sweep:
    """A sweep, to be read and changed; ``open`` returns one.

    In a notebook it shows itself as the progress and the leaderboard, and stays up to date while the sweep runs.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._plan = SweepPlan.load(folder)
        self._read: tuple[int, SweepResult] | None = None

    @property
    def name(self) -> str:
        """Id of the sweep."""
        return self.folder.sweep

    @property
    def result(self) -> SweepResult:
        """Result so far, for ``ravel.SweepResult``'s further methods; read only if the log has grown."""
        events = num_events(self.folder.events)
        if self._read is None or self._read[0] != events:
            self._read = events, SweepResult.read(self.folder)
        return self._read[1]

    @property
    def progress(self) -> Progress:
        """Counts, times and the share of the planned budget that is spent."""
        result = self.result
        return progress(result.plan, result.state, now=time.time())

    @property
    def is_running(self) -> bool:
        """Return True while a driver runs the sweep."""
        return is_held(self.folder)

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """Trials that have measured the objective, the best first."""
        result = self.result
        objective = result.plan.spec.objective
        scored = ((trial, trial.score(objective)) for trial in result.state.ranked(objective))
        return tuple(TrialResult(trial, score, self.folder) for trial, score in scored if score is not None)

    @property
    def orders(self) -> tuple[OrderEntry, ...]:
        """Orders of the sweep: accepted, refused and waiting ones."""
        return order_history(self.result.state, self.folder)

    def best(self) -> TrialResult:
        """Return the best trial with a full budget; ``.load_model()`` loads its model.

        Before any trial has run its full budget it is the best of all that measured the objective: ``.trial.status``
        is ``completed`` after a full budget alone, and ``.trial.epoch`` is its last epoch.

        Raises:
            OrchestratorError: no trial has measured the objective yet.
        """
        return self.result.best()

    def dataframe(self) -> pd.DataFrame:
        """Return one row for each trial: id, status, epoch, rung, configuration, metrics of its last epoch."""
        return self.result.dataframe()

    @property
    def plot(self) -> Plots:
        """Figures of the sweep so far, see `ravel.plots.Plots`."""
        return Plots(self.result)

    def export(
        self,
        kind: str,
        out: str | Path | None = None,
        *,
        epoch: int | None = None,
        trial: str | None = None,
        force: bool = False,
    ) -> Path:
        """Export the sweep for another program, or the model of a trial, and return its place. As ``ravel export``.

        Args:
            kind: csv, parquet, optuna, tensorboard, wandb-offline, or model.
            out: File or folder to write; by default ``SWEEP-KIND`` in the working directory.
            epoch: Epoch at which trials are compared; by default each counts with its last one.
            trial: Of a model, the id of its trial; by default the best.
            force: Replace an earlier export.

        Raises:
            SpecError: no such kind, an argument that it does not take, or the place exists.
            OrchestratorError: the sweep has nothing to export, or the place cannot be written.
            MissingExtraError: a library is not installed; names the extra.

        Example:
            >>> ravel.open("digits").export("csv", "tables")  # doctest: +SKIP
            PosixPath('/home/you/tables')
        """
        return registry.export(self.folder, kind, out, epoch=epoch, trial=trial, force=force).path

    def report(self, out: str | Path | None = None, *, against: Sweep | None = None) -> Path:
        """Write the sweep so far as one HTML page that needs no network, and return its path. As ``ravel report``.

        Args:
            out: File of the page; by default SWEEP-report.html in the working directory.
            against: Another sweep, to put both side by side.

        Raises:
            OSError: The file cannot be written.
            StorageError: S3 does not answer.

        Example:
            >>> ravel.open("digits").report("digits.html")  # doctest: +SKIP
            PosixPath('digits.html')
        """
        from orchestrator.analysis.report.report import write_report  # noqa: PLC0415

        path = Path(out) if out is not None else Path(f"{self.name}-report.html")
        write_report(self.result, path, against=None if against is None else against.result)
        return path

    def stop(self, trial: str | Sequence[str] | None = None, *, wait_s: float = changing.WAIT_S) -> OrderAnswer:
        """Stop the sweep, to be resumed later; or a trial, or several, for good. As ``ravel stop``.

        Args:
            trial: Id of a trial, or of several; by default the whole sweep is stopped.
            wait_s: Seconds to wait for the driver's answer.

        Raises:
            RefusedOrder: a trial does not exist, or is over; nothing was stopped.
            OrchestratorError: no driver runs the sweep, or it does not answer in time.

        Example:
            >>> sweep = ravel.open("digits")  # doctest: +SKIP
            >>> print(sweep.stop(trial="t003"))  # doctest: +SKIP
            digits-20261129-112245-bcdb: accepted
              stops t003
        """
        trials = () if trial is None else (trial,) if isinstance(trial, str) else tuple(trial)
        return changing.stop(self.folder, trials, wait_s=wait_s)

    def extend(
        self,
        *,
        trials: int | str | None = None,
        epochs: int | None = None,
        points: Sequence[Point] = (),
        retry_failed: bool = False,
        set: Mapping[str, Any] | None = None,  # noqa: A002  as --set
        now: bool = False,
        wait_s: float = changing.WAIT_S,
    ) -> OrderAnswer:
        """Extend the sweep while it runs, or after it ended: more trials, more epochs, points. As ``ravel extend``.

        Args:
            trials: ``"+16"`` for 16 more, or their number in all.
            epochs: Epochs of a full run.
            points: Points to run next.
            retry_failed: Retry the trials that failed.
            set: New values of fields, by their dotted names.
            now: Without a driver, apply the order here; by default ``ravel.resume`` applies it, and runs what is new.
            wait_s: Seconds to wait for the driver's answer.

        Raises:
            RefusedOrder: lists every reason; nothing was changed.
            SpecError: an argument is wrong.
            OrchestratorError: the driver does not answer in time.

        Example:
            >>> sweep = ravel.open("digits")  # doctest: +SKIP
            >>> answer = sweep.extend(trials="+16", set={"resources.max_concurrent": 4})  # doctest: +SKIP
            >>> answer.outcome, answer.settings  # doctest: +SKIP
            ('accepted', {'search.num_trials': 24, 'resources.max_concurrent': 4})
            >>> sweep.extend(epochs=3)  # doctest: +SKIP
            Traceback (most recent call last):
            orchestrator.errors.RefusedOrder: digits-20261129-112245-bcdb: refused
              trial.epochs: must be >= 9, the epochs that the sweep has; got 3; ravel stop ends trials
        """
        order = extend_order(
            now=time.time(),
            trials=trials,
            epochs=epochs,
            points=points,
            retry_failed=retry_failed,
            settings=_settings(set),
        )
        return changing.give(self.folder, order, wait_s=wait_s, now=now)

    @overload
    def fork(
        self,
        name: str,
        *,
        set: Mapping[str, Any] | None = None,
        best: int = changing.BEST,
        address: str | None = None,
        callback: ProgressCallback | None = None,
        background: Literal[False] = False,
    ) -> SweepResult: ...

    @overload
    def fork(
        self,
        name: str,
        *,
        set: Mapping[str, Any] | None = None,
        best: int = changing.BEST,
        address: str | None = None,
        callback: None = None,
        background: Literal[True],
    ) -> RunningSweep: ...

    def fork(
        self,
        name: str,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002  as --set
        best: int = changing.BEST,
        address: str | None = None,
        callback: ProgressCallback | None = None,
        background: bool = False,
    ) -> SweepResult | RunningSweep:
        """Launch a new sweep from the spec and the best points of this one. As ``ravel fork``.

        Args:
            name: Name of the new sweep.
            set: Other values of fields, by their dotted names.
            best: Number of best points to begin with; 0 keeps the points of the spec.
            address: As for ``ravel.launch``.
            callback: As for ``ravel.launch``.
            background: Return as soon as the new sweep has begun.

        Raises:
            SpecError: lists every mistake; nothing was started.
            OrchestratorError: as ``ravel.launch``.

        Example:
            >>> sweep = ravel.open("digits")  # doctest: +SKIP
            >>> sweep.fork("digits-gp", set={"search.sampler": "gp"}, background=True)  # doctest: +SKIP
            <Sweep digits-gp-20261129-120000-0c1d: 0% · 0/8 trials · 0/63 planned epochs · 0:00:00>
        """
        made = changing.fork(self.folder, name, settings=_settings(set), best=best)
        if background:
            if callback is not None:
                raise ValueError(CALLBACK_ELSEWHERE)
            return RunningSweep(DriverProcess.start(made.spec, address=address, parent=made.parent))
        from orchestrator import launching  # noqa: PLC0415  imports what a run needs

        return launching.launch(made.spec, address=address, callback=callback, parent=made.parent)

    @overload
    def confirm(
        self,
        *,
        top: int = changing.TOP,
        seeds: int | str | None = None,
        name: str | None = None,
        suites: Sequence[str] = ("clean",),
        metric: str | None = None,
        set: Mapping[str, Any] | None = None,
        address: str | None = None,
        callback: ProgressCallback | None = None,
        track: bool = True,
        dry_run: Literal[False] = False,
    ) -> Claim: ...

    @overload
    def confirm(
        self,
        *,
        top: int = changing.TOP,
        seeds: int | str | None = None,
        name: str | None = None,
        suites: Sequence[str] = ("clean",),
        metric: str | None = None,
        set: Mapping[str, Any] | None = None,
        address: str | None = None,
        callback: ProgressCallback | None = None,
        track: bool = True,
        dry_run: Literal[True],
    ) -> SweepSpec: ...

    def confirm(
        self,
        *,
        top: int = changing.TOP,
        seeds: int | str | None = None,
        name: str | None = None,
        suites: Sequence[str] = ("clean",),
        metric: str | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002  as --set
        address: str | None = None,
        callback: ProgressCallback | None = None,
        track: bool = True,
        dry_run: bool = False,
    ) -> Claim | SweepSpec:
        """Retrain the best configurations and a control with fresh seeds, and test them once. As ``ravel confirm``.

        Of a sweep that is a confirmation, run what is left, and return its claim.

        Args:
            top: Best configurations to confirm.
            seeds: Fresh seeds for each, 5 by default; ``"+5"`` adds five to a confirmation.
            name: Name of the new sweep; by default that of this one with ``-confirm``.
            suites: Suites that measure the metric on the test split.
            metric: ``"NAME max"`` or ``"NAME min"``; by default the objective's.
            set: Other values of fields that change no measurement, by their dotted names.
            address: As for ``ravel.launch``.
            callback: As for ``ravel.launch``.
            track: Send the numbers to MLflow.
            dry_run: Return the spec of the confirmation; start nothing.

        Raises:
            SpecError: lists every mistake; nothing was started.
            OrchestratorError: as ``ravel.launch``; or the control did not end with every seed.

        Example:
            >>> sweep = ravel.open("digits")  # doctest: +SKIP
            >>> claim = sweep.confirm(top=3, seeds=5)  # doctest: +SKIP
            >>> [row.name for row in claim.rows if row.is_claimed]  # doctest: +SKIP
            []
            >>> sweep.confirm(top=3, seeds=5, dry_run=True).search.num_trials  # doctest: +SKIP
            20
        """
        from orchestrator.cli.shared.evaluation_options import suites_of  # noqa: PLC0415  imports torch
        from ravel.confirming import claim_of  # noqa: PLC0415

        confirmation = changing.plan_confirmation(
            self.folder,
            name,
            top=top,
            seeds=seeds,
            suites=suites_of(",".join(suites)),
            metric=metric,
            settings=_settings(set),
            dry_run=dry_run,
        )
        if dry_run and isinstance(confirmation, Fork):
            return confirmation.spec
        return claim_of(confirmation, address=address, callback=callback, track=track)

    def __repr__(self) -> str:
        return f"<Sweep {self.name}: {headline(self.progress)}>"

    def _repr_html_(self) -> str:
        result = self.result
        console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_jupyter=False)
        console.print(
            f"{self.name}  {'running' if self.is_running else self.progress.status}", style="bold", highlight=False
        )
        console.print(overview(result.plan, result.state, self.progress, top=ROWS))
        for line in (*lineage_lines(result.plan), *order_lines(answered_orders(result.state))):
            console.print(line, highlight=False, markup=False)
        return console.export_html(inline_styles=True, code_format=_PAGE)

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found]  # noqa: PLC0415  a notebook has it

        shown = display(HTML(self._repr_html_()), display_id=True)
        if shown is not None and self.is_running:
            threading.Thread(target=self._keep_showing, args=(shown, HTML), name="ravel-display", daemon=True).start()

    def _keep_showing(self, shown: Any, page: type) -> None:
        """Update a cell of a notebook until the sweep ends."""
        runs = True
        while runs:
            time.sleep(REFRESH_S)
            runs = self.is_running
            shown.update(page(self._repr_html_()))


class RunningSweep(Sweep):
    """A sweep whose driver is a process that this one started: a ``Sweep`` that can be waited for."""

    def __init__(self, driver: DriverProcess) -> None:
        super().__init__(driver.folder)
        self._driver = driver

    @property
    def is_running(self) -> bool:
        """Return True while the driver runs."""
        return self._driver.is_running

    @property
    def output(self) -> str:
        """Text that the driver has printed."""
        return self._driver.output

    def wait(self, timeout_s: float | None = None) -> SweepResult:
        """Wait until the driver ends, and return the result.

        Raises:
            TimeoutError: it still runs after ``timeout_s``.
            Interrupted: it was stopped; continue with ``ravel.resume``.
            OrchestratorError: it ended with an error.
        """
        self._driver.wait(timeout_s)
        return self.result

    def stop(self, trial: str | Sequence[str] | None = None, *, wait_s: float = changing.WAIT_S) -> OrderAnswer:
        """Stop the sweep or trials, as ``Sweep.stop``; if it is the sweep, wait until its driver has ended.

        Raises:
            RefusedOrder: as ``Sweep.stop``.
            OrchestratorError: as ``Sweep.stop``; or the driver still runs after a minute.
        """
        answer = super().stop(trial, wait_s=wait_s)
        if trial is None:
            with suppress(Interrupted):
                self._await_end()
        return answer

    def _await_end(self) -> None:
        try:
            self._driver.wait(STOP_S)
        except TimeoutError:
            pid = self._driver.process.pid
            message = f"process {pid} accepted the order to stop and still runs after {STOP_S:.0f} s; see `output`"
            raise OrchestratorError(f"{self.name}: {message}") from None


def open(sweep: str | Path | None = None, *, storage: str | Path = "results") -> Sweep:  # noqa: A001  ravel.open, as gzip.open
    """Open a sweep that ended, runs, or was interrupted.

    Args:
        sweep: its folder, its address ``s3://bucket/prefix/SWEEP``, its id, or its name (the latest of that name); by
            default the latest sweep of the storage.
        storage: the folder, or ``s3://bucket/prefix``, with the sweeps.

    Raises:
        SweepNotFound: no such sweep; names the storage and its latest sweeps.
        StorageError: S3 does not answer.

    Example:
        >>> open("results/digits").best().score  # doctest: +SKIP
        0.9889
    """
    return Sweep(find_sweep(storage, None if sweep is None else str(sweep)))


def _settings(values: Mapping[str, Any] | None) -> list[str]:
    """Return new values of fields as after ``--set``; JSON is YAML.

    >>> _settings({"budget.gpu_s": 7200, "scheduler.name": None})
    ['budget.gpu_s=7200', 'scheduler.name=null']
    """
    return [f"{path}={json.dumps(value)}" for path, value in (values or {}).items()]
