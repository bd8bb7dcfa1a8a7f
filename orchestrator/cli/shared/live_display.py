"""Progress callbacks of the terminal: a live view of a running sweep, or plain lines if the output is no terminal."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.analysis.leaderboard import (
    LEGEND,
    best_lines,
    best_so_far,
    comparison_lines,
    event_line,
    failures,
    table,
)
from orchestrator.analysis.order_history import answered_orders, order_lines
from orchestrator.analysis.sweep_counts import SweepCounts
from orchestrator.analysis.sweep_progress import headline, progress, progress_bar, trials_over, work_left
from orchestrator.cli.shared.cluster_wait import ClusterWait
from orchestrator.execution.cluster.addresses import HERE, kind_of
from orchestrator.execution.progress import ProgressCallback
from orchestrator.execution.tune.cluster import view_now
from orchestrator.planning.batch_choice import batch_line
from orchestrator.planning.changes.extension import extended, in_force
from orchestrator.planning.points import num_trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

    from orchestrator.analysis.sweep_progress import Progress
    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.execution.progress import LagReport
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import SweepState

Say: TypeAlias = "Callable[[str | None], None]"
LIVE_ROWS = 10
LIVE_ORDERS = 3
WAIT_EVERY_S = 60.0
MAX_SHARE = 0.05
"""Share of the time that drawing the live view may take, at most."""
FINAL_ROWS = 10


class _Display(ProgressCallback):
    """Common part of both displays: say what starts, and look at what the sweep waits for in a shared cluster."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_shared = False
        self._wait: ClusterWait | None = None

    def on_connect(self, address: str) -> None:
        """Say what starts, which takes seconds."""
        self._is_shared = kind_of(address) not in HERE
        self._print(connecting(address))

    def on_joined(self, address: str, capacity: Capacity) -> None:
        """Say which cluster the driver has joined."""
        self._print(f"joined Ray at {address}: {capacity}")

    def on_measure(self) -> None:
        """Say what is measured."""
        self._print("measuring if trials train faster in batches ...")

    def on_end(self) -> None:
        """Stop to look at the cluster."""
        if self._wait is not None:
            self._wait.stop()

    def _say_batch(self, plan: SweepPlan) -> None:
        """Say how many trials train as one program."""
        line = batch_line(plan.spec.resources, plan.batch_choice)
        if line is not None:
            self._print(f"batch: {line}")

    def _print(self, line: str) -> None:
        self._console.out(line, highlight=False)

    def _look_at_cluster(self, plan: SweepPlan, store: EventStore, *, say: Say, every_s: float) -> None:
        if self._is_shared:
            look = partial(view_now, plan.sweep)
            self._wait = ClusterWait(store, plan.spec.resources, say, cluster=look, every_s=every_s)
            self._wait.start()


