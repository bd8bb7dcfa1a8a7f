"""A sweep in a notebook: its trials, its best one, a table and figures, read from the event log at each use.

A sweep that runs may be opened like one that ended: every property reads what the log has by then.
"""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orchestrator.analysis.result import SweepResult, TrialResult
from orchestrator.analysis.sweep_progress import headline, progress
from orchestrator.cli.live_display import overview
from orchestrator.planning.plan import SweepPlan
from orchestrator.state.log_segments import num_events
from orchestrator.state.sweep_lock import is_held
from orchestrator.state.sweep_lookup import find_sweep
from ravel.plots import Plots

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from orchestrator.analysis.sweep_progress import Progress
    from orchestrator.state.sweep_folder import SweepFolder

ROWS = 10
REFRESH_S = 2.0
COLUMNS = 100
_PAGE = (
    '<pre style="font-family:Menlo,Consolas,DejaVu Sans Mono,monospace;font-size:12px;line-height:1.25">{code}</pre>'
)


class Sweep:
    """A sweep, open for reading; ``open`` returns one.

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

    def best(self) -> TrialResult:
        """Return the best trial with a full budget; ``.load_model()`` loads its model.

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

    def __repr__(self) -> str:
        return f"<Sweep {self.name}: {headline(self.progress)}>"

    def _repr_html_(self) -> str:
        result = self.result
        console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_jupyter=False)
        console.print(
            f"{self.name}  {'running' if self.is_running else self.progress.status}", style="bold", highlight=False
        )
        console.print(overview(result.plan, result.state, self.progress, top=ROWS))
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
