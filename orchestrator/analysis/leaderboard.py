"""A sweep in words and tables: functions of its plan and its state alone."""

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
    "paused": "waits",
    "diverged": "diverged",
    "failed": "failed",
}

MAX_WORD = 10
"""Characters of a name that stand in one line of a column's header."""


@dataclass(frozen=True)
class Progress:
    """How far a sweep is; ``left_s`` is null before the first trial is over."""

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
        """Trials that are over."""
        return sum(count for status, count in self.by_status.items() if status in OVER)

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def progress(plan: SweepPlan, state: SweepState, *, now: float) -> Progress:
    """Counts and times of a sweep; the time left assumes the pace so far, and epochs as the scheduler expects them."""
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
    """One line: trials, epochs, time gone and time left."""
    running = summary.by_status.get("running", 0)
    parts = [f"{summary.over}/{summary.num_trials} trials"]
    parts += [f"{running} running"] if running else []
    waiting = summary.by_status.get("paused", 0)
    parts += [f"{waiting} waiting"] if waiting else []
    parts += [f"{summary.epochs_run}/{summary.epochs_full} epochs ({summary.epochs_run / summary.epochs_full:.0%})"]
    parts += [_duration(summary.elapsed_s)]
    parts += [f"about {_duration(summary.left_s)} left"] if summary.left_s else []
    return " · ".join(parts)


def where_trials_ended(summary: Progress) -> str:
    """One line: how many trials stopped at which rung, and how the others ended."""
    parts = [f"{count} stopped at rung {rung}" for rung, count in summary.stopped_by_rung.items()]
    kinds = (
        ("completed", "at full budget"),
        ("diverged", "diverged"),
        ("failed", "failed"),
        ("interrupted", "interrupted"),
    )
    waiting = summary.by_status.get("paused", 0)
    parts += [f"{waiting} waiting at a rung"] if waiting else []
    parts += [f"{summary.by_status[kind]} {words}" for kind, words in kinds if summary.by_status.get(kind)]
    return ", ".join(parts) or "no trial is over yet"


def table(plan: SweepPlan, state: SweepState, *, top: int) -> Table:
    """The leaderboard, best first; fits 80 columns. A star marks the baseline."""
    objective = plan.spec.objective
    parameters = shown_parameters(plan)
    views = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    views.add_column("#", justify="right")
    views.add_column("trial")
    views.add_column(_header(objective.metric, "/"), justify="right")
    views.add_column("epoch", justify="right")
    views.add_column("status")
    for name in parameters:
        views.add_column(_header(name, "."), justify="right")
    for rank, trial in enumerate(state.ranked(objective)[:top], start=1):
        views.add_row(
            str(rank),
            trial.id + ("*" if trial.origin == "baseline" else ""),
            f"{trial.score(objective):.4f}",
            f"{trial.epoch}/{trial.budget}",
            _short_status(trial),
            *(shown(trial.config.get(name)) for name in parameters),
            style="bold" if rank == 1 else None,
        )
    return views


def _header(name: str, separator: str) -> str:
    r"""A name in lines: its group, then the rest, whose words stand below each other where they are long.

    >>> _header("optimizer.lr", "."), _header("gan.discriminator_snnl", ".")
    ('optimizer.\nlr', 'gan.\ndiscriminator_\nsnnl')
    """
    group, found, rest = name.partition(separator)
    lines = rest if len(rest) <= MAX_WORD else rest.replace("_", "_\n")
    return f"{group}{found}\n{lines}" if found else name


def _short_status(trial: Trial) -> str:
    if trial.status == "completed" and trial.blind_from is not None:
        return f"audit of {trial.blind_from}"
    if trial.status in {"stopped", "paused"}:
        return f"rung {trial.stopping_rung}"
    return NAMES.get(trial.status, trial.status)


def shown_parameters(plan: SweepPlan) -> list[str]:
    """The columns worth their width: the strengths of the methods, then the first searched parameters."""
    searched = list(plan.spec.space.names)
    first = [name for name in task_of(plan.spec.trial).strengths if name in searched]
    return (first + [name for name in ("optimizer.lr", *searched) if name in searched and name not in first])[
        : max(4, len(first))
    ]


def describe_status(trial: Trial) -> str:
    """The status in words: where it stopped, and whether it is the baseline."""
    words = NAMES.get(trial.status, trial.status)
    if trial.status in {"stopped", "paused"}:
        words = f"{words} at rung {trial.stopping_rung}"
    if trial.blind_from is not None:
        words = f"{words} for the audit of rung {trial.blind_from}"
    return f"{words} (baseline)" if trial.origin == "baseline" else words


def failures(state: SweepState) -> list[str]:
    """One line for each trial that diverged or failed, with its reason."""
    lost = state.with_status("diverged", "failed")
    return [f"{trial.id} {trial.status}: {trial.end.reason}" for trial in lost if trial.end is not None]


def best_lines(plan: SweepPlan, state: SweepState) -> list[str]:
    """The best trial, how it compares with the baseline, and its searched parameters."""
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
    """One plain line for what a person wants to know of an event; None for the others.

    An epoch is told in the log of its trial, not here.
    """
    clock = datetime.fromtimestamp(event.time, tz=UTC).astimezone().strftime("%H:%M:%S")
    told = _in_words(plan, state, event)
    return f"{clock} {told}" if told else None


def _in_words(plan: SweepPlan, state: SweepState, event: Event) -> str | None:
    objective = plan.spec.objective
    match event.kind:
        case "sweep_started":
            again = f" (driver {event.generation})" if event.generation > 1 else ""
            return f"{plan.sweep}: {plan.spec.search.num_trials} trials{again}"
        case "attempt_failed":
            return f"{event.trial} attempt {event.attempt} broke off ({event.cause}): {event.reason}; trying again"
        case "trial_promoted":
            return f"{event.trial} goes on from rung {event.rung}{' for the audit' if event.audited else ''}"
        case "trial_ended":
            trial = state.trials[event.trial]
            if plan.pauses and trial.status == "stopped":  # told when it began to wait
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
    """An event of any kind in one line, for ``ravel logs``."""
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
