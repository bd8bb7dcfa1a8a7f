"""First section of a report: what ran, how trials ended, and what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orchestrator.analysis.figures.running import MINUTE_S, intervals, saved_epochs, trained_seconds
from orchestrator.analysis.report.markup import Html, joined, tag
from orchestrator.analysis.sweep_progress import progress
from orchestrator.state.event_log import read_events
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult

STATES = {
    "completed": "ran their full budget",
    "stopped": "stopped early",
    "paused": "paused",
    "running": "running",
    "waiting": "queued",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "failed": "failed",
}


@dataclass(frozen=True)
class Cost:
    """Cost of a sweep: epochs that were run and those of full training, and seconds of wall time and of slots.

    ``spared_s`` is the training time of the epochs that were saved, at each trial's own pace.
    """

    epochs: int
    epochs_full: int
    epochs_saved: int
    wall_s: float
    slot_s: float
    trained_s: float
    spared_s: float

    @property
    def saved(self) -> float:
        """Share of the epochs of full training that early stopping saved."""
        return self.epochs_saved / self.epochs_full if self.epochs_full else 0.0


def cost_of(result: SweepResult) -> Cost:
    """Return the cost of a sweep until its last event."""
    state = result.state
    attempts = intervals(event for event, _ in read_events(result.folder.events))
    trained, spared = trained_seconds(result)
    return Cost(
        epochs=state.epochs_run,
        epochs_full=sum(trial.budget for trial in state.trials.values()),
        epochs_saved=sum(saved_epochs(trial) for trial in state.trials.values()),
        wall_s=state.elapsed_s(now=state.last_time),
        slot_s=sum(attempt.end_s - attempt.start_s for attempt in attempts),
        trained_s=trained,
        spared_s=spared,
    )


def overview(result: SweepResult) -> Html:
    """Return the paragraph that says what ran, and the numbers of the sweep."""
    plan, cost = result.plan, cost_of(result)
    summary = progress(plan, result.state, now=result.state.last_time)
    paragraph = tag(
        "p",
        f"{len(result.state.trials):,} of {summary.num_trials:,} planned trials of {what_ran(result)}, searched over "
        f"{len(plan.spec.space.names)} parameters for the {_goal(plan.spec.objective.mode)} ",
        tag("code", plan.spec.objective.metric),
        " on the validation split. Spec ",
        tag("code", plan.spec.name),
        f", launched {when(plan.created_at)}, {_ended(result)}.",
        class_="lead",
    )
    spared = f", about {duration(cost.spared_s)} of training" if cost.spared_s else ""
    tiles = {
        "Trials": (f"{len(result.state.trials):,}", states(result)),
        "Epochs": (f"{cost.epochs:,}", f"of {cost.epochs_full:,} of full training of these trials"),
        "Saved by early stopping": (f"{cost.saved:.0%}", f"{cost.epochs_saved:,} epochs{spared}"),
        "Wall time": (duration(cost.wall_s), "while a driver ran"),
        "Slot time": (duration(cost.slot_s), f"all attempts together; {duration(cost.trained_s)} of it in epochs"),
    }
    items = [
        tag("div", tag("dt", name), tag("dd", tag("b", value), " ", tag("span", note)))
        for name, (value, note) in tiles.items()
    ]
    return joined([paragraph, tag("dl", *items, class_="tiles")])


def what_ran(result: SweepResult) -> str:
    """Return the task, the network and the data of a sweep in words."""
    trial = result.plan.spec.trial
    task = task_of(trial)
    searched = result.plan.spec.space.names
    names = {"model.name": "", "data.name": ""}
    for name in names:
        if name in searched and name not in trial:
            names[name] = "several"
        else:
            names[name] = str(trial.get(name) or task.defaults.get(name) or "")
    network = f" ({names['model.name']})" if names["model.name"] else ""
    data = f" on {names['data.name']}" if names["data.name"] else ""
    kind = "a " + task.name if "." not in task.name and ":" not in task.name else f"the task {task.name}"
    return f"{kind}{network}{data}"


def states(result: SweepResult) -> str:
    """Return the numbers of trials by state in words."""
    counts = Counter[str](trial.status for trial in result.state.trials.values())
    return ", ".join(f"{counts[status]:,} {words}" for status, words in STATES.items() if counts[status])


def when(seconds: float) -> str:
    """Return a time as its date and time of day in UTC.

    >>> when(0.0)
    '1970-01-01 00:00 UTC'
    """
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Return a duration in words of at most two units.

    >>> duration(42.2), duration(130), duration(9000), duration(200_000)
    ('42 s', '2 min 10 s', '2 h 30 min', '2 d 7 h')
    """
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, left = divmod(rest, int(MINUTE_S))
    units = ((whole.days, "d"), (hours, "h"), (minutes, "min"), (left, "s"))
    first = next((index for index, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count) or "0 s"


def _goal(mode: str) -> str:
    return "highest" if mode == "max" else "lowest"


def _ended(result: SweepResult) -> str:
    ended = result.state.ended
    if ended is None:
        return f"not ended at its last event, {when(result.state.last_time)}"
    reason = f" ({ended.reason})" if ended.reason else ""
    return f"{ended.status} {when(ended.time)}{reason}"
