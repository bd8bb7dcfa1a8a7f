"""Progress of a sweep: counts, times, and the share of its planned budget that is spent."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.progress_bar import ProgressBar
from rich.table import Table

from orchestrator.analysis.forecast.forecast import expected_epochs
from orchestrator.analysis.sweep_counts import ENDED, SweepCounts
from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.population import Pbt
from orchestrator.state.sweep_state import OVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState

MAX_SHARE = 0.99
"""Share shown of a sweep that is not finished, at most."""

BAR_WIDTH = 40


@dataclass(frozen=True)
class Progress:
    """Progress of a sweep.

    ``share`` is the spent part of the planned budget: 1 for a finished sweep, less for every other. ``epochs_planned``
    counts the epochs that the scheduler is expected to run, ``epochs_full`` those of training every trial to its end.
    ``left_s`` is null before the first trial is over.
    """

    sweep: str
    status: str
    num_trials: int
    by_status: dict[str, int]
    stopped_by_rung: dict[int, int]
    paused_by_rung: dict[int, int]
    to_start: int
    epochs_run: int
    epochs_planned: int
    epochs_full: int
    share: float
    elapsed_s: float
    left_s: float | None
    seeds: int = 1
    """Seeds of a configuration at most; with several, all counts of trials are of configurations."""
    dropped: int = 0
    """Configurations that racing dropped on the way to their end, where no rung is."""

    @property
    def unit(self) -> str:
        """Return what is counted, in words."""
        return "trials" if self.seeds == 1 else "configurations"

    @property
    def over(self) -> int:
        """Number of trials that are over."""
        return sum(count for status, count in self.by_status.items() if status in OVER)

    @property
    def is_finished(self) -> bool:
        """Return True if nothing is left to run."""
        return self.share == 1.0

    def as_json(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {name: value for name, value in asdict(self).items() if name != "dropped" or value}


def progress(plan: SweepPlan, state: SweepState, *, now: float, counts: SweepCounts | None = None) -> Progress:
    """Return the progress of a sweep; the time left assumes the pace so far and the planned epochs.

    Args of note: ``counts`` are those of the state at an earlier time, and are brought up to date; without them all
    trials are counted.
    """
    counts = SweepCounts(plan, state) if counts is None else counts.updated(plan)
    by_status, num_descendants = counts.by_status, counts.num_descendants
    is_finished = _is_finished(plan, state, by_status)
    num_trials = plan.spec.search.num_trials + num_descendants
    to_start = 0 if is_finished else max(0, num_trials - sum(by_status.values()))
    planned = _planned_epochs(plan, counts, to_start=to_start)
    return Progress(
        sweep=plan.sweep,
        status=state.ended.status if state.ended is not None else "running",
        num_trials=num_trials,
        by_status=by_status,
        stopped_by_rung=counts.stopped_by_rung,
        paused_by_rung=counts.paused_by_rung,
        to_start=to_start,
        epochs_run=counts.epochs_run,
        epochs_planned=math.ceil(planned),
        epochs_full=plan.spec.search.num_trials * plan.max_epochs * plan.spec.search.seeds,
        share=1.0 if is_finished else min(MAX_SHARE, _share(plan, counts, planned, state.age_s(now=now))),
        elapsed_s=state.elapsed_s(now=now),
        left_s=_time_left(plan, state, counts.epochs_run, planned, now) if ENDED & by_status.keys() else None,
        seeds=plan.spec.search.seeds,
        dropped=counts.num_out_of_race,
    )


def _is_finished(plan: SweepPlan, state: SweepState, by_status: Mapping[str, int]) -> bool:
    """Return True if the sweep ended and ``ravel resume`` would find nothing to run."""
    if state.ended is None or state.ended.status == "interrupted":
        return False
    num_over = sum(count for status, count in by_status.items() if status in OVER)
    return state.ended.status == "completed" or num_over >= plan.spec.search.num_trials


def _planned_epochs(plan: SweepPlan, counts: SweepCounts, *, to_start: int) -> float:
    """Return the epochs that the whole sweep is expected to run, at least one more for each unfinished trial."""
    scheduler = plan.scheduler if plan.spec.scheduler.own is None else None
    known = isinstance(scheduler, BudgetedAsha | NoStopping | Pbt) or (
        isinstance(scheduler, Asha) and plan.spec.scheduler.rung_unit == "epochs"
    )
    expected = expected_epochs(plan) if known else _extrapolated_epochs(plan, counts)
    if isinstance(scheduler, NoStopping):
        expected -= counts.epochs_saved
    return max(expected, float(counts.epochs_run + to_start + counts.num_unfinished))


def _extrapolated_epochs(plan: SweepPlan, counts: SweepCounts) -> float:
    """Return the epochs of all trials if each runs as many as those that are over or paused did on average.

    For schedulers whose cost is not known beforehand: PASHA, the median rule, users' own; other resources than epochs.
    """
    mean = counts.mean_epochs_of_ended
    return plan.spec.search.num_trials * mean if mean else expected_epochs(plan)


def _share(plan: SweepPlan, counts: SweepCounts, planned: float, age_s: float) -> float:
    """Return the spent part of the budget that is used up first: epochs, or the limits in ``budget``."""
    budget = plan.spec.budget
    clock = 0.0 if budget.wall_clock_s is None else age_s / budget.wall_clock_s
    gpus = 0.0 if budget.gpu_s is None else counts.gpu_s / budget.gpu_s
    return max(counts.epochs_run / planned, clock, gpus)


def _time_left(plan: SweepPlan, state: SweepState, epochs_run: int, planned: float, now: float) -> float | None:
    if state.ended is not None or not epochs_run:
        return None
    left, limit = state.elapsed_s(now=now) * (planned / epochs_run - 1), plan.spec.budget.wall_clock_s
    return max(0.0, left if limit is None else min(left, limit - state.age_s(now=now)))


def headline(summary: Progress) -> str:
    """Return one line: share of the planned budget, trials, epochs, elapsed time, time left."""
    running, paused = summary.by_status.get("running", 0), summary.by_status.get("paused", 0)
    parts = [f"{summary.share:.0%}", f"{summary.over}/{summary.num_trials} {summary.unit}"]
    parts += [f"{running} running"] if running else []
    parts += [f"{paused} paused"] if paused else []
    return " · ".join([*parts, _epochs(summary), *_times(summary)])


def progress_bar(summary: Progress) -> Table:
    """Return a bar of the share of the planned budget, with the elapsed time and the time left."""
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=summary.share, width=BAR_WIDTH)
    line.add_row(bar, f"{summary.share:4.0%}", " · ".join(_times(summary)))
    return line


def trials_over(summary: Progress) -> str:
    """Return one line: how many trials are over, at which rung they stopped, and how the rest ended."""
    kinds = (("completed", "at full budget"), ("diverged", "diverged"), ("failed", "failed"))
    parts = [f"{count} stopped at rung {rung}" for rung, count in summary.stopped_by_rung.items()]
    parts += [f"{summary.dropped} dropped by racing"] if summary.dropped else []
    ordered = summary.by_status.get("stopped", 0) - sum(summary.stopped_by_rung.values()) - summary.dropped
    parts += [f"{ordered} stopped by order"] if ordered else []
    parts += [f"{summary.by_status[kind]} {words}" for kind, words in kinds if summary.by_status.get(kind)]
    return f"{summary.over}/{summary.num_trials} {summary.unit} over{': ' if parts else ''}{', '.join(parts)}"


def work_left(summary: Progress) -> str:
    """Return one line: the trials that are not over and the planned epochs, or the epochs of a finished sweep."""
    if summary.is_finished:
        share = summary.epochs_run / summary.epochs_full
        return f"ran {summary.epochs_run:,} of {summary.epochs_full:,} epochs of full training ({share:.0%})"
    kinds = (("running", "running"), ("waiting", "queued"), ("interrupted", "interrupted"))
    parts = [f"{summary.by_status[kind]} {words}" for kind, words in kinds if summary.by_status.get(kind)]
    parts += [f"{count} paused at rung {rung}" for rung, count in summary.paused_by_rung.items()]
    parts += [f"{summary.to_start} to start"] if summary.to_start else []
    return " · ".join([*([", ".join(parts)] if parts else []), _epochs(summary)])


def _epochs(summary: Progress) -> str:
    if summary.is_finished:
        return f"{summary.epochs_run:,} epochs"
    return f"{summary.epochs_run:,}/{summary.epochs_planned:,} planned epochs"


def _times(summary: Progress) -> list[str]:
    left = [f"about {_duration(summary.left_s)} left"] if summary.left_s else []
    return [_duration(summary.elapsed_s), *left]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
