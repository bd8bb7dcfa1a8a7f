"""Questions on calibration, attacks and other scores of outliers, at the chosen dose and against the same controls.

They were added when 26 of the 39 treatments of digits were measured, and none of MNIST. Their directions were fixed
without a look at these metrics: the abstract's, where it has one, else the question is two-sided.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import published_claims as published
from questions import Expected, Published, Question, Rows, reason_in_short

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import Interval

from . import over_images
from .doses import Direction, Grid, Networks, difference
from .measures import FGSM, PGD
from .treatments import CHOSEN_BY, OUTLIERS, Treatment, why_not

FIXED = "added before the rows of MNIST were complete"
SCORED = ("credibility_fgsm",)
"""What is stored of the scored test images."""


class Further(NamedTuple):
    """Metric that is compared; `direction` is what the paper predicts of entangled networks, if it does.

    `images` are what is stored of the images that it is of, for their number; without it there is no interval over
    images, as for ECE, which is no mean over them, and NLL, which has no bound. `largest` is the largest value of one.
    """

    name: str
    metric: str
    images: tuple[str, ...] = ()
    largest: float = 1.0
    direction: Direction | None = None
    claim: Published | None = None

    @property
    def words(self) -> str:
        """Name in a table, which says that there is no direction."""
        return self.name if self.direction else f"{self.name} (two-sided)"


def groups(data: str) -> Mapping[str, tuple[Further, ...]]:
    """Return what is compared on a data set, by the title of its question; each is corrected by itself."""

    def auroc(name: str, score: str, direction: Direction | None = None, claim: Published | None = None) -> Further:
        metric = f"ood/{OUTLIERS[data]}_{score}_auroc"
        return Further(f"AUROC of {name}", metric, ("above", "below"), direction=direction, claim=claim)

    return {
        "calibration": (
            Further("ECE", "test/ece"),
            Further("NLL, nats", "test/nll"),
            Further("Brier score", "test/brier", ("right",), largest=2.0),
            Further("credibility of test images", "dknn/credibility", SCORED),
        ),
        "accuracy under attack": (
            Further("accuracy under FGSM", FGSM, SCORED),
            Further(f"accuracy under {PGD}", PGD, SCORED),
        ),
        "outliers by other scores": (
            auroc("the share of neighbours of the predicted class", "own_votes", "higher", published.OUTLIERS),
            auroc("softmax", "msp"),
            auroc("energy", "energy"),
            auroc("conformity", "conformity"),
            auroc("kNN distance", "knn"),
            auroc("Mahalanobis distance", "mahalanobis"),
        ),
    }


def further_questions(treatment: Treatment, grid: Grid) -> Iterator[Question]:
    """Yield the questions to the dose that the other predictions are tested at."""
    chosen = grid.chosen(treatment.temperature, treatment.direction) if grid.networks else None
    for name, group in groups(treatment.data).items():
        if chosen is None:
            absent = reason_in_short(why_not(treatment, grid))
            missing = [_expected(own, treatment, name) for own in group]
            yield Question(f"{treatment.title}: {name} ({FIXED})", (), missing, absent)
        else:
            references = grid.references(chosen)
            checks = grid.checks(chosen, treatment.direction, images="test").items()
            yield Question(
                f"{treatment.title}, weight {chosen.recipe.weight:g}: {name} ({FIXED})",
                [Expected(words, partial(_known, check)) for words, check in checks],
                [_measured(own, treatment, name, chosen, references) for own in group],
            )


def _expected(own: Further, treatment: Treatment, group: str) -> Expected:
    """Return what is expected, before it is measured."""
    claim = own.claim if treatment.is_claimed else None
    about = f"{treatment.data}, {group}"
    return Expected(own.words, lambda _: None, claim, about, is_two_sided=own.direction is None)


def _measured(
    own: Further, treatment: Treatment, group: str, chosen: Networks, references: Mapping[str, Networks]
) -> Expected:
    """Return what is expected against the baseline, and against each matched control in the same direction.

    Of a two-sided question that is the direction of the mean difference to the baseline.
    """
    if own.direction is None:
        direction: Direction = "higher" if difference(chosen, references["baseline"], own.metric).mean > 0 else "lower"
    else:
        direction = treatment.of(own.direction)

    def against(name: str, _rows: Rows) -> Prediction:
        images = _over_images(own, chosen, references[name])
        return Prediction(difference(chosen, references[name], own.metric), direction, images=images)

    beyond = {name: partial(against, name) for name in references if name != "baseline"}
    found = _expected(own, treatment, group)
    return replace(found, of=partial(against, "baseline"), beyond=beyond, caveat=CHOSEN_BY)


def _known(prediction: Prediction, _rows: Rows) -> Prediction:
    return prediction


def _over_images(own: Further, treatment: Networks, reference: Networks) -> Interval | None:
    if not own.images:
        return None
    number = min(len(treatment.by_image[name]) for name in own.images)
    return over_images.of_bounded(treatment, reference, own.metric, images=number, largest=own.largest)
