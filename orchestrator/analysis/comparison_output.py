"""Tables of a comparison: trials at one epoch, of one sweep or of several, and at each rung."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from orchestrator.analysis.comparison.rungs import OUTCOMES
from orchestrator.analysis.leaderboard import header, short_status, shown_parameters
from orchestrator.formatting import shown
from orchestrator.planning.seeds import searched_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.comparison.rungs import Rung
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial

MOST_GREYED = 3
"""Trials that are not compared, and listed below those that are."""
LEGEND = "* baseline · dim, in brackets: not compared, its last value and epoch"


def trials_table(plan: SweepPlan, state: SweepState, comparison: Comparison, *, top: int) -> Table:
    """Return the trials at the epoch of comparison, the best first, and dim below them some that are not compared.

    With several seeds a status is that of the configuration, as in the leaderboard.
    """
    searched = searched_state(plan, state).trials
    return _trials_table(
        state.trials,
        comparison,
        parameters=shown_parameters(plan),
        top=top,
        outcome=lambda name: short_status(searched[name]),
        title=f"{plan.sweep}: {_size(comparison)}",
    )


def rung_table(plan: SweepPlan, state: SweepState, rung: Rung, *, top: int) -> Table:
    """Return the leaderboard at a rung, with what became of each trial there."""
    return _trials_table(
        state.trials,
        rung.comparison,
        parameters=shown_parameters(plan),
        top=top,
        outcome=lambda name: rung.outcomes.get(name, ""),
        title=f"{rung.name}: {rung.summary}",
        column="then",
        greyed=0,
    )


def across_table(sweeps: Sequence[tuple[SweepPlan, SweepState]], comparison: Comparison, *, top: int) -> Table:
    """Return the trials of several sweeps at one epoch, named SWEEP/TRIAL."""
    trials = {f"{plan.sweep}/{name}": trial for plan, state in sweeps for name, trial in state.trials.items()}
    states = {plan.sweep: searched_state(plan, state) for plan, state in sweeps}
    searched = {f"{sweep}/{name}": trial for sweep, state in states.items() for name, trial in state.trials.items()}
    parameters = list(dict.fromkeys(name for plan, _ in sweeps for name in shown_parameters(plan)))
    title = f"{len(sweeps)} sweeps: {_size(comparison)}"
    return _trials_table(
        trials,
        comparison,
        parameters=parameters,
        top=top,
        outcome=lambda name: short_status(searched[name]),
        title=title,
    )


def rungs_table(rungs: Sequence[Rung]) -> Table:
    """Return a line for each rung: how many trials reached it, what became of them, and the best there."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    outcomes = [outcome for outcome in OUTCOMES if any(outcome in rung.counts for rung in rungs)]
    grid.add_column("rung")
    for name in ("reached", *outcomes):
        grid.add_column(name.replace(" ", "\n"), justify="right")
    grid.add_column("best")
    grid.add_column(f"{rungs[0].comparison.metric}", justify="right")
    grid.add_column("not told\napart", justify="right")
    for rung in rungs:
        compared = rung.comparison
        counts = [str(rung.counts.get(outcome, "-")) for outcome in outcomes]
        best = [compared.name(compared.best), f"{compared.values[compared.best]:.4f}", str(len(compared.inseparable))]
        grid.add_row(rung.name, str(len(rung.outcomes)), *counts, *best)
    return grid


def _size(comparison: Comparison) -> str:
    count = len(comparison.values)
    of = count + len(comparison.greyed)
    return f"{comparison.metric} at epoch {comparison.epoch}, {count} of {of} {comparison.unit}"


def _trials_table(
    trials: Mapping[str, Trial],
    comparison: Comparison,
    *,
    parameters: Iterable[str],
    top: int,
    outcome: Callable[[str], str],
    title: str,
    column: str = "status",
    greyed: int = MOST_GREYED,
) -> Table:
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column("#", justify="right")
    grid.add_column("trial")
    grid.add_column(f"{header(comparison.metric, '/')}\nat {comparison.epoch}", justify="right")
    grid.add_column("ran", justify="right")
    grid.add_column(column)
    names = list(parameters)
    for name in names:
        grid.add_column(header(name, "."), justify="right")

    def add(name: str, rank: str, value: str, style: str | None) -> None:
        trial = trials[name]
        mark = "*" if trial.origin == "baseline" else ""
        settings = (shown(trial.config.get(parameter)) for parameter in names)
        grid.add_row(rank, name + mark, value, f"{trial.epoch}/{trial.budget}", outcome(name), *settings, style=style)

    for rank, (name, value) in enumerate(list(comparison.values.items())[:top], start=1):
        add(name, str(rank), f"{value:.4f}", "bold" if rank == 1 else None)
    for name in sorted(comparison.greyed, key=lambda name: -trials[name].epoch)[:greyed]:
        last = trials[name].last(comparison.metric)
        add(name, "", "" if last is None else f"({last:.4f})", "dim")
    return grid
