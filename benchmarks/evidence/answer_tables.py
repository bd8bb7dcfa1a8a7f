"""Answers as Markdown: the tables of a question, and the table of the claims of all sections."""

from collections.abc import Iterator, Mapping, Sequence

from cells import MISSING, ends, table
from questions import BEYOND, UNMEASURED, Answer, Claim, Expected, Published, Question, Rows, passes, reason_in_short

from orchestrator.analysis.claims.comparisons import PairedDifference
from orchestrator.analysis.claims.conclusions import AGREES, DISAGREES, UNKNOWN, Finding, Prediction

_MEASURED = ("difference", "95 % over seeds")
CHECKS = ("manipulation check", *_MEASURED, "p", "passed")
PREDICTIONS = ("prediction", *_MEASURED, "over images", "p (Holm)", "g_z", "seen from", "conclusion")
CLAIMS = ("claim", "where", "conclusion", "tests")
MIXED = "mixed"
DIFFERS = "differs"


def shown(questions: Sequence[Question], rows: Rows) -> str:
    """Return the checks and the conclusions of all questions."""
    return "\n\n".join(part for question in questions for part in _shown(question, question.answer(rows)))


def _shown(question: Question, answer: Answer | None) -> Iterator[str]:
    yield f"### {question.title}"
    if answer is None:
        yield f"Nothing is concluded, as {question.absent}."
        return
    yield table(CHECKS, (_check(name, check) for name, check in answer.checks.items()))
    measured = [own for own in question.predictions if own.name in answer.findings]
    if measured:
        yield table(PREDICTIONS, (_row(own, answer) for own in measured))
    if question.note:
        yield question.note
    for own in measured:
        reason, _, names = answer.findings[own.name].reason.partition(": ")
        if reason == BEYOND:
            yield f"*{own.words}*: {reason}: {names}."
    if missing := [own.words for own in question.predictions if own not in measured]:
        yield f"Not measured: {'; '.join(missing)}."


def _check(name: str, check: Prediction) -> list[str]:
    difference = check.difference
    passed = "yes" if passes(check) else "**no**"
    return [_within(name, check), f"{difference.mean:+.4f}", ends(difference.interval), f"{check.p:.2g}", passed]


def _row(expected: Expected, answer: Answer) -> list[str]:
    prediction, finding = answer.predictions[expected.name], answer.findings[expected.name]
    difference = prediction.difference
    effect = difference.g_z if isinstance(difference, PairedDifference) else None
    return [
        _within(expected.name, prediction),
        f"{difference.mean:+.4f}" + (", paired" if isinstance(difference, PairedDifference) else ""),
        ends(difference.interval),
        MISSING if prediction.images is None else ends(prediction.images),
        f"{finding.p_corrected:.2g}",
        MISSING if effect is None else f"{effect:.1f}",
        f"{finding.smallest:.2g}",
        _concluded(expected, finding, prediction.direction),
    ]


def _concluded(expected: Expected, finding: Finding, direction: str) -> str:
    """Return the conclusion with its reason; of a two-sided question that there is a difference, and its direction."""
    if expected.is_two_sided and finding.conclusion == AGREES:
        return f"{DIFFERS}: {direction}"
    return f"{finding.conclusion}: {reason_in_short(finding.reason)}"


def _within(name: str, prediction: Prediction) -> str:
    return name if prediction.margin is None else f"{name} (within {prediction.margin:g})"


def claims_table(claims_by_section: Mapping[str, Sequence[Claim]]) -> str:
    """Return a table for each paper, the oldest first, with a row for each of its claims."""
    tests: dict[Published, dict[str, list[Claim]]] = {}
    for section, claims in claims_by_section.items():
        for claim in claims:
            tests.setdefault(claim.published, {}).setdefault(section, []).append(claim)
    papers = sorted({published.paper for published in tests}, key=lambda paper: (paper[-4:], paper))
    parts = []
    for paper in papers:
        own = {published: found for published, found in tests.items() if published.paper == paper}
        parts += [f"### {paper}", table(CLAIMS, (_claim(published, found) for published, found in own.items()))]
    return "\n\n".join(parts)


def overall(claims: Sequence[Claim]) -> str:
    """Return the conclusion on a claim: what its tests conclude, if they do not contradict each other, and how many.

    A claim has as many chances to be shown as it has tests, so one that some of them do not show has their number.
    """
    verdicts = [claim.verdict for claim in claims]
    if {AGREES, DISAGREES} <= set(verdicts):
        return f"{MIXED}: {verdicts.count(AGREES)} agree, {verdicts.count(DISAGREES)} disagree of {len(verdicts)}"
    found = next(verdict for verdict in (AGREES, DISAGREES, UNKNOWN, UNMEASURED) if verdict in verdicts)
    some = verdicts.count(found)
    return f"{found} in {some} of {len(verdicts)}" if found in (AGREES, DISAGREES) and some < len(verdicts) else found


def _claim(published: Published, tests: Mapping[str, Sequence[Claim]]) -> list[str]:
    conclusion = overall([claim for own in tests.values() for claim in own])
    lines = (f"[{section}](results/{section}.md): {_tests(own)}{_seen(own)}" for section, own in tests.items())
    return [published.claim, published.where, conclusion, "<br>".join(lines)]


def _tests(claims: Sequence[Claim]) -> str:
    """Return what was tested, by conclusion.

    >>> digits, mnist = (Claim(Published("", "", ""), data, UNKNOWN, "none was shown") for data in ("digits", "mnist"))
    >>> _tests([digits, mnist]), _tests([digits, mnist._replace(verdict=AGREES)])
    ('inconclusive, none was shown (digits; mnist)', 'inconclusive, none was shown (digits); agrees (mnist)')
    """
    groups: dict[str, list[str]] = {}
    for claim in claims:
        about = f"{claim.about}: {claim.caveat}" if claim.caveat else claim.about
        groups.setdefault(_verdict(claim), []).append(about)
    return "; ".join(
        conclusion if conclusion == UNMEASURED else f"{conclusion} ({'; '.join(about)})"
        for conclusion, about in groups.items()
    )


def _verdict(claim: Claim) -> str:
    """Return a conclusion, with the reason why there is none, or that other images may have another.

    >>> _verdict(Claim(Published("", "", ""), "digits", AGREES, has_images=False))
    'agrees over seeds alone'
    """
    if claim.verdict == UNKNOWN:
        return f"{claim.verdict}, {claim.reason}"
    return f"{claim.verdict} over seeds alone" if not claim.has_images else claim.verdict


def _seen(claims: Sequence[Claim]) -> str:
    """Return the smallest effects that the tests of a section would have seen, from the least to the largest."""
    groups: dict[str, list[float]] = {}
    for claim in claims:
        if claim.smallest is not None:
            groups.setdefault(claim.unit, []).append(claim.smallest)
    ranges = {unit: dict.fromkeys(f"{end:.2g}" for end in (min(own), max(own))) for unit, own in groups.items()}
    words = (f"{' to '.join(found)} {unit}".rstrip() for unit, found in ranges.items())
    return f", seen from {' and '.join(words)}" if ranges else ""
