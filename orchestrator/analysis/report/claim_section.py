"""Section with the claim of a sweep: that of its confirmation, or the sentence that nothing is claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.claims.claim_output import point_in_words, sentences
from orchestrator.analysis.evaluation.claim_file import confirmations_of, load_claim
from orchestrator.analysis.report.charts.figures import placed
from orchestrator.analysis.report.charts.outcome_figures import gains
from orchestrator.analysis.report.markup import Cell, Html, folded, joined, listed, number, pre, table, tag
from orchestrator.errors import OrchestratorError
from orchestrator.state.sweep_folder import named
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from orchestrator.analysis.claims.claim import Claim, Row
    from orchestrator.analysis.claims.intervals import Interval
    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.analysis.result import SweepResult

MEANS = ("configuration", "mean", "95 % over seeds (Student)", "(bootstrap)", "95 % over images", "may be best")
GAINS = ("configuration", "gain", "95 % (Student)", "(bootstrap)", "p (Holm)", "d_z", "search's gain", "survived")
READING = (
    "Intervals over seeds say what other seeds would give; those over images, what as many other test images would. "
    "Gains are differences to the control seed by seed, and above 0 is better. A gain is claimed if it is above 0 and "
    "its p-value, from a paired t-test and corrected by Holm for the number of configurations, is at most 5 %. d_z, "
    "the effect size, is the mean difference over the standard deviation of the differences. Survived is the share of "
    "the search's own gain that the fresh seeds and test images confirmed."
)


def claim_section(result: SweepResult, comparison: Comparison | None) -> Html:
    """Return the claim of each confirmation of a sweep, or that of the sweep itself if it is one."""
    if result.plan.confirmation is not None:
        return _of_confirmation(result, result)
    confirmations = confirmations_of(result)
    if not confirmations:
        return joined([_nothing_claimed(result), _best_set(comparison)])
    parts = [_of_confirmation(confirmation, result) for confirmation in confirmations]
    if len(parts) > 1:
        note = (
            f"This sweep was confirmed {len(parts)} times, and each look at the test split costs some of it: correct "
        )
        note += "for their number."
        parts.append(tag("p", note, class_="warning"))
    return joined([*parts, tag("h3", "What the search itself can say"), _best_set(comparison)])


def conclusion(result: SweepResult) -> list[str]:
    """Return the conclusions about the claims of a sweep in sentences, for a comparison with another sweep."""
    own = [result] if result.plan.confirmation is not None else confirmations_of(result)
    lines = []
    for confirmation in own:
        try:
            lines += sentences(load_claim(confirmation), {})
        except OrchestratorError as error:
            lines.append(str(error))
    return lines or ["nothing is claimed: it was not confirmed"]


def _of_confirmation(confirmation: SweepResult, result: SweepResult) -> Html:
    confirmed = confirmation.plan.confirmation
    try:
        claimed = load_claim(confirmation)
    except OrchestratorError as error:
        waiting = tag("p", tag("strong", "Nothing is claimed yet. "), str(error), ".", class_="verdict")
        return joined([waiting, *([_best_set(None)] if confirmation is result else [])])
    words = {} if confirmed is None else {item.name: point_in_words(item.point) for item in confirmed.configurations}
    caption = f"{claimed.metric} ({claimed.mode}) on the test split, {len(claimed.seeds)} paired seeds"
    source = "" if confirmation is result else f"Measured by the confirmation {confirmation.sweep}. "
    points = folded(
        "What the configurations are",
        table("Configurations", ("configuration", "settings"), [*map(list, words.items())]),
        is_open=True,
    )
    parts = [
        tag("p", tag("strong", _verdict(claimed)), class_="verdict"),
        table(caption, MEANS, map(_means, claimed.rows)),
        table("Gains over the control, seed by seed", GAINS, [_gains(row) for row in claimed.rows if row.gain]),
        tag("p", source, READING, class_="note"),
        listed(sentences(claimed, {})),
        points if words else "",
        placed(gains(claimed)) if len(claimed.rows) > 1 else "",
        folded("Value of each seed", _values(claimed)),
    ]
    return tag("div", *parts)


def _verdict(claimed: Claim) -> str:
    better = [row.name for row in claimed.rows if row.is_claimed]
    if not better:
        return "Claimed: no gain. No configuration is better than the control beyond chance."
    names = " and ".join(filter(None, (", ".join(better[:-1]), better[-1])))
    return f"Claimed: {names} {'is' if len(better) == 1 else 'are'} better than the control."


def _nothing_claimed(result: SweepResult) -> Html:
    reason = (
        "Its best trial was chosen by the same validation images that scored it, of one seed, so its score is too high "
        "by an unknown amount."
    )
    first = tag("p", tag("strong", "Nothing is claimed of this sweep. "), reason, class_="verdict")
    if task_of(result.plan.spec.trial) is not CLASSIFIER:
        only = f"Only a {CLASSIFIER.name} can be confirmed: train the best settings with other seeds, and a control."
        return joined([first, tag("p", only)])
    command = f"ravel confirm {named(result.folder)} --top 3 --seeds 5"
    what = (
        "This would make it a claim. It trains the best configurations and a control with fresh seeds, and reads the "
    )
    return joined([first, tag("p", what, "test split once:"), pre(command, label="Command of a confirmation")])


def _best_set(comparison: Comparison | None) -> Html:
    if comparison is None:
        return tag("p", "No trial has measured the objective yet.")
    sentence = comparison.sentence()
    ranked = comparison.inseparable
    rows = [[comparison.name(name), number(comparison.values[name]), *_ends(comparison, name)] for name in ranked]
    headers = ("trial", comparison.metric, "95 % low, over images", "95 % high")
    numbers = table(f"Trials that cannot be told apart from the best, epoch {comparison.epoch}", headers, rows[:50])
    more = f" The table has the best 50 of {len(rows)}." if len(rows) > 50 else ""
    own = joined([tag("p", sentence[0].upper() + sentence[1:], "."), listed(comparison.notes())])
    return joined([own, folded(f"The set: {len(rows)} trials", numbers, tag("p", more) if more else "")])


def _ends(comparison: Comparison, name: str) -> tuple[Cell, Cell]:
    low, high = comparison.interval(name) or (None, None)
    return number(low), number(high)


def _values(claimed: Claim) -> Html:
    headers = ("configuration", *(f"seed {seed}" for seed in claimed.seeds))
    rows = [[row.name, *(number(row.values[seed]) for seed in claimed.seeds)] for row in claimed.rows]
    return table(f"{claimed.metric} by seed", headers, rows)


def _means(row: Row) -> list[object]:
    best = "yes" if row.may_be_best else "no"
    return [row.name, number(row.mean), *map(_interval, (row.interval, row.bootstrap, row.images)), best]


def _gains(row: Row) -> list[object]:
    gain = row.gain
    if gain is None:
        return [row.name]
    return [
        row.name,
        number(gain.mean, "+.4f"),
        _interval(gain.interval, sign="+"),
        _interval(gain.bootstrap, sign="+"),
        _p_value(row.p_corrected),
        Cell("none") if gain.d_z is None else number(gain.d_z, ".2f"),
        number(row.searched, "+.4f"),
        number(row.survived, ".0%"),
    ]


def _p_value(p: float | None) -> Cell:
    """Return a p-value with three digits, so that 0.0496 does not look like 0.05, or as below 0.001."""
    return Cell("< 0.001", p) if p is not None and p < 0.001 else number(p, ".3g")


def _interval(interval: Interval | None, *, sign: str = "") -> Cell:
    if interval is None:
        return Cell("")
    return Cell(f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}", interval.low)
