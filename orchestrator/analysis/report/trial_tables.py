"""Tables of a report: all trials, the decisions at each rung, failures with their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.analysis.figures.drawing import with_unit
from orchestrator.analysis.leaderboard import by_epoch, describe_status
from orchestrator.analysis.report.charts.thinning import MOST_ROWS, ends, share_shown, thinned
from orchestrator.analysis.report.markup import Cell, Html, folded, joined, number, pre, table, tag
from orchestrator.formatting import shown
from orchestrator.spec.baseline import strengths_of

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult
    from orchestrator.state.events import RungDecided
    from orchestrator.state.sweep_state import SweepState, Trial

LATER = "paused, promoted later"
MOST_AT_A_RUNG = 300
MOST_FAILURES = 200
MOST_TRACEBACKS = 10
ROWS = "the best, the baseline, the worst, every failure, and of the rest evenly spaced ones by rank"
AT_A_RUNG = "the best, the worst, the baseline, and those nearest to the value to reach"


def trial_tables(result: SweepResult) -> Html:
    """Return the table of trials, a table for each rung, and the failures."""
    return joined([_trials(result), _rungs(result), tag("h3", "Failures"), _failures(result.state)])


def _trials(result: SweepResult) -> Html:
    plan, state = result.plan, result.state
    objective = plan.spec.objective
    ranked = by_epoch(state, objective)
    order = [trial.id for trial in ranked]
    order += [name for name in state.trials if name not in set(order)]
    lost = {trial.id for trial in state.with_status("diverged", "failed")}
    best = state.best(objective)
    always = {*order[:1], *(trial.id for trial in ranked[-1:]), *([] if best is None else [best.id])}
    always |= {trial.id for trial in state.trials.values() if trial.origin == "baseline"}
    kept = thinned(order, MOST_ROWS, always=always | set(sorted(lost)[: MOST_ROWS // 2]))
    names = _parameters(result)
    measures = [(item.metric, with_unit(plan, item.metric)) for item in objective.all]
    headers = ("trial", "state", "epoch", *(title for _, title in measures), *names)
    place = {name: index for index, name in enumerate(order, start=1)}
    rows = [
        _row(
            state.trials[name], [metric for metric, _ in measures], names, is_best=best is not None and name == best.id
        )
        for name in kept
    ]
    note = (
        f"{share_shown(len(kept), len(order), rule=ROWS)} Those that ran longest are first, and of the same epoch the "
        "best. Sort by any column: press the button in its header."
    )
    caption = f"Trials at their last epochs, {len(place):,} in all"
    return joined([tag("p", note), table(caption, headers, rows, is_sortable=True)])


def _row(trial: Trial, metrics: list[str], names: list[str], *, is_best: bool) -> list[object]:
    marks = [*(["best"] if is_best else []), *(["baseline"] if trial.origin == "baseline" else [])]
    name = f"{trial.id} ({', '.join(marks)})" if marks else trial.id
    state = describe_status(trial).removesuffix(" (baseline)")
    epochs = Cell(f"{trial.epoch} of {trial.budget}", float(trial.epoch))
    return [
        name,
        state,
        epochs,
        *(number(trial.last(metric)) for metric in metrics),
        *(_value(trial, n) for n in names),
    ]


def _value(trial: Trial, name: str) -> Cell:
    value: Any = trial.point.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(shown(value), float(value))
    return Cell("" if value is None else shown(value), is_number=False)


def _parameters(result: SweepResult) -> list[str]:
    """Return the searched parameters with a value in some trial, the strengths of the methods first."""
    present = {name for trial in result.state.trials.values() for name in trial.point}
    names = [name for name in result.plan.spec.space.names if name in present]
    first = [name for name in strengths_of(result.plan.spec) if name in names]
    return [*first, *(name for name in names if name not in first)]


def _rungs(result: SweepResult) -> Html:
    trials = result.state.trials
    levels = sorted({level for trial in trials.values() for level in trial.rungs})
    if not levels:
        return joined([tag("h3", "Rungs"), tag("p", "No trial was compared at a rung.")])
    unit = result.plan.spec.scheduler.rung_unit.replace("_", " ")
    tables = []
    for level in levels:
        decided = {name: trial.rungs[level] for name, trial in trials.items() if level in trial.rungs}
        kept = sum(decision.kept for decision in decided.values())
        later = sum(_decision(decision, trials[name], level) == LATER for name, decision in decided.items())
        summary = f"Rung {level} ({unit}): {len(decided):,} trials compared, {kept:,} kept"
        summary += f" at once, {later:,} promoted later" if later else ""
        tables.append(folded(summary, _rung(decided, result, level)))
    note = "At a rung a trial is compared with all that reached it before; it is kept if it reaches the value to reach."
    return joined([tag("h3", "Rungs"), tag("p", note), *tables])


def _rung(decided: dict[str, RungDecided], result: SweepResult, level: int) -> Html:
    sign = -1.0 if result.plan.spec.objective.mode == "max" else 1.0
    worst = float("inf")

    def rank(name: str) -> float:
        value = decided[name].value
        return worst if value is None else sign * value

    def distance(name: str) -> float:
        value, cutoff = decided[name].value, decided[name].cutoff
        return worst if value is None or cutoff is None else abs(value - cutoff)

    order = sorted(decided, key=lambda name: (rank(name), name))
    baseline = [name for name in order if result.state.trials[name].origin == "baseline"]
    near = sorted(order, key=lambda name: (distance(name), name))[: MOST_AT_A_RUNG - 3]
    always = {*near, *baseline, *ends(order, [float(index) for index in range(len(order))])}
    kept = thinned(order, MOST_AT_A_RUNG, always=always)
    rows = [
        [
            name,
            number(decided[name].value),
            number(decided[name].cutoff),
            number(decided[name].competitors, ","),
            _decision(decided[name], result.state.trials[name], level),
        ]
        for name in kept
    ]
    headers = ("trial", result.plan.spec.objective.metric, "value to reach", "compared with", "decision")
    note = tag("p", share_shown(len(kept), len(order), rule=AT_A_RUNG))
    return joined([note, table(f"Decisions at rung {level}", headers, rows, is_sortable=True)])


def _decision(decision: RungDecided, trial: Trial, level: int) -> str:
    if decision.kept:
        return "kept"
    if decision.audited:
        return "rejected, runs on for the audit"
    return LATER if level in trial.promoted_from else "rejected"


def _failures(state: SweepState) -> Html:
    lost = state.with_status("diverged", "failed")
    retried = [failure for trial in state.trials.values() for failure in trial.failures]
    if not lost and not retried:
        return tag("p", "No trial failed or diverged, and no attempt was repeated.")
    rows = [
        [trial.id, trial.status, number(trial.epoch, ","), number(trial.attempts, ","), _reason(trial)]
        for trial in lost[:MOST_FAILURES]
    ]
    more = f" Shown are the first {MOST_FAILURES} of {len(lost)}." if len(lost) > MOST_FAILURES else ""
    parts: list[object] = [tag("p", f"{len(lost)} trials failed or diverged.{more}")]
    headers = ("trial", "state", "epoch", "attempts", "reason")
    parts += [table("Trials that failed or diverged", headers, rows)] if rows else []
    parts += [
        folded(f"Traceback of {trial.id}", pre(trial.end.traceback, label=f"Traceback of {trial.id}"))
        for trial in lost
        if trial.end is not None and trial.end.traceback
    ][:MOST_TRACEBACKS]
    if retried:
        again = [[failure.trial, number(failure.attempt, ","), failure.cause, failure.reason] for failure in retried]
        cut = f", the first {MOST_FAILURES} of {len(again)}" if len(again) > MOST_FAILURES else ""
        title = f"Attempts that failed and were repeated{cut}"
        parts.append(table(title, ("trial", "attempt", "cause", "reason"), again[:MOST_FAILURES]))
    return joined(parts)


def _reason(trial: Trial) -> str:
    return (trial.end.reason if trial.end is not None else None) or "none was recorded"
