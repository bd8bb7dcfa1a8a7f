"""Questions of the section: predictions of Frosst et al., 2019, at the chosen dose, and the reverse of them.

The predictions were written before the networks of the whole size were trained, and are the same on each data set.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import published_claims as published
from cells import MISSING, table
from questions import Expected, Published, Question, by_seed
from section import Row

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import Interval

from . import over_images
from .doses import Direction, Grid, Match, Networks, difference, transfer_beyond_noise, transfer_difference
from .further_questions import further_questions
from .grid import budget
from .measures import PGD
from .treatments import CHOSEN_BY, NOT_TRAINED, OUTLIERS, Treatment, treatments, why_not


class Response(NamedTuple):
    """What the paper predicts of entangled networks."""

    name: str
    claim: Published
    metric: str
    direction: Direction


ACCURACY, AUROC, CREDIBILITY, TRANSFER = "test/accuracy", "auroc", "credibility", "transfer"
RESPONSES = (
    Response("accuracy", published.ACCURATE, ACCURACY, "higher"),
    Response("AUROC of credibility", published.OUTLIERS, AUROC, "higher"),
    Response("credibility of outliers", published.INCREDIBLE, CREDIBILITY, "lower"),
    Response("credibility under FGSM", published.ATTACKED, "dknn/credibility_fgsm", "lower"),
    Response("transfer", published.TRANSFER, TRANSFER, "lower"),
)
AGAINST = "test accuracy, treatment less control"
NOT_FOOLED = "some network is fooled by no image"
OTHER_SEEDS = "other seeds of one network, PGD"
"""Caveat of transfer: table 2 of Szegedy et al. is of other networks and minimal perturbations."""


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions to all treatments that were measured, and to those of the claims."""
    found = treatments([row.settings["recipe"] for row in rows])
    grids = {data: Grid.of(rows, data) for data in OUTLIERS}
    return [
        *(question(treatment, grids[treatment.data]) for treatment in found),
        *(between_seeds(data, grid) for data, grid in grids.items()),
        *(own for treatment in found for own in further_questions(treatment, grids[treatment.data])),
    ]


def question(treatment: Treatment, grid: Grid) -> Question:
    """Return the question to the mildest dose whose manipulation passes; checks that count are those on test images."""
    chosen = grid.chosen(treatment.temperature, treatment.direction) if grid.networks else None
    if chosen is None:
        missing = [_expected(own, treatment, {}) for own in RESPONSES]
        return Question(treatment.title, (), missing, why_not(treatment, grid))
    checks = grid.checks(chosen, treatment.direction, images="test").items()
    by_reference = {
        name: predicted(treatment, chosen, reference) for name, reference in grid.references(chosen).items()
    }
    heads = ["control", "what is compared", "difference to the treatment", "within the tolerance", AGAINST]
    return Question(
        f"{treatment.title}, weight {chosen.recipe.weight:g}",
        [Expected(name, lambda _, own=check: own) for name, check in checks],
        [_expected(own, treatment, by_reference) for own in RESPONSES],
        note=table(heads, ([*_match(match), _accuracy(chosen, match)] for match in grid.matches(chosen))),
    )


def _expected(own: Response, treatment: Treatment, found: Mapping[str, Mapping[str, Prediction]]) -> Expected:
    """Return a prediction against the baseline, which has to be shown against each matched control too."""
    by_reference = {name: predictions.get(own.name) for name, predictions in found.items()}
    measured = by_reference.pop("baseline", None)
    claim = own.claim if treatment.is_claimed else None
    beyond = {name: lambda _, it=prediction: it for name, prediction in by_reference.items()}
    caveats = [budget(treatment.data)] if own.metric == ACCURACY else []
    caveat = ", ".join([*caveats, CHOSEN_BY] if found else caveats)
    return Expected(
        own.name, lambda _: measured, claim, treatment.data, beyond=beyond, caveat=caveat, missing=NOT_FOOLED
    )


def between_seeds(data: str, grid: Grid) -> Question:
    """Return the question of Szegedy et al., of networks without a term: attacks transfer more than noise does."""

    def attacked() -> Prediction:
        own = grid.baseline.values
        return by_seed(own[PGD], own["test/scored_accuracy"], "lower")

    def transferred() -> Prediction | None:
        beyond = transfer_beyond_noise(grid.baseline)
        return None if beyond is None else Prediction(beyond, "higher")

    return Question(
        f"{data}: transfer between networks of different seeds",
        (Expected("the attack lowers the accuracy of its own network", lambda _: attacked()),),
        (
            Expected(
                "transfer",
                lambda _: transferred(),
                published.FOOLED,
                data,
                caveat=OTHER_SEEDS,
                missing=NOT_FOOLED,
            ),
        ),
        absent="" if grid.networks else NOT_TRAINED,
    )


def _match(match: Match) -> list[str]:
    if match.control is None:
        return [match.name, "-", "no network", "no"]
    if match.criterion == "cost":
        compared, gap = "mean validation accuracy", f"{match.distance:.4f}"
    else:
        compared, gap = "mean squared length of activations", f"a factor of {match.distance:.2f}"
    return [match.name, compared, gap, "yes" if match.is_within else "no"]


def _accuracy(treatment: Networks, match: Match) -> str:
    """Return the difference of test accuracies to a control that counts, with its uncorrected p-value."""
    if match.control is None or not match.is_within:
        return MISSING
    found = difference(treatment, match.control, ACCURACY)
    return f"{found.mean:+.4f} (p = {found.p:.2g})"


def predicted(treatment: Treatment, networks: Networks, reference: Networks) -> dict[str, Prediction]:
    """Return the predictions with their measured differences to a reference; without transfer if it was not measured.

    Of separated networks they are the reverse.
    """
    outliers = OUTLIERS[treatment.data]
    metrics = {AUROC: f"ood/{outliers}_credibility_auroc", CREDIBILITY: f"dknn/credibility_{outliers}"}
    found = {}
    for own in RESPONSES:
        direction = treatment.of(own.direction)
        if own.metric == TRANSFER:
            pairs = transfer_difference(networks, reference)
            if pairs is not None:
                found[own.name] = Prediction(pairs, direction)
            continue
        metric = metrics.get(own.metric, own.metric)
        images = _over_images(own.metric, networks, reference)
        found[own.name] = Prediction(difference(networks, reference, metric), direction, images=images)
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
