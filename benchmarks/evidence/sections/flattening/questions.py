"""Questions on flattening, each with the checks of its treatment.

Written before they were measured, but for those on weight decay and dropout.
"""

from collections.abc import Sequence

import published_claims as published
from questions import Expected, Published, Question
from section import Row
from sections.flattening.networks import (
    AFTER,
    DATA,
    DECAY,
    DROPOUT,
    INPUT,
    LENGTH_WEIGHTS,
    MANIFOLD,
    MIXED_AT,
    length_penalty,
)
from sections.mixtures.predictions import Contrast, Values
from sections.mixtures.trials import NONE

MATCHED_WITHIN = 0.2
"""Largest difference of the log of the mean norm at which two networks have activations of one scale."""
LATER = "asked after the measurement"
METRICS = {
    "rest_fraction": ("the share of all singular values but the largest is lower", "of the sum of singular values"),
    "effective_rank": ("the effective rank is lower", "directions"),
    "centred_effective_rank": ("the effective rank around the mean of the class is lower", "directions"),
    "relative_rank": (
        "the effective rank is lower relative to that of as many images of all classes",
        "in the ratio of ranks",
    ),
}
"""What is predicted of each metric, and the unit of a difference."""


def matched(rows: Sequence[Row]) -> str:
    """Return the length penalty whose activations of validation images are nearest in length to manifold mixup's.

    Of no rows it is the smallest. It is chosen by the length alone, on validation images.
    """
    names = [length_penalty(weight) for weight in LENGTH_WEIGHTS]
    if not rows:
        return names[0]
    values = Values(rows, DATA)
    target = values.mean(MANIFOLD, "log_norm")
    return min(names, key=lambda name: abs(values.mean(name, "log_norm") - target))


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the questions, one for each control; that of the scale is `matched`."""
    control = matched(rows)
    scale = Expected(
        "activations are as long as those of the control, log of the mean norm",
        Contrast(DATA, "log_norm", "equal", MANIFOLD, control, margin=MATCHED_WITHIN),
    )
    return [
        question(NONE, "no mixup", published.FLATTER),
        question(INPUT, "input mixup", published.FLATTER_INPUT),
        question(control, "the activation L2 penalty of the same scale", published.FLATTER_SCALE, scale),
        question(DECAY, "weight decay", published.FLATTER_DECAY, caveat=LATER),
        question(DROPOUT, "dropout", published.FLATTER_DROPOUT, caveat=LATER),
    ]


def question(control: str, words: str, claim: Published, *checks: Expected, caveat: str = "") -> Question:
    """Return the question against a control, at the layer that is mixed."""
    claimed = {"rest_fraction": claim}
    if control == NONE:
        claimed["relative_rank"] = published.FLATTER_RANK
    check = f"it brings mixtures at {MIXED_AT} nearer to mixed labels than {words}, nats"
    title = f"Manifold mixup at {MIXED_AT} against {words}"
    return Question(
        f"{title} ({caveat})" if caveat else title,
        checks=(Expected(check, Contrast(DATA, f"mixture/{MIXED_AT}", "lower", MANIFOLD, control)), *checks),
        predictions=tuple(
            Expected(
                expected,
                Contrast(DATA, f"{AFTER}/{MIXED_AT}_{metric}", "lower", MANIFOLD, control),
                claimed.get(metric),
                "MNIST, MLP",
                unit,
                caveat=caveat,
            )
            for metric, (expected, unit) in METRICS.items()
        ),
    )
