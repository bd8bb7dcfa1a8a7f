"""The terminal while a sweep runs: a live leaderboard, or plain lines where the output is no terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.analysis.leaderboard import (
    best_lines,
    event_line,
    failures,
    headline,
    outcomes_line,
    progress,
    table,
)
from orchestrator.execution.progress import ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from orchestrator.execution.progress import LagReport
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import SweepState

LIVE_ROWS = 10
FINAL_ROWS = 10


class PlainDisplay(ProgressCallback):
    """A line for each trial that ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._plan: SweepPlan | None = None
        self._store: EventStore | None = None

    def on_start(self, plan: SweepPlan, store: EventStore, lag_report: LagReport) -> None:  # noqa: ARG002  the log warns instead
        """Say what starts."""
        self._plan, self._store = plan, store
        self._console.out(
            f"{plan.sweep}: {plan.spec.search.num_trials} trials of at most {plan.max_epochs} epochs",
            highlight=False,
        )

    def on_event(self, event: Event) -> None:
        """Say what ended."""
        if self._plan is not None and self._store is not None:
            line = event_line(self._plan, self._store.state, event)
            if line:
                self._console.out(line, highlight=False)


class LiveDisplay(ProgressCallback):
    """The leaderboard, redrawn twice a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def on_start(self, plan: SweepPlan, store: EventStore, lag_report: LagReport) -> None:
        """Start drawing."""

        def draw() -> RenderableType:
            with store.lock:
                return live_view(plan, store.state, notes=lag_report())

        self._live = Live(console=self._console, get_renderable=draw, refresh_per_second=2, transient=True)
        self._live.start()

    def on_end(self) -> None:
        """Leave the terminal as it was; the summary is printed by whoever launched."""
        if self._live is not None:
            self._live.stop()


def display_for(console: Console) -> ProgressCallback:
    """Return the progress callback that fits the console: live in a terminal, else plain lines."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def live_view(plan: SweepPlan, state: SweepState, *, notes: Iterable[str] = ()) -> RenderableType:
    """What stands in the terminal at one moment."""
    summary = progress(plan, state, now=time.time())
    return Group(
        Text(f"{plan.sweep}  {headline(summary)}", style="bold"),
        Text(outcomes_line(summary)),
        table(plan, state, top=LIVE_ROWS),
        *(Text(line, style="red") for line in failures(state)[-3:]),
        *(Text(line, style="yellow") for line in notes),
    )


def print_summary(console: Console, plan: SweepPlan, state: SweepState, *, command: str, sweep: str) -> None:
    """The end of a sweep: leaderboard, where trials stopped, the best configuration, and how to compare in MLflow."""
    summary = progress(plan, state, now=time.time())
    console.print()
    console.print(table(plan, state, top=FINAL_ROWS))
    console.print()
    for line in (headline(summary), outcomes_line(summary), *failures(state)):
        console.out(line, highlight=False)
    console.print()
    for line in best_lines(plan, state):
        console.out(line, highlight=False)
    console.print()
    console.out("compare the trials in MLflow:", highlight=False)
    console.out(f"  {command} ui", highlight=False)
    console.out(f"  {command} compare {sweep}", highlight=False)
