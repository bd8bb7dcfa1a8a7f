"""What a reader has to know of a test on mixup, as the rows have it: a check that was added, and one temperature."""

from dataclasses import replace
from typing import Final

from questions import Answer, Expected, Question, Rows, passes, reason_in_short
from sections.mixtures.predictions import Contrast

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE
from orchestrator.analysis.claims.conclusions import AGREES

NLL, NLL_SCALED = "test/nll", "test/nll_scaled"
CHECK_ADDED: Final = "a check was added after the measurement"
REVERSED: Final = "reversed after one temperature"


def with_caveats(question: Question, rows: Rows, *, added: str) -> Question:
    """Return a question that says what is withheld by the check `added` alone, and what is reversed.

    What it would conclude without that check is its note.
    """
    answer = question.answer(rows)
    if answer is None:
        return question
    failed = [name for name, check in answer.checks.items() if not passes(check)]
    if failed == [added]:
        predictions = [replace(own, caveat=CHECK_ADDED) for own in question.predictions]
        return replace(question, predictions=predictions, note=without_check(question, rows, added))
    return replace(question, predictions=[_reversed(own, answer, rows) for own in question.predictions])


def without_check(question: Question, rows: Rows, added: str) -> str:
    """Return what a question concludes without a check, as Markdown."""
    checks = [own for own in question.checks if own.name != added]
    answer = replace(question, checks=checks).answer(rows)
    findings = {} if answer is None else answer.findings
    concluded = (f"*{name}*: {own.conclusion}, {reason_in_short(own.reason)}" for name, own in findings.items())
    return f"Without the check that was added after the measurement: {'; '.join(concluded)}."


def after_temperature(contrast: Contrast) -> Contrast:
    """Return the same of the likelihood after one temperature, whose values by image are not stored."""
    return replace(contrast, metric=NLL_SCALED, spread=None, images=None)


def _reversed(own: Expected, answer: Answer, rows: Rows) -> Expected:
    """Add a caveat to an agreement on the likelihood that has the other direction after one temperature."""
    is_likelihood = isinstance(own.of, Contrast) and own.of.metric == NLL
    if not is_likelihood or answer.findings[own.name].conclusion != AGREES:
        return own
    after = after_temperature(own.of)(rows)
    is_reversed = after.p <= SIGNIFICANCE and not after.is_as_predicted
    return replace(own, caveat=REVERSED) if is_reversed else own
