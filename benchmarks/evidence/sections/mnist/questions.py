"""Predictions of the papers, each with its manipulation check against the baseline and against the controls.

The predictions and checks are these, whatever the numbers are.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import published_claims as published
from questions import Direction, Expected, Published, Question

from orchestrator.analysis.claims.conclusions import Prediction

from .scores import TRANSFER, Scores

BASELINE = "baseline"
CONTROLS = ("class means (control)", "activation L2 (control)")
CREDIBILITY = "dknn/credibility_notmnist"
AUROC = "ood/notmnist_credibility_auroc"
DEFORMATIONS = {
    name: f"deformation/{name.replace(' ', '@')}"
    for name in ("rotation 20", "rotation 40", "rotation 60", "shear 0.5", "zoom_in 0.6", "zoom_out 1.4")
}


class Change(NamedTuple):
    """Direction in which a metric of the treatment is to differ from that of its control, and the claim it tests."""

    words: str
    metric: str
    direction: Direction
    claim: Published | None = None
    about: str = ""
    unit: str = ""
    caveat: str = ""


@dataclass(frozen=True)
class Treatment:
    """Predictions of a treatment against the baseline; its checks are against each of `references`.

    `caveat` is what a reader has to know of all of its predictions.
    """

    title: str
    name: str
    checks: tuple[Change, ...]
    references: tuple[str, ...]
    predictions: tuple[Change, ...]
    caveat: str = ""


def _layers(direction: Direction) -> tuple[Change, ...]:
    return tuple(Change(tap, f"entanglement/{tap}_test", direction) for tap in ("conv1", "conv2"))


TREATMENTS = (
    Treatment(
        "Frosst et al., 2019: entangling by `entangle`, weight -0.01",
        name="entangle",
        checks=_layers("higher"),
        references=(BASELINE, *CONTROLS),
        predictions=(
            Change("test accuracy is higher", "test/accuracy", "higher", published.ACCURATE, "MNIST"),
            Change(
                "neighbours detect notMNIST better (AUROC of credibility)",
                AUROC,
                "higher",
                published.OUTLIERS,
                "notMNIST",
            ),
            Change("notMNIST has less credibility", CREDIBILITY, "lower", published.INCREDIBLE, "notMNIST"),
            Change(
                "attacks transfer less between such networks", TRANSFER, "lower", published.TRANSFER, "MNIST", "points"
            ),
        ),
    ),
    Treatment(
        "The reverse of it: separating by `disentangle`, weight 0.3",
        name="disentangle",
        checks=_layers("lower"),
        references=(BASELINE, *CONTROLS),
        predictions=(
            Change("test accuracy is lower", "test/accuracy", "lower", published.SEPARATED, "MNIST"),
            Change(
                "neighbours detect notMNIST worse (AUROC of credibility)",
                AUROC,
                "lower",
                published.SEPARATED_OUTLIERS,
                "notMNIST",
            ),
            Change(
                "notMNIST has more credibility",
                CREDIBILITY,
                "higher",
                published.SEPARATED_CREDIBLE,
                "notMNIST",
            ),
            Change(
                "attacks transfer more between such networks",
                TRANSFER,
                "higher",
                published.SEPARATED_TRANSFER,
                "MNIST",
                "points",
                "inconclusive in a first run of the same seeds",
            ),
        ),
        caveat="controls are of the other direction",
    ),
    Treatment(
        "Verma et al., 2019: manifold mixup, alpha 2",
        name="manifold mixup",
        checks=(Change("mixed labels lower the confidence (ECE)", "test/ece", "higher"),),
        references=(BASELINE,),
        predictions=(
            Change("test accuracy is higher", "test/accuracy", "higher", published.MIXED_ACCURATE, "MNIST"),
            Change("negative log-likelihood is lower", "test/nll", "lower", published.MIXED_LIKELY, "MNIST", "nats"),
            *(
                Change(f"accuracy is higher at {name}", metric, "higher", published.MIXED_DEFORMED, name)
                for name, metric in DEFORMATIONS.items()
            ),
        ),
    ),
)


def questions_of(scores: Scores) -> list[Question]:
    """Return the questions to these scores."""
    return [_question(treatment, scores) for treatment in TREATMENTS]


def _question(treatment: Treatment, scores: Scores) -> Question:
    untrained = [name for name in (treatment.name, *treatment.references) if name not in scores.recipes]
    return Question(
        treatment.title,
        [
            _expected(f"{check.words} against {name}", treatment.name, name, check, scores)
            for check in treatment.checks
            for name in treatment.references
        ],
        [_beyond_controls(treatment, own, scores) for own in treatment.predictions],
        absent=f"these were not trained: {', '.join(untrained)}" if untrained else "",
    )


def _beyond_controls(treatment: Treatment, own: Change, scores: Scores) -> Expected:
    """Return a prediction against the baseline, which has to be shown against each control, too."""
    controls = [name for name in treatment.references if name != BASELINE]
    beyond = {name: _expected(own.words, treatment.name, name, own, scores).of for name in controls}
    caveat = ", ".join(filter(None, (treatment.caveat, own.caveat)))
    return replace(_expected(own.words, treatment.name, BASELINE, own, scores), beyond=beyond, caveat=caveat)


def _expected(words: str, treatment: str, control: str, change: Change, scores: Scores) -> Expected:
    def measured() -> Prediction | None:
        difference = scores.difference(treatment, control, change.metric)
        images = scores.image_interval(treatment, control, change.metric)
        return None if difference is None else Prediction(difference, change.direction, images=images)

    return Expected(words, lambda _: measured(), change.claim, change.about, change.unit)
