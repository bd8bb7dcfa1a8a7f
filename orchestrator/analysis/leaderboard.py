"""Leaderboard, progress and status lines of a sweep: pure functions of its plan and state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.table import Table

from orchestrator.analysis.forecast import expected_epochs
from orchestrator.formatting import shown
from orchestrator.state.sweep_state import OVER
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import SweepState, Trial

NAMES = {
    "completed": "full budget",
    "stopped": "stopped",
    "paused": "paused",
    "diverged": "diverged",
    "failed": "failed",
}

MAX_WORD = 10
"""Characters of a name that fit one line of a column's header."""


@dataclass(frozen=True)
class Progress:
    """Progress of a sweep; ``left_s`` is null before the first trial is over."""

    sweep: str
    status: str
    num_trials: int
    by_status: dict[str, int]
    stopped_by_rung: dict[int, int]
    epochs_run: int
    epochs_full: int
    elapsed_s: float
    left_s: float | None

    @property
    def over(self) -> int:
        """Number of trials that are over."""
        return sum(count for status, count in self.by_status.items() if status in OVER)

    def as_json(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return asdict(self)


def progress(plan: SweepPlan, state: SweepState, *, now: float) -> Progress:
    """Count trials and times; the time left assumes the pace so far, and the epochs that the scheduler expects."""
    statuses = [trial.status for trial in state.trials.values()]
    end = state.last_time if state.ended is not None and state.last_time is not None else now
    elapsed_s = 0.0 if state.started_at is None else max(0.0, end - state.started_at)
    over = sum(status in OVER or status == "paused" for status in statuses)
    done, expected = state.epochs_run, expected_epochs(plan)
    return Progress(
        sweep=plan.sweep,
        status=state.ended.status if state.ended is not None else "running",
        num_trials=plan.spec.search.num_trials,
        by_status={status: statuses.count(status) for status in dict.fromkeys(statuses)},
        stopped_by_rung=state.stopped_by_rung(),
        epochs_run=state.epochs_run,
        epochs_full=plan.spec.search.num_trials * plan.max_epochs,
        elapsed_s=elapsed_s,
        left_s=elapsed_s * max(0.0, expected / done - 1) if over and done and state.ended is None else None,
    )


def headline(summary: Progress) -> str:
    """Format one line: trials, epochs, elapsed time and time left."""
    running = summary.by_status.get("running", 0)
    parts = [f"{summary.over}/{summary.num_trials} trials"]
    parts += [f"{running} running"] if running else []
    paused = summary.by_status.get("paused", 0)
    parts += [f"{paused} paused"] if paused else []
    parts += [f"{summary.epochs_run}/{summary.epochs_full} epochs ({summary.epochs_run / summary.epochs_full:.0%})"]
    parts += [_duration(summary.elapsed_s)]
    parts += [f"about {_duration(summary.left_s)} left"] if summary.left_s else []
    return " · ".join(parts)


def outcomes_line(summary: Progress) -> str:
    """Format one line: trials stopped at each rung, paused, and ended otherwise."""
    parts = [f"{count} stopped at rung {rung}" for rung, count in summary.stopped_by_rung.items()]
    kinds = (
        ("completed", "at full budget"),
        ("diverged", "diverged"),
        ("failed", "failed"),
        ("interrupted", "interrupted"),
    )
    paused = summary.by_status.get("paused", 0)
    parts += [f"{paused} paused at a rung"] if paused else []
    parts += [f"{summary.by_status[kind]} {words}" for kind, words in kinds if summary.by_status.get(kind)]
    return ", ".join(parts) or "no trial is over yet"


def table(plan: SweepPlan, state: SweepState, *, top: int) -> Table:
    """Build the leaderboard, best first; it fits 80 columns. A star marks the baseline."""
    objective = plan.spec.objective
    parameters = shown_parameters(plan)
    leaderboard = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    leaderboard.add_column("#", justify="right")
    leaderboard.add_column("trial")
    leaderboard.add_column(_header(objective.metric, "/"), justify="right")
    leaderboard.add_column("epoch", justify="right")
    leaderboard.add_column("status")
    for name in parameters:
        leaderboard.add_column(_header(name, "."), justify="right")
    for rank, trial in enumerate(state.ranked(objective)[:top], start=1):
        leaderboard.add_row(
            str(rank),
            trial.id + ("*" if trial.origin == "baseline" else ""),
            f"{trial.score(objective):.4f}",
            f"{trial.epoch}/{trial.budget}",
            _short_status(trial),
            *(shown(trial.config.get(name)) for name in parameters),
            style="bold" if rank == 1 else None,
        )
    return leaderboard


def _header(name: str, separator: str) -> str:
    r"""Split a name into lines: its group, then the rest, one word a line if it is long.

    >>> _header("optimizer.lr", "."), _header("gan.discriminator_snnl", ".")
    ('optimizer.\nlr', 'gan.\ndiscriminator_\nsnnl')
    """
    group, divider, rest = name.partition(separator)
    lines = rest if len(rest) <= MAX_WORD else rest.replace("_", "_\n")
    return f"{group}{divider}\n{lines}" if divider else name


def _short_status(trial: Trial) -> str:
    if trial.status == "completed" and trial.blind_from is not None:
        return f"audit of {trial.blind_from}"
    if trial.status in {"stopped", "paused"}:
        return f"rung {trial.stopping_rung}"
    return NAMES.get(trial.status, trial.status)


def shown_parameters(plan: SweepPlan) -> list[str]:
    """Choose the parameters to show: the strengths of the methods, then the first searched ones."""
    searched = list(plan.spec.space.names)
    first = [name for name in task_of(plan.spec.trial).strengths if name in searched]
    return (first + [name for name in ("optimizer.lr", *searched) if name in searched and name not in first])[
        : max(4, len(first))
    ]


def describe_status(trial: Trial) -> str:
    """Describe the status of a trial: its rung, its audit, and if it is the baseline."""
    words = NAMES.get(trial.status, trial.status)
    if trial.status in {"stopped", "paused"}:
        words = f"{words} at rung {trial.stopping_rung}"
    if trial.blind_from is not None:
        words = f"{words} for the audit of rung {trial.blind_from}"
    return f"{words} (baseline)" if trial.origin == "baseline" else words


def failures(state: SweepState) -> list[str]:
    """Format one line for each trial that diverged or failed, with its reason."""
    lost = state.with_status("diverged", "failed")
    return [f"{trial.id} {trial.status}: {trial.end.reason}" for trial in lost if trial.end is not None]


def best_lines(plan: SweepPlan, state: SweepState) -> list[str]:
    """Format the best trial, the score of the baseline, and the best trial's searched parameters."""
    objective = plan.spec.objective
    best = state.best(objective)
    if best is None:
        return [f"no trial has measured {objective.metric} yet"]
    baseline = next((trial for trial in state.trials.values() if trial.origin == "baseline"), None)
    score = baseline.score(objective) if baseline is not None else None
    compared = f"; baseline {baseline.id}: {score:.4f}" if baseline is not None and score is not None else ""
    lines = [f"best {best.id}: {objective.metric} {best.score(objective):.4f} after epoch {best.epoch}{compared}"]
    return lines + [f"  {name}: {shown(value)}" for name, value in best.point.items()]


def event_line(plan: SweepPlan, state: SweepState, event: Event) -> str | None:
    """Format an event as a line of plain progress; None for kinds that are not shown, such as epochs."""
    clock = datetime.fromtimestamp(event.time, tz=UTC).astimezone().strftime("%H:%M:%S")
    message = _message(plan, state, event)
    return f"{clock} {message}" if message else None


def _message(plan: SweepPlan, state: SweepState, event: Event) -> str | None:
    objective = plan.spec.objective
    match event.kind:
        case "sweep_started":
            driver = f" (driver {event.generation})" if event.generation > 1 else ""
            return f"{plan.sweep}: {plan.spec.search.num_trials} trials{driver}"
        case "attempt_failed":
            return f"{event.trial} attempt {event.attempt} failed ({event.cause}): {event.reason}; retrying"
        case "trial_promoted":
            return f"{event.trial} resumes from rung {event.rung}{' for the audit' if event.audited else ''}"
        case "trial_ended":
            trial = state.trials[event.trial]
            if plan.pauses and trial.status == "stopped":  # reported when it was paused
                return None
            score = trial.score(objective)
            measured = f"{objective.metric} {score:.4f}" if score is not None else "nothing measured"
            reason = f" ({event.reason})" if event.reason else ""
            summary = progress(plan, state, now=event.time)
            ended = f"{trial.id} {describe_status(trial)} after epoch {trial.epoch}: {measured}{reason}"
            return f"{ended}  [{headline(summary)}]"
        case _:
            return None


def log_line(event: Event) -> str:
    """Format an event of any kind as one line, for ``ravel logs``."""
    clock = datetime.fromtimestamp(event.time, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    fields = event.model_dump(exclude={"v", "time", "kind", "config", "traceback"}, exclude_none=True)
    words = " ".join(f"{name}={_compact(value)}" for name, value in fields.items())
    return f"{clock} {event.kind} {words}"


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{name}={shown(item)}" for name, item in value.items()) + "}"
    return shown(value)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
