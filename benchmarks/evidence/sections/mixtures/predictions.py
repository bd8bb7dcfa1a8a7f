"""Questions with their manipulation checks and predictions, and what the measured rows say of them.

A question is a family: Holm's correction is over its predictions, and its checks must all pass. Differences are paired
by seed. A share of images, or a mean over them whose spread was measured, also has an interval over images.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from section import AGREES, DISAGREES, UNKNOWN, Claim, Row, Verdict

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, PairedDifference, paired_difference
from orchestrator.analysis.claims.conclusions import Finding, Prediction, conclude
from orchestrator.analysis.claims.intervals import Interval, image_difference_interval

NORMAL: Final = statistics.NormalDist().inv_cdf(0.975)
VERDICTS: Final[Mapping[str, Verdict]] = {"agrees": AGREES, "disagrees": DISAGREES, "inconclusive": UNKNOWN}


class Values:
    """Metrics of one data set by method, in the order of the seeds."""

    def __init__(self, rows: Sequence[Row], data: str) -> None:
        self._rows: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: int(row.settings["seed"])):
            if row.settings["data"] == data:
                self._rows.setdefault(row.settings["method"], []).append(row)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods, in the order of their units."""
        return tuple(self._rows)

    def of(self, method: str, metric: str) -> list[float]:
        """Return the values of a metric by seed.

        Raises:
            KeyError: the method is not measured, or the metric is not.
        """
        return [float("nan") if (value := row.metrics[metric]) is None else value for row in self._rows[method]]

    def lists(self, method: str, metric: str) -> list[list[float]]:
        """Return the values of a metric that is a list, by seed."""
        return [row.metrics[metric] for row in self._rows[method]]

    def mean(self, method: str, metric: str) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.of(method, metric))

    @property
    def num_seeds(self) -> int:
        """Number of seeds, that of the first method."""
        return len(next(iter(self._rows.values())))


@dataclass(frozen=True)
class Expected:
    """Direction in which a metric of the treatment differs from that of its control, or from a number.

    `shift` is added to the control: `lower` with a shift of 0.05 means less than 0.05 above it, so not better. `images`
    is the metric with the number of images of which the metric is a share, or, with `spread`, a mean. `margin` is for
    the direction `equal`. `claim` and `where` (in the paper) are for rows of the table of claims.
    """

    words: str
    metric: str
    direction: Literal["higher", "lower", "equal"]
    treatment: str
    control: str | float
    images: str | None = None
    spread: str | None = None
    margin: float | None = None
    shift: float = 0.0
    claim: str | None = None
    where: str = "-"

    def prediction(self, values: Values) -> Prediction:
        """Return the measured difference."""
        own = values.of(self.treatment, self.metric)
        is_method = isinstance(self.control, str)
        control = values.of(self.control, self.metric) if is_method else [self.control] * len(own)
        control = [value + self.shift for value in control]
        return Prediction(
            paired_difference(own, control), self.direction, margin=self.margin, images=self._over_images(values)
        )

    def _over_images(self, values: Values) -> Interval | None:
        if self.images is None or not isinstance(self.control, str):
            return None
        own, other = (values.mean(method, self.metric) for method in (self.treatment, self.control))
        number = int(values.mean(self.treatment, self.images))
        if self.spread is None:
            found = image_difference_interval(own, other, number)
        else:
            spreads = [values.mean(method, self.spread) for method in (self.treatment, self.control)]
            found = mean_difference_interval(own - other, spreads, number)
        return Interval(found.low - self.shift, found.high - self.shift)


def mean_difference_interval(difference: float, spreads: Sequence[float], number: int) -> Interval:
    """Return the normal interval of a difference of means over images, as if the two had met different images.

    The spread over images is that of single networks, which is more than that of the mean of several. So the interval
    is too wide rather than too narrow, as that of shares is.

    >>> [round(end, 2) for end in mean_difference_interval(0.5, [0.6, 0.8], 100)]
    [0.3, 0.7]
    """
    half = NORMAL * math.hypot(*spreads) / math.sqrt(number)
    return Interval(difference - half, difference + half)