class PlainDisplay(_Display):
    """Progress callback that prints a line for each trial that ends, and one a minute while no worker is free."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._plan: SweepPlan | None = None
        self._store: EventStore | None = None
        self._counts: SweepCounts | None = None

    def on_start(self, plan: SweepPlan, store: EventStore, lag_report: LagReport) -> None:  # noqa: ARG002  the log warns instead
        """Print the size of the sweep."""
        self._plan, self._store, self._counts = plan, store, SweepCounts(plan, store.state)
        self._print(f"{plan.sweep}: {num_trials(plan.spec)} of at most {plan.max_epochs} epochs")
        self._say_batch(plan)
        self._look_at_cluster(plan, store, say=self._say_wait, every_s=WAIT_EVERY_S)

    def on_event(self, event: Event) -> None:
        """Print a line for a trial that paused, resumed or ended."""
        if self._plan is not None and self._store is not None:
            if event.kind == "order_accepted":
                self._plan = extended(self._plan, event)
            with self._store.lock:  # the driver's two threads append events
                line = event_line(self._plan, self._store.state, event, counts=self._counts)
            if line:
                self._print(line)

    def _say_wait(self, line: str | None) -> None:
        if line is not None:
            self._print(line)


class PacedView:
    """View that is drawn once more only if that keeps the share of the time spent on it below ``MAX_SHARE``.

    A large sweep takes seconds to rank, while no decision is made.

    Args:
        draw: Return the view as it is now.
        clock: Seconds.
    """

    def __init__(self, draw: Callable[[], RenderableType], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._draw, self._clock = draw, clock
        self._view: RenderableType | None = None
        self._due = 0.0

    def __call__(self) -> RenderableType:
        """Return the view, as it was drawn last or as it is now."""
        began = self._clock()
        if self._view is None or began >= self._due:
            self._view = self._draw()
            ended = self._clock()
            self._due = ended + (ended - began) * (1 / MAX_SHARE - 1)
        return self._view


class LiveDisplay(_Display):
    """Progress callback that draws a live view, twice a second, or less often if the sweep is large."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._waits_for: str | None = None

    def on_start(self, plan: SweepPlan, store: EventStore, lag_report: LagReport) -> None:
        """Start to draw."""

        def draw() -> RenderableType:
            waits = [] if self._waits_for is None else [self._waits_for]
            with store.lock:
                return live_view(in_force(plan.launched, store.state), store.state, notes=[*waits, *lag_report()])

        self._say_batch(plan)
        view = PacedView(draw)
        self._live = Live(console=self._console, get_renderable=view, refresh_per_second=2, transient=True)
        self._live.start()
        self._look_at_cluster(plan, store, say=self._note_wait, every_s=0.0)

    def on_end(self) -> None:
        """Clear the live view; the command prints a summary."""
        super().on_end()
        if self._live is not None:
            self._live.stop()

    def _note_wait(self, line: str | None) -> None:
        self._waits_for = line


def display_for(console: Console) -> ProgressCallback:
    """Return the progress callback for an output: a live view on a terminal, else plain lines."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


def connecting(address: str) -> str:
    """Return the line to print before workers can be started.

    >>> connecting("local"), connecting("10.0.0.1:6379"), connecting("processes")
    ('starting Ray ...', 'connecting to Ray at 10.0.0.1:6379 ...', 'starting worker processes ...')
    """
    match kind_of(address):
        case "local":
            return "starting Ray ..."
        case "processes":
            return "starting worker processes ..."
        case _:
            return f"connecting to Ray at {address} ..."


def live_view(plan: SweepPlan, state: SweepState, *, notes: Iterable[str] = ()) -> RenderableType:
    """Return the view of a running sweep at this moment."""
    return Group(
        Text(plan.sweep, style="bold"),
        overview(plan, state, progress(plan, state, now=time.time()), top=LIVE_ROWS),
        *(Text(line, style="dim") for line in order_lines(answered_orders(state)[-LIVE_ORDERS:])),
        *(Text(line, style="red") for line in failures(state)[-3:]),
        *(Text(line, style="yellow") for line in notes),
    )


def overview(plan: SweepPlan, state: SweepState, summary: Progress, *, top: int) -> RenderableType:
    """Return the progress of a sweep, its best trial and its leaderboard, for the live view and ``ravel status``."""
    return Group(
        progress_bar(summary),
        Text(trials_over(summary)),
        Text(work_left(summary)),
        Text(best_so_far(plan, state)),
        Text(),
        leaderboard(plan, state, top=top),
    )


def leaderboard(plan: SweepPlan, state: SweepState, *, top: int) -> RenderableType:
    """Return the table of the best trials, its legend, and the trials that cannot be told apart from the best."""
    trials = table(plan, state, top=top)
    if not trials.row_count:
        return Group()
    return Group(trials, Text(LEGEND, style="dim"), *map(Text, comparison_lines(plan, state)))


def print_summary(console: Console, plan: SweepPlan, state: SweepState, *, command: str, sweep: str) -> None:
    """Print the end of a sweep: leaderboard, trials, the best configuration, and the commands that compare trials."""
    summary = progress(plan, state, now=time.time())
    console.print()
    console.print(leaderboard(plan, state, top=FINAL_ROWS))
    console.print()
    for line in (headline(summary), trials_over(summary), work_left(summary), *failures(state)):
        console.out(line, highlight=False)
    console.print()
    for line in best_lines(plan, state):
        console.out(line, highlight=False)
    console.print()
    console.out("compare the trials in MLflow:", highlight=False)
    console.out(f"  {command} ui", highlight=False)
    console.out(f"  {command} compare {sweep}", highlight=False)
