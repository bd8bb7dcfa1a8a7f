"""Figures of how a sweep went: learning curves, history, what early stopping saved, slots over time."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from orchestrator.analysis.figures.drawing import narrowed, with_unit
from orchestrator.analysis.figures.progress import outcome
from orchestrator.analysis.figures.running import MINUTE_S, OUTCOMES, intervals
from orchestrator.analysis.report.charts.chart import Bar, Dot, Figure, Line, Panel, Rule, Scale, categories, scale_of
from orchestrator.analysis.report.charts.thinning import (
    MOST_BARS,
    MOST_LINES,
    MOST_POINTS,
    ends,
    share_shown,
    thinned,
)
from orchestrator.analysis.report.markup import Cell, number, table
from orchestrator.errors import OrchestratorError
from orchestrator.state.event_log import read_events

if TYPE_CHECKING:
    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.report.charts.chart import Shape
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

NUM_COLOURS = 8
BAR_HEIGHT = 34


def curves(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the objective of trials by epoch, a colour for each way in which trials ended."""
    metric, trials = comparison.metric, result.state.trials
    measured = [trial for trial in trials.values() if trial.values(metric)]
    measured.sort(key=lambda trial: (-trial.epoch, trial.id))
    names = [trial.id for trial in measured]
    lasts = [trial.last(metric) or 0.0 for trial in measured]
    kept = thinned(names, MOST_LINES, always=_always(comparison) | ends(names, lasts))
    styles = {words: f"c{index % NUM_COLOURS}" for index, words in enumerate(dict.fromkeys(map(outcome, measured)))}
    lines = [_curve(trials[name], metric, styles[outcome(trials[name])]) for name in kept]
    baseline = trials.get(comparison.baseline or "")
    if baseline is not None and baseline.values(metric):
        lines.append(_curve(baseline, metric, "ink thick"))
    values = [value for name in kept for value in trials[name].values(metric).values()]
    low, high = _without_outliers(comparison, values)
    lines = [_clipped(line, low, high) for line in lines]
    panel = Panel(
        scale_of("epoch", [0, *(epoch for trial in measured for epoch in (trial.epoch,))], zero=True),
        scale_of(with_unit(result.plan, metric), [low, high]),
        (*lines, Rule(comparison.epoch, f"epoch {comparison.epoch}", "x")),
        height=360,
    )
    counts = {words: sum(outcome(trial) == words for trial in measured) for words in styles}
    legend = [(f"{styles[words]} line", f"{words} ({count})") for words, count in counts.items()]
    legend += [("ink line", "baseline")] if baseline is not None else []
    cut_off = "" if low <= min(values) and high >= max(values) else " Values far from the rest are at the edge."
    caption = (
        f"{share_shown(len(kept), len(measured))} The dotted line is epoch {comparison.epoch}, at which "
        f"{len(comparison.values)} trials are compared.{cut_off} Look for stopped trials that were still rising: they "
        "may have been stopped too early."
    )
    return Figure("curves", "Learning curves", caption, (panel,), tuple(legend))


