"""Questions of a section: predictions that are written before a run, their checks, and what the rows say of them.

A question has the manipulation checks of one treatment and the predictions that rest on it; Holm's correction is over
these predictions. Differences are paired by seed. What is expected is a function of the rows, so the same claims are
written with and without measurements.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from answers import Answer
from section import UNMEASURED, Claim, Row

from orchestrator.analysis.claims.comparisons import paired_difference
from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import student_interval

Direction = Literal["higher", "lower"]


class Expected(NamedTuple):
    """What is expected, in words and of rows; `unit` is that of the difference, and `where` its place in the paper."""

    words: str
    of: Callable[[Sequence[Row]], Prediction]
    unit: str = ""
    where: str = "-"

    @property
    def name(self) -> str:
        """Name in a table: the words and the unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words


@dataclass(frozen=True)
class Question:
    """Checks of a treatment, all of which must pass, and what the paper predicts of it."""

    title: str
    paper: str
    checks: tuple[Expected, ...]
    predictions: tuple[Expected, ...]

    def answer(self, rows: Sequence[Row]) -> Answer:
        """Return what the rows say."""
        checks, predictions = (
            {expected.name: expected.of(rows) for expected in group} for group in (self.checks, self.predictions)
        )
        return Answer.of(self.title, checks=checks, predictions=predictions)

    def claims(self, rows: Sequence[Row]) -> Iterator[Claim]:
        """Yield a claim for each prediction; of no rows, without a measurement."""
        answer = self.answer(rows) if rows else None
        for expected in self.predictions:
            words, where = expected.words, expected.where
            if answer is None:
                yield Claim(self.paper, words, UNMEASURED, "-", "-", where)
            else:
                smallest = f"{answer.smallest(expected.name)} {expected.unit}".rstrip()
                verdict, numbers = answer.verdict(expected.name), answer.numbers(expected.name)
                yield Claim(self.paper, words, verdict, numbers, smallest, where)


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


def written(questions: Sequence[Question], rows: Sequence[Row]) -> str:
    """Return the checks and the predictions of all questions as Markdown tables."""
    return "\n\n".join(question.answer(rows).shown() for question in questions)


def claims(questions: Sequence[Question], rows: Sequence[Row]) -> list[Claim]:
    """Return a claim for each prediction of all questions."""
    return [claim for question in questions for claim in question.claims(rows)]


def mean_and_half(values: Sequence[float]) -> str:
    """Return the mean of seeds and the half width of Student's interval at 95 %.

    >>> mean_and_half([0.90, 0.92, 0.94])
    '0.920 ± 0.050'
    """
    low, high = student_interval(values)
    return f"{(low + high) / 2:.3f} ± {(high - low) / 2:.3f}"
