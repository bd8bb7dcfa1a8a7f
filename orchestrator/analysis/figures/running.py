"""Figures of how a sweep ran: its slots over time, and what early stopping saved."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.analysis.figures.drawing import GREY, headed
from orchestrator.analysis.figures.progress import COLOURS, outcome
from orchestrator.errors import OrchestratorError
from orchestrator.state.event_log import read_events
from orchestrator.state.events import AttemptFailed, AttemptStarted, EpochReported, SweepStarted, TrialEnded
from trainables.evaluation.core.figures import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plotly.graph_objects import Figure

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import Trial

MINUTE_S = 60.0
OUTCOMES = ("completed", "stopped", "paused", "interrupted", "attempt failed", "failed", "diverged", "running")


@dataclass(frozen=True)
class Interval:
    """Time in which an attempt of a trial held a slot, in seconds since the sweep began, and how it ended."""

    trial: str
    attempt: int
    start_s: float
    end_s: float
    outcome: str
    epochs: int
    slot: int = 0


def intervals(events: Iterable[Event]) -> list[Interval]:
    """Return the attempts of a log with their times; one whose driver was killed ends with its last epoch."""
    begun: dict[str, tuple[AttemptStarted, float, int]] = {}
    done: list[Interval] = []
    first = now = 0.0

    def close(trial: str, how: str, at: float | None = None) -> None:
        if trial in begun:
            started, last, epochs = begun.pop(trial)
            end = last if at is None else at
            done.append(Interval(trial, started.attempt, started.time - first, end - first, how, epochs))

    for event in events:
        first, now = first or event.time, event.time
        match event:
            case SweepStarted():
                for trial in list(begun):
                    close(trial, "interrupted")
            case AttemptStarted():
                close(event.trial, "interrupted")
                begun[event.trial] = (event, event.time, 0)
            case EpochReported() if event.trial in begun:
                started, _, epochs = begun[event.trial]
                begun[event.trial] = (started, event.time, epochs + 1)
            case AttemptFailed():
                close(event.trial, "attempt failed", event.time)
            case TrialEnded():
                close(event.trial, event.status, event.time)
            case _:
                pass
    for trial in list(begun):
        close(trial, "running", now)
    return in_slots(done)


def in_slots(attempts: Iterable[Interval]) -> list[Interval]:
    """Return the attempts with the lowest slot that is free when each begins.

    >>> one, two = Interval("t0", 1, 0.0, 2.0, "completed", 1), Interval("t1", 1, 1.0, 3.0, "completed", 1)
    >>> [attempt.slot for attempt in in_slots([one, two, Interval("t2", 1, 2.0, 4.0, "completed", 1)])]
    [0, 1, 0]
    """
    placed: list[Interval] = []
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    for attempt in sorted(attempts, key=lambda attempt: (attempt.start_s, attempt.trial)):
        while busy and busy[0][0] <= attempt.start_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (attempt.end_s, slot))
        placed.append(Interval(**{**vars(attempt), "slot": slot}))
    return placed


def timeline(result: SweepResult, _: Comparison) -> Figure:
    """Return the slots of the sweep over time: a bar for each attempt, coloured by how it ended."""
    attempts = intervals(event for event, _ in read_events(result.folder.events))
    if not attempts:
        raise OrchestratorError(f"{result.sweep}: no trial has started yet; see `ravel logs {result.sweep}`")
    slots = 1 + max(attempt.slot for attempt in attempts)
    held = sum(attempt.end_s - attempt.start_s for attempt in attempts)
    span = max(attempt.end_s for attempt in attempts)
    share = f"{held / (span * slots):.0%}" if span else "all"
    note = f"n = {len(attempts)} attempts; {share} of {slots} slots in use over {span / MINUTE_S:.1f} min, all epochs"
    plot = figure(headed(result, "timeline of slots", note), x="time since the sweep began, minutes", y="slot")
    for index, how in enumerate(OUTCOMES):
        some = [attempt for attempt in attempts if attempt.outcome == how]
        if some:
            plot.add_bar(
                base=[attempt.start_s / MINUTE_S for attempt in some],
                x=[(attempt.end_s - attempt.start_s) / MINUTE_S for attempt in some],
                y=[attempt.slot for attempt in some],
                orientation="h",
                text=[attempt.trial for attempt in some],
                hovertext=[
                    f"{attempt.trial}, attempt {attempt.attempt}: {how}<br>{attempt.epochs} epochs in "
                    f"{attempt.end_s - attempt.start_s:.1f} s"
                    for attempt in some
                ],
                hoverinfo="text",
                textposition="inside",
                insidetextanchor="middle",
                marker={"color": COLOURS[index], "line": {"color": "white", "width": 1}},
                name=f"{how} (n = {len(some)})",
            )
    plot.update_yaxes(dtick=1, autorange="reversed")
    return plot.update_layout(
        barmode="overlay", uniformtext={"minsize": 8, "mode": "hide"}, width=1100, height=240 + 46 * slots, bargap=0.15
    )


def cost(result: SweepResult, _: Comparison) -> Figure:
    """Return the epochs that trials ran and those that early stopping saved, for each rung at which trials ended."""
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(result.state.trials.values(), key=lambda trial: (trial.epoch, trial.id)):
        groups.setdefault(outcome(trial), []).append(trial)
    labels = [f"{words} (n = {len(trials)})" for words, trials in groups.items()]
    ran = [sum(len(trial.epochs) for trial in trials) for trials in groups.values()]
    full = [sum(trial.budget for trial in trials) for trials in groups.values()]
    not_run = [most - run for most, run in zip(full, ran, strict=True)]
    saved = sum(saved_epochs(trial) for trial in result.state.trials.values())
    share = f"{saved / sum(full):.0%}" if sum(full) else "none"
    note = f"n = {len(result.state.trials)} trials at their last epochs; ran {sum(ran):,} of {sum(full):,} epochs"
    spent, spared = trained_seconds(result)
    time = f", trained {spent / MINUTE_S:.1f} min and saved about {spared / MINUTE_S:.1f} min" if spent else ""
    title = headed(result, f"cost: early stopping saved {share}", note + time)
    plot = figure(title, x="epochs", y="")
    plot.add_bar(x=ran, y=labels, orientation="h", name="run", marker={"color": COLOURS[0]}, text=ran)
    plot.add_bar(x=not_run, y=labels, orientation="h", name="not run", marker={"color": GREY}, text=not_run)
    plot.update_yaxes(title="how trials ended", automargin=True)
    return plot.update_layout(barmode="stack", width=1000, height=240 + 50 * len(labels))


def trained_seconds(result: SweepResult) -> tuple[float, float]:
    """Return the measured seconds of all epochs, and those of the epochs that were saved, at each trial's own pace."""
    spent = spared = 0.0
    for trial in result.state.trials.values():
        own = sum(metrics.get("time/epoch_s") or 0.0 for metrics in trial.epochs.values())
        spent += own
        spared += own / len(trial.epochs) * saved_epochs(trial) if trial.epochs else 0.0
    return spent, spared


def saved_epochs(trial: Trial) -> int:
    """Return the epochs that early stopping saved: those that a stopped trial has not run, and never will."""
    return trial.budget - len(trial.epochs) if trial.status == "stopped" else 0