def history(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the objective at the epoch of comparison in the order of the trials, and the best of them so far."""
    trials, values = result.state.trials, comparison.values
    order = {name: index for index, name in enumerate(trials)}
    names = sorted(values, key=order.__getitem__)
    best = list(accumulate((values[name] for name in names), max if comparison.mode == "max" else min))
    always = _always(comparison) | ends(names, [values[name] for name in names], [order[name] for name in names])
    kept = thinned(list(values), MOST_POINTS, always=always)
    low, high = narrowed(comparison)
    dots = [
        Dot(order[name], _into(values[name], low, high), f"{name}: {values[name]:.4f}", *_look(name, comparison))
        for name in sorted(kept, key=order.__getitem__)
    ]
    steps = Line(
        tuple((order[name], _into(value, low, high)) for name, value in zip(names, best, strict=True)),
        "best so far",
        "c1",
        is_stepped=True,
    )
    panel = Panel(
        scale_of("trial, in the order of creation", order.values()),
        scale_of(with_unit(result.plan, comparison.metric), [low, high]),
        (steps, *dots),
    )
    greyed = f" {len(comparison.greyed)} trials without a value at it are left out." if comparison.greyed else ""
    caption = (
        f"{share_shown(len(kept), len(values))} Values are those of epoch {comparison.epoch}.{greyed} Look for the "
        "last step of the line: if it is long ago, further trials of this search would have gained little."
    )
    legend = (("c0", "a trial"), ("c1 line", "best so far"), ("ink star", "baseline"))
    return Figure("history", "History of the search", caption, (panel,), legend)


def cost(result: SweepResult, _: Comparison) -> Figure:
    """Return the epochs that trials ran and those that were not run, by how trials ended."""
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(result.state.trials.values(), key=lambda trial: (trial.epoch, trial.id)):
        groups.setdefault(outcome(trial), []).append(trial)
    if not groups:
        raise OrchestratorError(f"{result.sweep}: no trial was created yet")
    y = categories([f"{words} ({len(trials)})" for words, trials in groups.items()])
    bars, rows = [], []
    for (at, label), (words, trials) in zip(y.ticks, groups.items(), strict=True):
        ran, full = sum(len(trial.epochs) for trial in trials), sum(trial.budget for trial in trials)
        bars += [
            Bar(at, 0, ran, f"{label}: {ran:,} epochs run", "c0", label=f"{ran:,}"),
            Bar(at, ran, full, f"{label}: {full - ran:,} epochs not run", "grey", label=f"{full - ran:,}"),
        ]
        rows.append([words, number(len(trials), ","), number(ran, ","), number(full - ran, ",")])
    x = scale_of("epochs", [sum(trial.budget for trial in trials) for trials in groups.values()], zero=True)
    panel = Panel(x, y, tuple(bar for bar in bars if bar.end > bar.start), height=70 + BAR_HEIGHT * len(groups))
    caption = (
        f"All {len(result.state.trials):,} trials at their last epochs. Look for the grey share: early stopping saved "
        "it, if the trials that it stopped would not have become the best."
    )
    numbers = table("Epochs by how trials ended", ("how trials ended", "trials", "epochs run", "not run"), rows)
    legend = (("c0 bar", "epochs run"), ("grey bar", "epochs not run"))
    return Figure("cost", "What early stopping saved", caption, (panel,), legend, numbers)


def timeline(result: SweepResult, _: Comparison) -> Figure:
    """Return the slots over time, a bar for each attempt, coloured by how it ended."""
    attempts = intervals(event for event, _ in read_events(result.folder.events))
    if not attempts:
        raise OrchestratorError(f"{result.sweep}: no trial has started yet")
    slots = 1 + max(attempt.slot for attempt in attempts)
    failed = [str(index) for index, attempt in enumerate(attempts) if "failed" in attempt.outcome]
    numbers = [str(index) for index in range(len(attempts))]
    longest = ends(numbers, [attempt.end_s - attempt.start_s for attempt in attempts])
    kept = thinned(numbers, MOST_BARS, always={*failed[:MOST_BARS], numbers[0], numbers[-1], *longest})
    shown = [attempts[int(index)] for index in kept]
    styles = {how: f"c{index % NUM_COLOURS}" for index, how in enumerate(OUTCOMES)}
    bars = [
        Bar(
            -attempt.slot,
            attempt.start_s / MINUTE_S,
            attempt.end_s / MINUTE_S,
            f"{attempt.trial}, attempt {attempt.attempt}: {attempt.outcome}, {attempt.epochs} epochs in "
            f"{attempt.end_s - attempt.start_s:.1f} s",
            styles[attempt.outcome],
            thickness=0.84,
            label=attempt.trial,
        )
        for attempt in shown
    ]
    span = max(attempt.end_s for attempt in attempts)
    held = sum(attempt.end_s - attempt.start_s for attempt in attempts)
    share = f"{held / (span * slots):.0%}" if span else "100%"
    step = -(-slots // 20)
    ticks = tuple((float(-slot), str(slot)) for slot in range(0, slots, step))
    panel = Panel(
        scale_of("minutes since the sweep began", [span / MINUTE_S], zero=True),
        Scale("slot", -slots + 0.4, 0.6, ticks),
        tuple(bars),
        height=min(560, 76 + 26 * slots),
    )
    rule = "those that failed, the first and last, the shortest and longest, and of the rest evenly spaced ones"
    caption = (
        f"{share_shown(len(shown), len(attempts), rule=rule, what='attempts')} Trials held {share} of the time "
        f"of {slots} slots over {span / MINUTE_S:.1f} minutes. Look for idle slots, and for attempts of the same "
        "trial: each repeats work."
    )
    counts = {how: sum(attempt.outcome == how for attempt in attempts) for how in OUTCOMES}
    legend = tuple((f"{styles[how]} bar", f"{how} ({count})") for how, count in counts.items() if count)
    rows = [[how, Cell(f"{count:,}", count)] for how, count in counts.items() if count]
    return Figure(
        "timeline", "Slots over time", caption, (panel,), legend, table("Attempts", ("how it ended", "attempts"), rows)
    )


def _always(comparison: Comparison) -> set[str]:
    """Return the trials that no figure leaves out: the best, the worst, the baseline."""
    compared = list(comparison.values)
    return {compared[0], compared[-1], *([comparison.baseline] if comparison.baseline else [])}


def _curve(trial: Trial, metric: str, style: str) -> Line:
    last = trial.last(metric)
    words = f"{trial.id}: {outcome(trial)}, last value {last:.4f}"
    return Line(tuple((float(epoch), value) for epoch, value in trial.values(metric).items()), words, style)


def _without_outliers(comparison: Comparison, values: list[float]) -> tuple[float, float]:
    """Return the range of an axis of curves: without the lowest or highest twentieth on the worse side if it is far."""
    low, high = min(values), max(values)
    ordered = sorted(values)
    edge = len(ordered) // 20
    if comparison.mode == "max":
        return (ordered[edge] if high - ordered[edge] < 0.5 * (high - low) else low), high
    return low, (ordered[-1 - edge] if ordered[-1 - edge] - low < 0.5 * (high - low) else high)


def _clipped(line: Line, low: float, high: float) -> Line:
    return Line(tuple((x, _into(y, low, high)) for x, y in line.points), line.words, line.style)


def _into(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _look(name: str, comparison: Comparison) -> tuple[str, Shape]:
    return ("ink", "star") if name == comparison.baseline else ("c0", "circle")
