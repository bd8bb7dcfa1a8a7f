"""Questions of a section: predictions that are written before a run, their manipulation checks, and what the rows say.

A question has the manipulation checks of one treatment, against the baseline and each matched control, and the
predictions that rest on them. Holm's correction is over the predictions, differences are paired by seed, and
`orchestrator.analysis.claims.conclusions` concludes. What is expected is a function of the rows, so a section has the
same claims with and without measurements.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import NormalDist, mean
from typing import Any, Final, Literal, NamedTuple

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, paired_difference
from orchestrator.analysis.claims.conclusions import AGREES, UNKNOWN, Conclusion, Finding, Prediction, conclude
from orchestrator.analysis.claims.intervals import Interval, image_difference_interval, student_interval
from orchestrator.analysis.claims.power import POWER, smallest_difference

Rows = Sequence[Any]
Direction = Literal["higher", "lower", "equal"]
Verdict = Conclusion | Literal["not measured yet"]
UNMEASURED: Final = "not measured yet"

BEYOND = "not shown beyond its controls"
"""Reason to withhold an agreement that a matched control has too."""


class Published(NamedTuple):
    """Claim of a paper, by its authors and year, and the table, figure or section that makes it."""

    paper: str
    claim: str
    where: str


class Claim(NamedTuple):
    """Test of a published claim in a section; `smallest` is the smallest effect that would have been seen.

    `about` is what it was tested on: data, network or treatment. `caveat` is what a reader has to know of the test, and
    `has_images` says that the conclusion is over other images, too.
    """

    published: Published
    about: str
    verdict: Verdict
    reason: str = ""
    smallest: float | None = None
    unit: str = ""
    caveat: str = ""
    has_images: bool = True


@dataclass(frozen=True)
class Expected:
    """What is expected, in words and as a function of the rows, which returns None if it was not measured.

    `unit` is that of the difference. `claim` is what it tests, if a paper makes it, and `about` on what. `beyond` is
    the same prediction against each matched control: it agrees only if each of these is shown too, uncorrected, and
    would be on other images. `caveat` is what a reader of the claim has to know of this test, as that it was asked
    after the measurement.
    `missing` is the reason why it may not be measured. `is_two_sided` says that no direction was predicted: the
    prediction takes that of its difference, and agrees if a difference is shown. No claim has it.
    """

    words: str
    of: Callable[[Rows], Prediction | None]
    claim: Published | None = None
    about: str = ""
    unit: str = ""
    beyond: Mapping[str, Callable[[Rows], Prediction | None]] = field(default_factory=dict)
    caveat: str = ""
    missing: str = "not measured"
    is_two_sided: bool = False

    def __post_init__(self) -> None:
        if self.is_two_sided and self.claim is not None:
            raise ValueError(f"{self.words}: must have a direction, as it tests a claim; got a two-sided question")

    @property
    def name(self) -> str:
        """Name in a table: the words and the unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words


@dataclass(frozen=True)
class Answer:
    """Checks and predictions that were measured, and the findings, by name."""

    checks: Mapping[str, Prediction]
    predictions: Mapping[str, Prediction]
    findings: Mapping[str, Finding]


@dataclass(frozen=True)
class Question:
    """Checks of a treatment, all of which must pass, and predictions that are corrected together.

    `absent` is the reason why it has no answer, and `note` Markdown about its controls.
    """

    title: str
    checks: Sequence[Expected]
    predictions: Sequence[Expected]
    absent: str = ""
    note: str = ""

    def answer(self, rows: Rows) -> Answer | None:
        """Return what the rows say; None if `absent` says why they say nothing.

        Raises:
            ValueError: there is no manipulation check, or one that was not measured.
        """
        if self.absent:
            return None
        checks, predictions = _measured(self.checks, rows), _measured(self.predictions, rows)
        if unchecked := [own.name for own in self.checks if own.name not in checks]:
            raise ValueError(f"{self.title}: the manipulation check is not measured: {', '.join(unchecked)}")
        findings = conclude(predictions, checks=checks)
        by_name = {own.name: own for own in self.predictions}
        level = SIGNIFICANCE / max(1, len(predictions))
        held = {name: _held(by_name[name], predictions[name], own, rows, level) for name, own in findings.items()}
        return Answer(checks, predictions, held)

    def claims(self, rows: Rows) -> Iterator[Claim]:
        """Yield the test of each claim that a prediction is of."""
        answer = self.answer(rows)
        for own in self.predictions:
            if own.claim is None:
                continue
            if answer is None:
                yield Claim(own.claim, own.about, UNKNOWN, reason_in_short(self.absent), caveat=own.caveat)
            elif own.name not in answer.findings:
                yield Claim(own.claim, own.about, UNKNOWN, own.missing, caveat=own.caveat)
            else:
                found, has_images = answer.findings[own.name], answer.predictions[own.name].images is not None
                reason = reason_in_short(found.reason)
                seen = (found.smallest, own.unit)
                yield Claim(own.claim, own.about, found.conclusion, reason, *seen, own.caveat, has_images)


def claims_of(questions: Sequence[Question], rows: Rows) -> list[Claim]:
    """Return the tests of all claims."""
    return [claim for question in questions for claim in question.claims(rows)]


def unmeasured(questions: Sequence[Question]) -> list[Claim]:
    """Return the tests of all claims before anything is measured."""
    return [
        Claim(own.claim, own.about, UNMEASURED, caveat=own.caveat)
        for question in questions
        for own in question.predictions
        if own.claim is not None
    ]


