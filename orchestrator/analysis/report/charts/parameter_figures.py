"""Figures of parameters and methods at one epoch: effects, slices, importance, parallel coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.effects import effects
from orchestrator.analysis.comparison.importance import importances
from orchestrator.analysis.figures.drawing import narrowed, ranks, searched, varied, with_unit
from orchestrator.analysis.report.charts.chart import (
    Bar,
    Dot,
    Figure,
    Line,
    Panel,
    Rule,
    Scale,
    Span,
    categories,
    label_of,
    round_ticks,
    scale_of,
)
from orchestrator.analysis.report.charts.thinning import (
    MOST_LINES,
    MOST_POINTS,
    ends,
    parameters_shown,
    share_shown,
    thinned,
)
from orchestrator.analysis.report.markup import number, table
from orchestrator.errors import OrchestratorError
from orchestrator.formatting import shown
from orchestrator.state.sweep_folder import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.figures.axes import Axis
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.sweep_state import Trial

MOST_PANELS = 12
MOST_AXES = 10
MOST_SHARES = 12
MOST_STUDIED = 500
"""Trials of which importance is estimated here; of more, the time that it takes would be felt at each report."""
RANK_CLASSES = 5
ROW = 40


def effect(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the difference of each trial to the baseline by the methods that are on, with the mean of each group."""
    groups = effects(result.plan, result.state, comparison)
    if not groups:
        raise OrchestratorError(f"the baseline, or all other trials, have no value at epoch {comparison.epoch}")
    y = categories([f"{group.methods} ({len(group.differences)})" for group in groups])
    total = sum(len(group.differences) for group in groups)
    marks: list[Dot | Span] = []
    count, rows = 0, []
    for (at, _), group in zip(y.ticks, groups, strict=True):
        ranked = sorted(group.differences, key=lambda name: -group.differences[name])
        most = max(8, MOST_POINTS * len(ranked) // total)
        kept = thinned(ranked, most, always=[ranked[0], ranked[-1]])
        count += len(kept)
        marks += [Dot(group.differences[name], at, f"{name}: {group.differences[name]:+.4f}", "grey") for name in kept]
        if group.interval is not None:
            marks.append(Span(at, *group.interval, "c0"))
        marks.append(Dot(group.mean, at, f"{group.methods}: mean {group.mean:+.4f}", "c0", "diamond"))
        low, high = group.interval or (None, None)
        values = (number(group.mean, "+.4f"), number(low, "+.4f"), number(high, "+.4f"))
        rows.append([group.methods, number(len(group.differences), ","), *values])
    title = f"difference to the baseline, {with_unit(result.plan, comparison.metric)}"
    x = scale_of(title, [0.0, *(mark.x for mark in marks if isinstance(mark, Dot))])
    panel = Panel(x, y, (*marks, Rule(0.0, "baseline", "x")), height=80 + ROW * len(groups))
    rule = "the best and worst of each group, and of the rest evenly spaced ones by rank"
    better = "above" if comparison.mode == "max" else "below"
    caption = (
        f"{share_shown(count, total, rule=rule)} Compared at epoch {comparison.epoch}; diamonds are means with 95 % "
        f"bootstrap intervals over trials; {better} 0 is better. Look for intervals that exclude 0. The baseline is "
        "one trial: its seed is part of every difference."
    )
    headers = ("methods that are on", "trials", "mean difference", "95 % low", "95 % high")
    legend = (("grey", "a trial"), ("c0 diamond", "mean and interval"))
    numbers = table("Effect of each set of methods", headers, rows)
    return Figure("effect", "Effect of each method", caption, (panel,), legend, numbers)


def slices(result: SweepResult, comparison: Comparison) -> Figure:
    """Return a panel for each searched parameter: its values against the objective, the baseline's as a line."""
    trials = [result.state.trials[name] for name in comparison.values]
    every = _axes(result, trials)
    axes = every[:MOST_PANELS]
    names, values = list(comparison.values), comparison.values
    places = [[axis.position(trial.point.get(axis.name)) for trial in trials] for axis in axes]
    always = {names[0], names[-1], *([comparison.baseline] if comparison.baseline else []), *ends(names, *places)}
    kept = thinned(names, MOST_POINTS, always=always)
    ringed, (low, high) = set(comparison.inseparable), narrowed(comparison)
    y = scale_of(with_unit(result.plan, comparison.metric), [low, high])
    panels = []
    for axis in axes:
        dots = [
            _dot(axis, result.state.trials[name], comparison, (low, high), is_ringed=name in ringed)
            for name in reversed(kept)
        ]
        baseline = values.get(comparison.baseline or "")
        rule = (Rule(min(max(baseline, low), high), "baseline"),) if baseline is not None else ()
        panels.append(Panel(_scale(axis, trials), y, (*rule, *dots), height=250, is_wide=False))
    caption = (
        f"{share_shown(len(kept), len(names))}{_left_out(result, 'slice', axes, every)} "
        f"Compared at epoch {comparison.epoch}, on the scale that was searched; "
        f"{len(comparison.greyed)} trials without a value at it are left out. Triangles are off the axis. Look for a "
        "slope, and for a best value at the edge of its range: search beyond it."
    )
    legend = (("c0", "a trial"), ("ring", "cannot be told apart from the best"), ("ink star", "baseline"))
    return Figure("slice", "Each parameter against the objective", caption, tuple(panels), legend)


def importance(result: SweepResult, comparison: Comparison) -> Figure:
    """Return the importance of each parameter by fANOVA and by PED-ANOVA, with intervals over resampled trials."""
    if len(comparison.values) > MOST_STUDIED:
        command = f"ravel plot {result.sweep} importance"
        raise OrchestratorError(f"{len(comparison.values):,} trials would take minutes to study here; see {command}")
    parts = importances(result.plan, result.state, comparison)
    panels, rows = [], []
    for index, part in enumerate(parts):
        names = list(part.shares)[:MOST_SHARES]
        y = categories(names)
        marks: list[Bar | Span] = []
        for (at, _), name in zip(y.ticks, names, strict=True):
            low, high = part.intervals[name]
            words = f"{name}: {part.shares[name]:.2f} ({low:.2f} to {high:.2f})"
            marks += [Bar(at, 0.0, part.shares[name], words, f"c{index}"), Span(at, low, high)]
        for name, share in part.shares.items():
            low, high = part.intervals[name]
            rows.append([name, part.method, number(share, ".3f"), number(low, ".3f"), number(high, ".3f")])
        x = Scale(
            f"{part.method}, share of all (sum 1)", 0.0, 1.0, tuple((at, label_of(at)) for at in round_ticks(0, 1))
        )
        panels.append(Panel(x, y, tuple(marks), height=70 + 24 * len(names)))
    most = max(len(part.shares) for part in parts)
    left_out = parameters_shown(min(most, MOST_SHARES), most, which="most important", see="the numbers below have all")
    caption = (
        f"All {len(comparison.values)} trials at epoch {comparison.epoch}; lines are the middle 95 % over resampled "
        f"trials.{left_out} Look for bars whose interval excludes 0. Trials that reach a late epoch are those that "
        "early stopping liked, so a strong method may look less important than it is."
    )
    headers = ("parameter", "method", "share", "95 % low", "95 % high")
    numbers = table("Importance", headers, rows)
    return Figure("importance", "Importance of parameters", caption, tuple(panels), (), numbers)


def parallel(result: SweepResult, comparison: Comparison) -> Figure:
    """Return a line for each trial over the searched parameters and the objective, coloured by rank."""
    trials = [result.state.trials[name] for name in comparison.values]
    every = _axes(result, trials)
    axes = every[:MOST_AXES]
    names, by_rank, (low, high) = list(comparison.values), ranks(comparison), narrowed(comparison)
    places = [[axis.position(trial.point.get(axis.name)) for trial in trials] for axis in axes]
    always = {names[0], names[-1], *([comparison.baseline] if comparison.baseline else []), *ends(names, *places)}
    kept = thinned(names, MOST_LINES, always=always)
    span = (high - low) or 1.0
    lines = []
    for name in reversed(kept):
        trial = result.state.trials[name]
        points = [(float(index), axis.position(trial.point.get(axis.name))) for index, axis in enumerate(axes)]
        value = comparison.values[name]
        points.append((float(len(axes)), (min(max(value, low), high) - low) / span))
        lines.append(Line(tuple(points), f"{_words(trial, axes)}; {value:.4f}", f"r{_rank_class(by_rank[name])}"))
    rules = tuple(Line(((float(index), 0.0), (float(index), 1.0)), "", "axis") for index in range(len(axes) + 1))
    bottom = min([-0.06, *(place for axis in places for place in axis)])
    ticks = tuple((at, words) for at, words in ((0.0, "low end"), (1.0, "high end")))
    labels = [*(axis.name for axis in axes), comparison.metric]
    x = Scale("", -0.6, len(axes) + 0.3, tuple((float(index), label) for index, label in enumerate(labels)))
    panel = Panel(x, Scale("", bottom - 0.05, 1.05, ticks), (*rules, *lines), height=400, is_slanted=True)
    rows = [[axis.title, *_ends_of(axis, trials)] for axis in axes]
    rows.append([comparison.metric, f"{low:.4f}", f"{high:.4f}", ""])
    caption = (
        f"{share_shown(len(kept), len(names))}{_left_out(result, 'parallel', axes, every)} "
        f"Compared at epoch {comparison.epoch}; the table below has the ends of "
        "the axes. Look for bundles of lines of the best colour: those settings belong together. Values below an axis "
        "are off, not set or outside of its range."
    )
    legend = tuple(
        (f"r{index} line", words)
        for index, words in enumerate(("worst fifth", "", "middle fifth", "", "best fifth"))
        if words
    )
    numbers = table("Axes", ("axis", "low end", "high end", "below the axis"), rows)
    return Figure("parallel", "Settings of all trials at once", caption, (panel,), legend, numbers)


def _axes(result: SweepResult, trials: Sequence[Trial]) -> list[Axis]:
    axes = varied(searched(result.plan), list(trials))
    if not axes:
        raise OrchestratorError(f"no searched parameter has two values among the {len(trials)} compared trials")
    return axes


def _left_out(result: SweepResult, kind: str, axes: Sequence[Axis], every: Sequence[Axis]) -> str:
    see = f"for all run: ravel plot {named(result.folder)} {kind}"
    return parameters_shown(len(axes), len(every), which="first", see=see)


def _scale(axis: Axis, trials: Iterable[Trial]) -> Scale:
    positions, texts = axis.ticks([trial.point.get(axis.name) for trial in trials])
    low = min([*positions, 0.0])
    return Scale(axis.title, low - 0.06, 1.06, tuple(zip(positions, texts, strict=True)))


def _dot(axis: Axis, trial: Trial, comparison: Comparison, span: tuple[float, float], *, is_ringed: bool) -> Dot:
    low, high = span
    value = comparison.values[trial.id]
    style = "ink" if trial.id == comparison.baseline else "c0"
    inside = "star" if trial.id == comparison.baseline else "circle"
    shape = "down" if value < low else "up" if value > high else inside
    own = f"{axis.name} {shown(trial.point.get(axis.name))}"
    return Dot(
        axis.position(trial.point.get(axis.name)),
        min(max(value, low), high),
        f"{trial.id}: {value:.4f}, {own}",
        f"{style} ring" if is_ringed else style,
        shape,  # type: ignore[arg-type]
    )


def _words(trial: Trial, axes: Iterable[Axis]) -> str:
    point = ", ".join(f"{axis.name} {shown(trial.point[axis.name])}" for axis in axes if axis.name in trial.point)
    return f"{trial.id}: {point}"


def _rank_class(rank: float) -> int:
    return min(RANK_CLASSES - 1, int(rank * RANK_CLASSES))


def _ends_of(axis: Axis, trials: Iterable[Trial]) -> tuple[str, str, str]:
    positions, texts = axis.ticks([trial.point.get(axis.name) for trial in trials])
    inside = [label for at, label in zip(positions, texts, strict=True) if at >= 0]
    apart = [label for at, label in zip(positions, texts, strict=True) if at < 0]
    return (inside[0], inside[-1], ", ".join(apart)) if inside else ("", "", ", ".join(apart))
