"""Questions of the section: predictions of Frosst et al., 2019, at the chosen dose, and the reverse of them.

The predictions were written before the networks of the whole size were trained, and are the same on each data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from answers import Answer, passes
from section import AGREES, UNKNOWN, Row, Verdict

from orchestrator.analysis.claims.comparisons import paired_difference
from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import Interval

from . import over_images
from .doses import Direction, Grid, Networks, difference, transfer_beyond_noise, transfer_difference
from .grid import TEMPERATURES
from .measures import PGD

PAPER = "Frosst et al. 2019"
OUTLIERS = {"mnist": "notmnist", "digits": "permuted"}
"""Set of outliers that the predictions are tested on: the paper's for MNIST, one without an orientation for digits."""
OPPOSITE: Mapping[Direction, Direction] = {"higher": "lower", "lower": "higher"}


class Expected(NamedTuple):
    """What the paper predicts of entangled networks."""

    name: str
    claim: str
    where: str
    metric: str
    direction: Direction


ACCURACY, AUROC, CREDIBILITY, TRANSFER = "test/accuracy", "auroc", "credibility", "transfer"
EXPECTED = (
    Expected("accuracy", "entangled networks are more accurate", "table 1", ACCURACY, "higher"),
    Expected("AUROC of credibility", "neighbours tell outliers better", "abstract", AUROC, "higher"),
    Expected("credibility of outliers", "outliers are less credible", "section on outliers", CREDIBILITY, "lower"),
    Expected(
        "credibility under FGSM",
        "attacked images are less credible",
        "section on attacks",
        "dknn/credibility_fgsm",
        "lower",
    ),
    Expected("transfer", "attacks transfer less between entangled networks", "section on attacks", TRANSFER, "lower"),
)
NAMES = {"higher": "entangling", "lower": "separating"}


@dataclass(frozen=True)
class Question:
    """Treatment in one direction, with one form of the temperature, on one data set; the claims ask one of them."""

    data: str
    temperature: str
    direction: Direction

    @property
    def title(self) -> str:
        """Title of the question."""
        return f"{self.data}: {NAMES[self.direction]}, temperature {self.temperature}"


class Reply(NamedTuple):
    """Answer to a question at its chosen dose, or the reason why there is none.

    `beyond` are the controls beyond which a prediction is not shown, by its name.
    """

    question: Question
    treatment: Networks | None
    answer: Answer | None
    reason: str
    beyond: Mapping[str, Sequence[str]]

    def verdict(self, name: str) -> Verdict:
        """Return the verdict: it agrees only if each matched control does less."""
        if self.answer is None or name not in self.answer.predictions:
            return UNKNOWN
        verdict = self.answer.verdict(name)
        return UNKNOWN if verdict == AGREES and self.beyond[name] else verdict

    def numbers(self, name: str) -> str:
        """Return the measured difference in words, or why there is none."""
        if self.answer is None:
            return "no dose passes its manipulation checks"
        if name not in self.answer.predictions:
            return "some network is fooled by no image"
        dose = "" if self.treatment is None else f"weight {self.treatment.recipe.weight:g}: "
        is_held = self.answer.verdict(name) != self.verdict(name)
        beyond = "; not shown beyond its controls" if is_held else ""
        return f"{dose}{self.answer.numbers(name)}{beyond}"

    def smallest(self, name: str) -> str:
        """Return the difference that would have been seen."""
        return "-" if self.answer is None or name not in self.answer.predictions else self.answer.smallest(name)


def transfer_answer(data: str, grid: Grid) -> Answer | None:
    """Return the answer on Szegedy et al., of networks without a term: attacks transfer more than noise of their size.

    None if some network is fooled by no image.
    """
    own = grid.baseline
    beyond = transfer_beyond_noise(own)
    if beyond is None:
        return None
    attacked = paired_difference(own.values[PGD], own.values["test/scored_accuracy"])
    return Answer.of(
        f"{data}: transfer between networks of different seeds",
        checks={"the attack lowers the accuracy of its own network": Prediction(attacked, "lower")},
        predictions={TRANSFER: Prediction(beyond, "higher")},
    )


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions of those doses that were measured."""
    found = dict.fromkeys(
        Question(
            row.settings["recipe"]["data"],
            row.settings["recipe"]["temperature"],
            "higher" if row.settings["recipe"]["weight"] < 0 else "lower",
        )
        for row in rows
        if row.settings["recipe"]["temperature"] in TEMPERATURES
    )
    return list(found)


def reply(question: Question, grid: Grid) -> Reply:
    """Return the answer at the mildest dose whose manipulation passes; checks that count are those on test images."""
    treatment = grid.chosen(question.temperature, question.direction)
    if treatment is None:
        return Reply(question, None, None, _why_not(question, grid), {})
    predictions = predicted(question, treatment, grid.baseline)
    controls = {
        name: predicted(question, treatment, reference)
        for name, reference in grid.references(treatment).items()
        if reference is not grid.baseline
    }
    checks = grid.checks(treatment, question.direction, images="test")
    title = f"{question.title}, weight {treatment.recipe.weight:g}"
    answer = Answer.of(title, checks=checks, predictions=predictions)
    beyond = {
        own: [name for name, found in controls.items() if own not in found or not passes(found[own])]
        for own in predictions
    }
    return Reply(question, treatment, answer, "", beyond)


def predicted(question: Question, treatment: Networks, reference: Networks) -> dict[str, Prediction]:
    """Return the predictions with their measured differences to a reference; without transfer if it was not measured.

    Of separated networks they are the reverse.
    """
    outliers = OUTLIERS[question.data]
    metrics = {AUROC: f"ood/{outliers}_credibility_auroc", CREDIBILITY: f"dknn/credibility_{outliers}"}
    found = {}
    for own in EXPECTED:
        direction = own.direction if question.direction == "higher" else OPPOSITE[own.direction]
        if own.metric == TRANSFER:
            pairs = transfer_difference(treatment, reference)
            if pairs is not None:
                found[own.name] = Prediction(pairs, direction)
            continue
        metric = metrics.get(own.metric, own.metric)
        images = _over_images(own.metric, treatment, reference)
        found[own.name] = Prediction(difference(treatment, reference, metric), direction, images=images)
    return found


def _over_images(metric: str, treatment: Networks, reference: Networks) -> Interval:
    match metric:
        case "test/accuracy":
            return over_images.of_accuracy(treatment, reference)
        case "auroc":
            return over_images.of_auroc(treatment, reference)
        case "credibility":
            return over_images.of_mean(treatment, reference, "credibility_outliers")
        case _:
            return over_images.of_mean(treatment, reference, "credibility_fgsm")


def _why_not(question: Question, grid: Grid) -> str:
    """Return why no dose is tested: of each dose, the checks that fail and the controls without a match."""
    doses = grid.doses(question.temperature, question.direction)
    if not doses:
        return "every dose diverged for some seed"
    reasons = [f"{own.recipe.weight:g}: {'; '.join(grid.problems(own, question.direction))}" for own in doses]
    return f"no dose passes its checks. Failed are, by weight: {'. '.join(reasons)}"