def passes(check: Prediction | None) -> bool:
    """Return True if a manipulation check passed."""
    return check is not None and check.p <= SIGNIFICANCE and check.is_as_predicted


def _shows(prediction: Prediction | None) -> bool:
    """Return True if a prediction is shown, uncorrected, and would be on other images."""
    return prediction is not None and passes(prediction) and not prediction.may_be_of_these_images()


def reason_in_short(reason: str) -> str:
    """Return a reason without its list of names.

    >>> reason_in_short("the manipulation check failed: conv1")
    'the manipulation check failed'
    """
    return reason.partition(":")[0]


def by_seed(
    values: Sequence[float],
    control: Sequence[float],
    direction: Direction,
    *,
    margin: float | None = None,
    images: Interval | None = None,
) -> Prediction:
    """Return the prediction that values differ from their controls of the same seeds.

    >>> by_seed([0.3, 0.4, 0.35], [0.1, 0.2, 0.2], "higher").is_as_predicted
    True
    """
    return Prediction(paired_difference(values, control), direction, margin=margin, images=images)


def by_shares(
    values: Sequence[float], control: Sequence[float], direction: Direction, *, num_images: int
) -> Prediction:
    """Return the same of shares of so many images, with Newcombe's interval over the images."""
    images = image_difference_interval(mean(values), mean(control), num_images)
    return by_seed(values, control, direction, images=images)


def by_sets(values: Sequence[Sequence[float]], control: Sequence[Sequence[float]], direction: Direction) -> Prediction:
    """Return the same of values on several disjoint sets of images, or on single ones: of each seed, one for each set.

    The seeds' means over the sets are compared. The interval over images is Student's over the sets, of their means
    over the seeds: what other sets of as many images would give, of these networks.

    >>> own, other = [[0.9, 0.8], [0.9, 0.7]], [[0.5, 0.4], [0.5, 0.3]]
    >>> [round(end, 3) for end in by_sets(own, other, "higher").images]
    [0.4, 0.4]
    """
    differences = [
        [mine - yours for mine, yours in zip(own, its, strict=True)] for own, its in zip(values, control, strict=True)
    ]
    over_sets = [sum(column) / len(column) for column in zip(*differences, strict=True)]
    means, controls = ([sum(own) / len(own) for own in sets] for sets in (values, control))
    return by_seed(means, controls, direction, images=student_interval(over_sets))


def rows_of(rows: Rows, settings: Mapping[str, Any]) -> list[Any]:
    """Return the rows of units with these settings, in their order: that of the seeds."""
    return [row for row in rows if settings.items() <= row.settings.items()]


def paired(
    value: Callable[[Any], Any],
    direction: Direction,
    own: Mapping[str, Any],
    control: Mapping[str, Any] | None = None,
    *,
    control_value: Callable[[Any], Any] | None = None,
    by: Callable[[Sequence[Any], Sequence[Any], Direction], Prediction] = by_seed,
    num_images: Callable[[Rows], int] | None = None,
) -> Callable[[Rows], Prediction]:
    """Return a function of the rows that compares a value of each, paired by seed.

    Args:
        value: what is compared, of a row: a number, or for `by_sets` one for each set of images or image.
        direction: that of the prediction.
        own: settings of the rows of the treatment.
        control: settings of the rows of its control; those of the treatment for a comparison within its rows.
        control_value: what is compared of a control, if it is something else.
        by: how values are compared.
        num_images: number of images of which values are shares, of the rows of the treatment, for `by_shares`.
    """

    def of(rows: Rows) -> Prediction:
        treated, controls = rows_of(rows, own), rows_of(rows, own if control is None else control)
        compare = by if num_images is None else partial(by_shares, num_images=num_images(treated))
        return compare([value(row) for row in treated], [(control_value or value)(row) for row in controls], direction)

    return of


def _measured(group: Sequence[Expected], rows: Rows) -> dict[str, Prediction]:
    found = {own.name: own.of(rows) for own in group}
    return {name: prediction for name, prediction in found.items() if prediction is not None}


def _held(expected: Expected, prediction: Prediction, finding: Finding, rows: Rows, level: float) -> Finding:
    """Withhold an agreement that a control has too, and let the smallest effect count other images and the controls.

    An agreement has to be seen beyond each control, so beyond what that control does itself.
    """
    smallest = [_over_images(prediction, finding.smallest, level)]
    beyond = {name: of(rows) for name, of in expected.beyond.items()}
    towards = -1 if prediction.direction == "lower" else 1
    for own in filter(None, beyond.values()):
        of_control = towards * (prediction.difference.mean - own.difference.mean)
        smallest.append(of_control + _over_images(own, smallest_difference(own.difference), SIGNIFICANCE))
    finding = replace(finding, smallest=max(smallest))
    alike = [name for name, own in beyond.items() if not _shows(own)]
    if finding.conclusion == AGREES and alike:
        return replace(finding, conclusion=UNKNOWN, reason=f"{BEYOND}: {', '.join(alike)}")
    return finding


def _over_images(prediction: Prediction, smallest: float, level: float) -> float:
    """Return the smallest difference that is seen on other images too at a level, of one that is seen on these."""
    if prediction.images is None:
        return smallest
    normal = NormalDist().inv_cdf
    in_half_widths = (normal(1 - level / 2) + normal(POWER)) / normal(1 - SIGNIFICANCE / 2)
    half = (prediction.images.high - prediction.images.low) / 2
    margin = prediction.margin or 0.0
    return margin + math.hypot(smallest - margin, half * in_half_widths)
