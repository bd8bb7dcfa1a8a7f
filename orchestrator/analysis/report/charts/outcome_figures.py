"""Figures of several outcomes: two objectives with their front, entanglement by tap, gains of a confirmation."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.trade_off import trade_off
from orchestrator.analysis.figures.drawing import with_unit
from orchestrator.analysis.figures.outcomes import CHANCE, FAMILY, measured_epochs, taps_of, weight_in_words
from orchestrator.analysis.report.charts.chart import Dot, Figure, Line, Panel, Rule, Scale, Span, categories, scale_of
from orchestrator.analysis.report.charts.thinning import MOST_POINTS, ends, share_shown, thinned
from orchestrator.analysis.report.markup import number, table
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from orchestrator.analysis.claims.claim import Claim
    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

MOST_EPOCHS = 8


def pareto(result: SweepResult, comparison: Comparison) -> Figure:
    """Return trials by two objectives at one epoch, with the Pareto front."""
    both = trade_off(result.plan, result.state, comparison)
    points, front = both.points, set(both.front)
    names = sorted(points, key=lambda name: (points[name], name))
    axes = [[points[name][axis] for name in names] for axis in (0, 1)]
    baseline = comparison.baseline if comparison.baseline in points else None
    kept = thinned(names, MOST_POINTS, always={*front, *ends(names, *axes), *([baseline] if baseline else [])})
    dots = []
    for name in kept:
        style = "ink" if name == baseline else "c0" if name in front else "grey"
        words = f"{name}: {points[name][0]:.4f}, {points[name][1]:.4f}"
        dots.append(Dot(*points[name], words, style, "star" if name == baseline else "circle"))
    line = Line(tuple(points[name] for name in both.front), "Pareto front", "c0 dashed")
    panel = Panel(
        scale_of(with_unit(result.plan, both.first), axes[0]),
        scale_of(with_unit(result.plan, both.second), axes[1]),
        (*((line,) if len(front) > 1 else ()), *dots),
        height=340,
    )
    rule = "the front, the baseline, both ends of each axis, and of the rest evenly spaced ones"
    caption = (
        f"{share_shown(len(kept), len(points), rule=rule)} At epoch {both.epoch}, of {len(result.state.trials)} trials "
        f"those that measured both. {len(front)} are on the front. Look for points of the front that are better than "
        "the baseline in both."
    )
    rows = [[name, number(points[name][0]), number(points[name][1])] for name in both.front]
    legend = (("c0", "on the front"), ("grey", "dominated"), ("ink star", "baseline"))
    numbers = table("Pareto front", ("trial", both.first, both.second), rows)
    return Figure("pareto", "Two objectives", caption, (panel,), legend, numbers)


def entanglement(result: SweepResult, _: Comparison) -> Figure:
    """Return the mean entanglement at each tap, a panel for each sign of SNNL's weight, a line for each epoch."""
    trials = [trial for trial in result.state.trials.values() if taps_of([trial])]
    if not trials:
        raise OrchestratorError("no trial has measured entanglement; it is that of classifiers")
    taps = taps_of(trials)
    epochs = sorted({epoch for trial in trials for epoch in measured_epochs(trial)})[-MOST_EPOCHS:]
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(weight_in_words(trial), []).append(trial)
    lines = {group: _means(own, taps, epochs) for group, own in sorted(groups.items())}
    values = [y for own in lines.values() for line in own for _, y in line.points]
    chance = [value for trial in trials for value in trial.values(CHANCE).values()]
    ticks = tuple((float(index), tap) for index, tap in enumerate(taps))
    rules = (Rule(fmean(chance), "chance"),) if chance else ()
    panels = tuple(
        Panel(
            Scale("tap", -0.3, len(taps) - 0.7, ticks),
            scale_of("soft nearest neighbour loss, nats", [*values, *chance]),
            (*rules, *own),
            title=f"{group} ({len(groups[group])} trials)",
            height=260,
            is_wide=False,
        )
        for group, own in lines.items()
    )
    caption = (
        f"Means over all {len(trials)} trials that measured it, at the epochs {', '.join(map(str, epochs))}. Look for "
        "taps at the level of chance: their classes are entangled completely."
    )
    legend = tuple((f"c{index} line", f"epoch {epoch}") for index, epoch in enumerate(epochs))
    return Figure("entanglement", "Entanglement by tap", caption, panels, legend)


def gains(claimed: Claim) -> Figure:
    """Return the gain of each confirmed configuration over the control, with both intervals over seeds."""
    rows = [row for row in claimed.rows if row.gain is not None]
    y = categories([row.name for row in rows])
    marks: list[Dot | Span] = []
    for (at, _), row in zip(y.ticks, rows, strict=True):
        if row.gain is None:
            continue
        marks += [Span(at + 0.12, *row.gain.interval, "c0"), Span(at - 0.12, *row.gain.bootstrap, "c1")]
        marks.append(Dot(row.gain.mean, at + 0.12, f"{row.name}: {row.gain.mean:+.4f}", "c0", "diamond"))
        if row.searched is not None:
            marks.append(Dot(row.searched, at, f"{row.name}: the search reported {row.searched:+.4f}", "grey"))
    places = [mark.x for mark in marks if isinstance(mark, Dot)]
    places += [end for mark in marks if isinstance(mark, Span) for end in (mark.low, mark.high)]
    x = scale_of(f"gain over the control in {claimed.metric}, more is better", [0.0, *places])
    panel = Panel(x, y, (*marks, Rule(0.0, "control", "x")), height=80 + 44 * len(rows))
    caption = (
        f"All {len(rows)} configurations, {len(claimed.seeds)} paired seeds. Look for Student's intervals that exclude "
        "the control, and for the distance to the grey point: the search's own number, on the images that chose it."
    )
    legend = (("c0 diamond", "mean, Student's interval"), ("c1 line", "bootstrap interval"), ("grey", "search's gain"))
    return Figure("gains", "Confirmed gains over the control", caption, (panel,), legend)


def _means(trials: list[Trial], taps: list[str], epochs: list[int]) -> tuple[Line, ...]:
    lines = []
    for index, epoch in enumerate(epochs):
        values = [
            [value for trial in trials if (value := trial.values(FAMILY + tap).get(epoch)) is not None] for tap in taps
        ]
        points = tuple((float(place), fmean(own)) for place, own in enumerate(values) if own)
        if points:
            lines.append(Line(points, f"epoch {epoch}", f"c{index}"))
    return tuple(lines)