@dataclass(frozen=True)
class Question:
    """Predictions on one data set that are concluded on together, and the checks of their treatments."""

    title: str
    data: str
    checks: tuple[Expected, ...]
    predictions: tuple[Expected, ...]


class Answer(NamedTuple):
    """Checks and predictions of a question as measured, and the conclusions, by their words."""

    question: Question
    checks: Mapping[str, Prediction]
    predictions: Mapping[str, Prediction]
    findings: Mapping[str, Finding]
    values: Values


def answer(question: Question, rows: Sequence[Row]) -> Answer:
    """Return the conclusions on a question."""
    values = Values(rows, question.data)
    checks = {check.words: check.prediction(values) for check in question.checks}
    predictions = {expected.words: expected.prediction(values) for expected in question.predictions}
    return Answer(question, checks, predictions, conclude(predictions, checks=checks), values)


def claims(questions: Sequence[Question], rows: Sequence[Row], *, paper: str) -> list[Claim]:
    """Return a row of the table of claims for each prediction that is one; without rows they have no verdict."""
    found: list[Claim] = []
    for question in questions:
        measured = answer(question, rows) if rows else None
        found += [
            _claim(expected, measured, paper=paper) for expected in question.predictions if expected.claim is not None
        ]
    return found


def _claim(expected: Expected, measured: Answer | None, *, paper: str) -> Claim:
    text = str(expected.claim)
    if measured is None:
        return Claim(paper, text, UNKNOWN, "-", "-", expected.where)
    finding, prediction = measured.findings[expected.words], measured.predictions[expected.words]
    reason = finding.reason.partition(":")[0]
    own = measured.values.mean(expected.treatment, expected.metric)
    control = measured.values.mean(str(expected.control), expected.metric)
    numbers = f"{own:.4g} against {control:.4g} ({ends(prediction.difference.interval)} over seeds); {reason}"
    return Claim(paper, text, VERDICTS[finding.conclusion], numbers, f"{finding.smallest:.2g}", expected.where)


def shown(found: Answer) -> Iterator[str]:
    """Yield the Markdown of an answer: its title, its checks, its predictions."""
    yield f"### {found.question.title}"
    checks = [
        [name, mean(check), ends(check.difference.interval), f"{check.difference.p:.2g}", _passed(check)]
        for name, check in found.checks.items()
    ]
    yield table(["manipulation check", "difference", "95 % over seeds", "p", "passed"], checks)
    head = ["prediction", "difference", "95 % over seeds", "over images", "p (Holm)", "g_z", "seen from", "conclusion"]
    rows = [_row(name, prediction, found.findings[name]) for name, prediction in found.predictions.items()]
    yield table(head, rows)


def _passed(check: Prediction) -> str:
    return "yes" if check.p <= SIGNIFICANCE and check.is_as_predicted else "**no**"


def _row(name: str, prediction: Prediction, finding: Finding) -> list[str]:
    difference = prediction.difference
    effect = difference.g_z if isinstance(difference, PairedDifference) else None
    return [
        name,
        mean(prediction),
        ends(difference.interval),
        "-" if prediction.images is None else ends(prediction.images),
        f"{finding.p_corrected:.2g}",
        "-" if effect is None else f"{effect:.1f}",
        f"{finding.smallest:.2g}",
        f"{VERDICTS[finding.conclusion]}: {finding.reason.partition(':')[0]}",
    ]


def mean(prediction: Prediction) -> str:
    """Format the mean difference."""
    return f"{prediction.difference.mean:+.4f}"


def ends(interval: Interval) -> str:
    """Format both ends of the interval of a difference."""
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown.

    >>> print(table(["a", "b"], [[1, 2]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
