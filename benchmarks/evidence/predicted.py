"""Questions of a section: predictions that are written before a run, their checks, and what the rows say of them.

A question has the manipulation checks of one treatment and the predictions that rest on it; Holm's correction is over
these predictions. Differences are paired by seed. Each function of rows below returns a `Prediction` of
`orchestrator.analysis.claims`, so the same text is written with and without measurements.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from section import AGREES, DISAGREES, UNKNOWN, UNMEASURED, Claim, Row, Verdict

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, PairedDifference, paired_difference
from orchestrator.analysis.claims.conclusions import Finding, Prediction, conclude
from orchestrator.analysis.claims.intervals import Interval, student_interval

Direction = Literal["higher", "lower"]
VERDICTS: Mapping[str, Verdict] = {"agrees": AGREES, "disagrees": DISAGREES, "inconclusive": UNKNOWN}


class Expected(NamedTuple):
    """What is expected, in words and of rows; `unit` follows each of its numbers, and `where` is its place."""

    words: str
    of: Callable[[Sequence[Row]], Prediction]
    unit: str = ""
    where: str = "-"


@dataclass(frozen=True)
class Question:
    """Checks of a treatment, all of which must pass, and what the paper predicts of it."""

    title: str
    paper: str
    checks: tuple[Expected, ...]
    predictions: tuple[Expected, ...]


def by_seed(values: Sequence[float], control: Sequence[float], direction: Direction) -> Prediction:
    """Return the prediction that values differ from their controls of the same seeds, on these images.

    >>> by_seed([0.3, 0.4, 0.35], [0.1, 0.2, 0.2], "higher").is_as_predicted
    True
    """
    return Prediction(paired_difference(values, control), direction)


def by_seed_and_images(
    values: Sequence[Sequence[float]], control: Sequence[Sequence[float]], direction: Direction
) -> Prediction:
    """Return the same of values on several disjoint sets of images: of each seed, a value for each set.

    The seeds' means over the sets are compared. The interval over images is Student's over the sets, of their means
    over the seeds: what other sets of as many images would give, of these networks.

    >>> own, other = [[0.9, 0.8], [0.9, 0.7]], [[0.5, 0.4], [0.5, 0.3]]
    >>> [round(end, 3) for end in by_seed_and_images(own, other, "higher").images]
    [0.4, 0.4]
    """
    differences = [
        [mine - yours for mine, yours in zip(own, its, strict=True)] for own, its in zip(values, control, strict=True)
    ]
    over_sets = [sum(column) / len(column) for column in zip(*differences, strict=True)]
    means, controls = ([sum(own) / len(own) for own in sets] for sets in (values, control))
    return Prediction(paired_difference(means, controls), direction, images=student_interval(over_sets))


def written(question: Question, rows: Sequence[Row]) -> str:
    """Return the checks and the predictions as two Markdown tables."""
    checks, predictions, findings = _measured(question, rows)
    units = {expected.words: expected.unit for expected in (*question.checks, *question.predictions)}
    first = [
        [name, _signed(check.difference.mean), _ends(check.difference.interval), _images(check), _p(check.p), passed]
        for name, check in checks.items()
        for passed in ["yes" if check.p <= SIGNIFICANCE and check.is_as_predicted else "**no**"]
    ]
    second = [
        [_with_unit(name, units[name]), *_cells(prediction, findings[name])] for name, prediction in predictions.items()
    ]
    heads = ["manipulation check", "difference", "95 % over seeds", "over images", "p", "passed"]
    tails = ["prediction", *heads[1:4], "p (Holm)", "g_z", "seen from", "conclusion"]
    return "\n\n".join([f"#### {question.title}", table(heads, first), table(tails, second)])


def claims(questions: Sequence[Question], rows: Sequence[Row]) -> list[Claim]:
    """Return a claim for each prediction; of no rows, without a measurement."""
    return [claim for question in questions for claim in _claims(question, rows)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> table(["a", "b"], [["1", "2"]]).splitlines()
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)])


def mean_and_half(values: Sequence[float]) -> str:
    """Return the mean of seeds and the half width of Student's interval at 95 %.

    >>> mean_and_half([0.90, 0.92, 0.94])
    '0.920 ± 0.050'
    """
    low, high = student_interval(values)
    return f"{(low + high) / 2:.3f} ± {(high - low) / 2:.3f}"


def _measured(
    question: Question, rows: Sequence[Row]
) -> tuple[dict[str, Prediction], dict[str, Prediction], Mapping[str, Finding]]:
    checks, predictions = (
        {expected.words: expected.of(rows) for expected in group} for group in (question.checks, question.predictions)
    )
    return checks, predictions, conclude(predictions, checks=checks)


def _claims(question: Question, rows: Sequence[Row]) -> Iterator[Claim]:
    if not rows:
        for expected in question.predictions:
            yield Claim(question.paper, expected.words, UNMEASURED, "-", "-", expected.where)
        return
    _, predictions, findings = _measured(question, rows)
    for expected in question.predictions:
        prediction, finding = predictions[expected.words], findings[expected.words]
        unit = f" {expected.unit}" if expected.unit else ""
        numbers = (
            f"{_signed(prediction.difference.mean)}{unit} ({_ends(prediction.difference.interval)}), "
            f"p {_p(finding.p_corrected)}; {finding.reason}"
        )
        smallest = f"{finding.smallest:.2g}{unit}"
        yield Claim(question.paper, expected.words, VERDICTS[finding.conclusion], numbers, smallest, expected.where)


def _cells(prediction: Prediction, finding: Finding) -> list[str]:
    difference = prediction.difference
    effect = difference.g_z if isinstance(difference, PairedDifference) else None
    return [
        _signed(difference.mean),
        _ends(difference.interval),
        _images(prediction),
        _p(finding.p_corrected),
        "-" if effect is None else f"{effect:.1f}",
        f"{finding.smallest:.2g}",
        f"{VERDICTS[finding.conclusion]}: {finding.reason.partition(':')[0]}",
    ]


def _with_unit(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name


def _images(prediction: Prediction) -> str:
    return "-" if prediction.images is None else _ends(prediction.images)


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _ends(interval: Interval) -> str:
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def _p(value: float) -> str:
    return f"{value:.2g}"
