"""Two sweeps side by side: can they be compared, what differs, both best sets at one epoch, both claims and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.analysis.comparison.comparison import compare
from orchestrator.analysis.comparison.epochs import epoch_of_best
from orchestrator.analysis.figures.drawing import with_unit
from orchestrator.analysis.report.charts.chart import Dot, Figure, Panel, categories, scale_of
from orchestrator.analysis.report.charts.figures import placed
from orchestrator.analysis.report.charts.thinning import MOST_POINTS, share_shown, thinned
from orchestrator.analysis.report.claim_section import conclusion
from orchestrator.analysis.report.document import Section
from orchestrator.analysis.report.markup import Html, joined, listed, table, tag
from orchestrator.analysis.report.overview import cost_of, duration, states, what_ran, when
from orchestrator.analysis.report.reproduction import digests
from orchestrator.errors import OrchestratorError, cut
from orchestrator.formatting import shown
from orchestrator.planning.changes.extension import POINTS, shown_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.report.charts.chart import Shape
    from orchestrator.analysis.result import SweepResult

ROWS_OF_DOTS = 7
"""Heights over which the trials of a sweep are spread, so that equal values can be seen."""
OF_THE_DATA = "data."
MOST_CHARACTERS = 160
"""Characters of a value that the table of differences shows."""


def side_by_side(first: SweepResult, second: SweepResult) -> list[Section]:
    """Return the sections of a page on two sweeps."""
    epoch = equal_epoch(first, second)
    pair = None if epoch is None else (_at(first, epoch), _at(second, epoch))
    reasons = obstacles(first, second, pair)
    return [
        Section("comparable", "Can they be compared?", _comparable(reasons, epoch)),
        Section("what-ran", "What ran", _numbers(first, second)),
        Section("specs", "What differs in the specs", _differences(first, second)),
        Section("best", "The best of both", _best(first, second, pair, is_comparable=not reasons)),
        Section("claims", "What is claimed of both", _claims(first, second)),
    ]


def equal_epoch(first: SweepResult, second: SweepResult) -> int | None:
    """Return the highest epoch that both sweeps measured, up to that of the best trial of each; None without one."""
    try:
        most = min(epoch_of_best(sweep.plan, sweep.state) for sweep in (first, second))
    except OrchestratorError:
        return None
    return max((epoch for epoch in _epochs(first) & _epochs(second) if epoch <= most), default=None)


def obstacles(first: SweepResult, second: SweepResult, pair: tuple[Comparison, Comparison] | None) -> list[str]:
    """Return the reasons for which the values of two sweeps cannot be compared; none if they can."""
    one, two = first.plan.spec, second.plan.spec
    reasons = []
    if what_ran(first) != what_ran(second) or _data(first) != _data(second):
        reasons.append(f"they train different things: {what_ran(first)}{_in_words(_data(first), _data(second))}")
        reasons[-1] += f"; and {what_ran(second)}{_in_words(_data(second), _data(first))}"
    read = digests(first), digests(second)
    if all(read) and set(read[0]) != set(read[1]):
        short = " and ".join(", ".join(digest[:12] for digest in own) for own in read)
        reasons.append(f"their data have other contents: the digests are {short}")
    goals = [", ".join(f"{item.metric} {item.mode}" for item in spec.objective.all) for spec in (one, two)]
    if goals[0] != goals[1]:
        reasons.append(f"they have different objectives: {goals[0]}; and {goals[1]}")
    if pair is None:
        reasons.append("no epoch was measured by both")
    elif pair[0].images != pair[1].images:
        counts = [str(own.images or "an unknown number of") for own in pair]
        reasons.append(f"their objectives are measured on {counts[0]} and on {counts[1]} validation images")
    return reasons


def _comparable(reasons: list[str], epoch: int | None) -> Html:
    if not reasons:
        words = "They train the same task on the same data, with one objective, measured on as many images. "
        limit = (
            "Their best values are those of the luckiest trial of each: a sweep with more trials has a luckier one. No "
            "test compares the two here. Confirm both, and compare the confirmed gains."
        )
        return joined([tag("p", tag("strong", f"Yes, at epoch {epoch}. "), words, limit, class_="verdict")])
    first = tag("p", tag("strong", "No. "), "A difference between their values would not be that of the sweeps:")
    return tag("div", first, listed(reasons), class_="warning")


def _numbers(first: SweepResult, second: SweepResult) -> Html:
    one, two = _numbers_of(first), _numbers_of(second)
    rows = [[name, one[name], two[name]] for name in one]
    return table("What ran, and what it cost", ("what", first.sweep, second.sweep), rows)


def _numbers_of(result: SweepResult) -> dict[str, str]:
    plan, cost = result.plan, cost_of(result)
    ended = result.state.ended
    return {
        "trains": what_ran(result),
        "launched": when(plan.created_at),
        "state": "not ended" if ended is None else ended.status,
        "trials": f"{len(result.state.trials):,}: {states(result)}",
        "epochs run": f"{cost.epochs:,} of {cost.epochs_full:,}",
        "saved by early stopping": f"{cost.saved:.0%}",
        "wall time": duration(cost.wall_s),
        "slot time": duration(cost.slot_s),
        "git commit": plan.provenance.git_commit or "none",
    }


def _differences(first: SweepResult, second: SweepResult) -> Html:
    one, two = (dict(_flat(sweep.plan.spec.document())) for sweep in (first, second))
    names = [name for name in dict.fromkeys([*one, *two]) if one.get(name) != two.get(name)]
    if not names:
        return tag("p", "Nothing: their specs are equal.")
    rows = [[name, _said(one, name), _said(two, name)] for name in names]
    note = tag("p", f"{len(names)} of {len({*one, *two})} fields differ, orders of both included.")
    return joined([note, table("Fields that differ", ("field", first.sweep, second.sweep), rows)])


def _best(
    first: SweepResult, second: SweepResult, pair: tuple[Comparison, Comparison] | None, *, is_comparable: bool
) -> Html:
    if pair is None:
        return tag("p", "No epoch was measured by both, so no trials of the two are shown next to each other.")
    parts: list[object] = []
    for result, own in zip((first, second), pair, strict=True):
        sentence = own.sentence()
        parts += [tag("h3", result.sweep), tag("p", sentence[0].upper() + sentence[1:], "."), listed(own.notes())]
    warning = "" if is_comparable else tag("p", "The two cannot be compared: read each on its own.", class_="warning")
    return joined([warning, *parts, placed(_figure(first, second, pair))])


def _figure(first: SweepResult, second: SweepResult, pair: tuple[Comparison, Comparison]) -> Figure:
    y = categories([f"{own.sweep}" for own in (first, second)])
    marks, shares = [], []
    for (at, _), result, own in zip(y.ticks, (first, second), pair, strict=True):
        names = list(own.values)
        always = {names[0], names[-1], *([own.baseline] if own.baseline else [])}
        kept = thinned(names, MOST_POINTS, always=always)
        shares.append(f"{result.sweep}: {share_shown(len(kept), len(names))}")
        ringed = set(own.inseparable)
        for index, name in enumerate(reversed(kept)):
            style = "ink" if name == own.baseline else "c0"
            height = at + (index % ROWS_OF_DOTS - ROWS_OF_DOTS // 2) * 0.08
            words = f"{result.sweep}/{name}: {own.values[name]:.4f}"
            shape: Shape = "star" if name == own.baseline else "circle"
            marks.append(Dot(own.values[name], height, words, f"{style} ring" if name in ringed else style, shape))
    metric = with_unit(first.plan, pair[0].metric)
    x = scale_of(metric if pair[0].metric == pair[1].metric else "objective of each", [mark.x for mark in marks])
    caption = (
        f"{' '.join(shares)} Both at epoch {pair[0].epoch}; heights only separate the points. Look for the whole cloud "
        "and the baselines, not for the best points alone."
    )
    legend = (("c0", "a trial"), ("ring", "cannot be told apart from the best of its sweep"), ("ink star", "baseline"))
    return Figure("both", "Trials of both sweeps", caption, (Panel(x, y, tuple(marks), height=230),), legend)


def _claims(first: SweepResult, second: SweepResult) -> Html:
    parts: list[object] = []
    for result in (first, second):
        lines = [f"{line[0].upper()}{line[1:]}" for line in conclusion(result)]
        parts += [tag("h3", result.sweep), listed(lines)]
    return joined(parts)


def _at(result: SweepResult, epoch: int) -> Comparison:
    return compare(result.plan, result.state, epoch=epoch)


def _epochs(result: SweepResult) -> set[int]:
    metric = result.plan.spec.objective.metric
    return {epoch for trial in result.state.trials.values() for epoch in trial.values(metric)}


def _data(result: SweepResult) -> dict[str, Any]:
    """Return what the spec says about the data of all trials, without its place."""
    trial = result.plan.spec.trial
    places = {"data.root", "data.cache", "data.download"}
    return {name: value for name, value in trial.items() if name.startswith(OF_THE_DATA) and name not in places}


def _in_words(own: dict[str, Any], other: dict[str, Any]) -> str:
    different = [f"{name} {shown(value)}" for name, value in own.items() if other.get(name) != value]
    return f" ({', '.join(different)})" if different else ""


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the fields of a spec's document by their dotted names; a list is one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _said(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        return "not there"
    value = fields[name]
    return shown_value(value, name) if name == POINTS else cut(shown(value), MOST_CHARACTERS)
