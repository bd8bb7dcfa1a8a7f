"""Questions to results that are paired by seed: manipulation checks, predictions with Holm's correction, and claims.

A comparison is written before it is measured: as a function of the rows, with its direction. `answered` passes them to
`conclude`, and the pages and the table of claims are written from what it says.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from section import AGREES, DISAGREES, UNKNOWN, Claim, Verdict

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, PairedDifference, paired_difference
from orchestrator.analysis.claims.conclusions import Finding, Prediction, conclude
from orchestrator.analysis.claims.intervals import Interval, moments, quantile

VERDICTS: dict[str, Verdict] = {"agrees": AGREES, "disagrees": DISAGREES, "inconclusive": UNKNOWN}


class Compared(NamedTuple):
    """Values of a treatment and of its control, one of each for each seed, and the direction that is predicted.

    `margin` is the largest difference that counts as none, for 'equal' alone; `images` the interval of the difference
    over the choice of images.
    """

    words: str
    own: Sequence[float]
    control: Sequence[float]
    direction: Literal["higher", "lower", "equal"]
    margin: float | None = None
    images: Interval | None = None

    @property
    def prediction(self) -> Prediction:
        """Paired difference with its direction."""
        difference = paired_difference(self.own, self.control)
        return Prediction(difference, self.direction, margin=self.margin, images=self.images)


class Question(NamedTuple):
    """Predictions that share Holm's correction, and the checks without which none of them is concluded on."""

    title: str
    checks: Sequence[Compared]
    predictions: Sequence[Compared]


class Claimed(NamedTuple):
    """Claim of a paper, and the question and prediction by whose words it is answered."""

    paper: str
    where: str
    claim: str
    question: str
    prediction: str


def answered(question: Question) -> dict[str, Finding]:
    """Return the conclusion on each prediction, by its words."""
    return conclude(
        {own.words: own.prediction for own in question.predictions},
        checks={own.words: own.prediction for own in question.checks},
    )


def claims_of(questions: Sequence[Question], claimed: Iterable[Claimed]) -> list[Claim]:
    """Return the claims with their verdicts; of no questions, as nothing is measured, without."""
    return [_claim(own, questions) for own in claimed]


def _claim(own: Claimed, questions: Sequence[Question]) -> Claim:
    if not questions:
        return Claim(own.paper, own.claim, UNKNOWN, "-", "-", own.where)
    question = next(question for question in questions if question.title == own.question)
    compared = next(compared for compared in question.predictions if compared.words == own.prediction)
    finding = answered(question)[own.prediction]
    difference = compared.prediction.difference
    numbers = (
        f"{own.prediction}: {difference.mean:+.3g} ({_ends(difference.interval)} over {len(compared.own)} seeds), "
        f"p {finding.p_corrected:.2g} after correction"
    )
    if finding.conclusion == "inconclusive":
        numbers += f"; {finding.reason.partition(':')[0]}"
    return Claim(own.paper, own.claim, VERDICTS[finding.conclusion], numbers, f"{finding.smallest:.2g}", own.where)


def shown(questions: Iterable[Question]) -> str:
    """Return the checks and the conclusions on all questions as Markdown."""
    return "\n\n".join(part for question in questions for part in _shown(question))


def _shown(question: Question) -> Iterable[str]:
    yield f"### {question.title}"
    checks = []
    for own in question.checks:
        prediction = own.prediction
        passed = prediction.p <= SIGNIFICANCE and prediction.is_as_predicted
        checks.append([own.words, *_cells(prediction), f"{prediction.p:.2g}", "yes" if passed else "**no**"])
    yield table(["manipulation check", "difference", "95 % over seeds", "p", "passed"], checks)
    findings, rows = answered(question), []
    for own in question.predictions:
        prediction, finding = own.prediction, findings[own.words]
        difference = prediction.difference
        effect = difference.g_z if isinstance(difference, PairedDifference) else None
        expected = own.direction if own.margin is None else f"within {own.margin:g}"
        images = "-" if own.images is None else _ends(own.images)
        effects = ["-" if effect is None else f"{effect:.1f}", f"{finding.smallest:.2g}"]
        verdict = VERDICTS[finding.conclusion]
        reason = verdict if verdict != UNKNOWN else f"{verdict}: {finding.reason.partition(':')[0]}"
        rows.append([own.words, expected, *_cells(prediction), images, f"{finding.p_corrected:.2g}", *effects, reason])
    head = ["prediction", "predicted", "difference", "95 % over seeds", "over images", "p (Holm)", "g_z", "seen from"]
    yield table([*head, "conclusion"], rows)


def _cells(prediction: Prediction) -> list[str]:
    return [f"{prediction.difference.mean:+.4f}", _ends(prediction.difference.interval)]


def _ends(interval: Interval) -> str:
    return f"{interval.low:+.3g} to {interval.high:+.3g}"


def spread(values: Sequence[float], *, digits: int = 3) -> str:
    """Return the mean and the half width of Student's interval over seeds.

    >>> spread([0.1, 0.2, 0.3])
    '0.200 ± 0.248'
    """
    center, deviation = moments(values)
    half = quantile(len(values) - 1) * deviation / len(values) ** 0.5
    return f"{center:.{digits}f} ± {half:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as Markdown."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
