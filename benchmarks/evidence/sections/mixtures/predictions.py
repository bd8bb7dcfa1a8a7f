"""Questions with their manipulation checks and predictions, and what the measured rows say of them.

A question is a family: Holm's correction is over its predictions, and its checks must all pass. Differences are paired
by seed. A share of images, or a mean over them whose spread was measured, also has an interval over images.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from answers import Answer
from section import UNKNOWN, Claim, Row

from orchestrator.analysis.claims.comparisons import paired_difference
from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import Interval, image_difference_interval

NORMAL: Final = statistics.NormalDist().inv_cdf(0.975)


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


class Measured(NamedTuple):
    """Answer to a question, and the values that it is from."""

    question: Question
    answer: Answer
    values: Values


def measured(question: Question, rows: Sequence[Row]) -> Measured:
    """Return the conclusions on a question."""
    values = Values(rows, question.data)
    checks = {check.words: check.prediction(values) for check in question.checks}
    predictions = {expected.words: expected.prediction(values) for expected in question.predictions}
    return Measured(question, Answer.of(question.title, checks=checks, predictions=predictions), values)


def claims(questions: Sequence[Question], rows: Sequence[Row], *, paper: str) -> list[Claim]:
    """Return a row of the table of claims for each prediction that is one; without rows they have no verdict."""
    found: list[Claim] = []
    for question in questions:
        found += _claims(question, measured(question, rows) if rows else None, paper)
    return found


def _claims(question: Question, found: Measured | None, paper: str) -> Iterator[Claim]:
    for expected in question.predictions:
        if expected.claim is not None and found is None:
            yield Claim(paper, expected.claim, UNKNOWN, "-", "-", expected.where)
        elif expected.claim is not None and found is not None:
            answer, name = found.answer, expected.words
            own, control = (
                f"{found.values.mean(method, expected.metric):.4g}"
                for method in (expected.treatment, str(expected.control))
            )
            numbers = f"{own} against {control}: {answer.numbers(name)}"
            yield Claim(paper, expected.claim, answer.verdict(name), numbers, answer.smallest(name), expected.where)
