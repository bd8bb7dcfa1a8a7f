"""Predictions of Szegedy et al. (2014) on transfer, decay and slopes, as written before anything was measured."""

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any, Final

from paired_questions import Claimed, Compared, Question, claims_of
from section import Claim, Row

from orchestrator.analysis.claims.intervals import Interval, image_bootstrap, image_difference_interval
from trainables.evaluation.robustness.transfer_result import TransferCondition

PAPER: Final = "Szegedy et al. 2014"


def by_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return the rows of a kind of unit, in the order of the seeds."""
    return [row for row in rows if row.settings["kind"] == kind]


def error(row: Row, condition: TransferCondition, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the mean error over pairs of source and target."""
    matrix = row.metrics["errors"][" ".join(condition)]
    rates = [matrix[source][target] for source, target in pairs]
    return mean(wrong / images for wrong, images in rates if images)


def pairs_of(rows: Sequence[Row], *, same: bool) -> list[tuple[str, str]]:
    """Return the pairs of different networks, or those of each with itself."""
    names = list(rows[0].metrics["test_error"])
    return [(source, target) for source in names for target in names if (source == target) == same]


def against(
    words: str,
    rows: Sequence[Row],
    pairs: Sequence[tuple[str, str]],
    *,
    size: str = "own",
    control: str = "gaussian",
) -> Compared:
    """Compare the error by the attack with that by noise of the same size, on images that all classify correctly."""
    attack, noise = (TransferCondition(kind, size, "right") for kind in ("attack", control))
    own, other = ([error(row, condition, pairs) for row in rows] for condition in (attack, noise))
    return Compared(words, own, other, "higher", images=_image_interval(rows, own, other))


def between(words: str, rows: Sequence[Row], *, size: str) -> Compared:
    """Compare the transfer to the other half with that to another network of the same half, of the same layers."""
    condition = TransferCondition("attack", size, "right")
    own = [error(row, condition, [("FC100(P1)", "FC100'(P2)")]) for row in rows]
    other = [error(row, condition, [("FC100(P1)", "FC100'(P1)")]) for row in rows]
    return Compared(words, own, other, "lower", images=_image_interval(rows, own, other))


def _image_interval(rows: Sequence[Row], own: Sequence[float], other: Sequence[float]) -> Interval:
    condition = " ".join(TransferCondition("gaussian", "own", "right"))
    counts = [
        images
        for row in rows
        for of_source in row.metrics["errors"][condition].values()
        for _, images in of_source.values()
        if images
    ]
    return image_difference_interval(mean(own), mean(other), min(counts))


NETWORKS: Final = "Between networks of other layers and decay (table 2)"
HALVES: Final = "Between disjoint halves of the training set (table 4)"
DECAY: Final = "Weight decay and the smallest perturbation (table 1)"
SLOPES: Final = "The product of the norms, and the slope that images meet (section 4.3)"
OTHERS_FOOLED: Final = "other networks err more than on Gaussian noise of the same size"
OTHERS_SIGNS: Final = "and than on random signs of the same size"
OTHERS_AMPLIFIED: Final = "amplified to 0.1, other networks err more than on noise of that size"
HALF_FOOLED: Final = "a network of the other half errs more than on Gaussian noise of the same size"
HALF_AMPLIFIED: Final = "amplified to 0.1, it errs more than on noise of that size"
HALF_LESS: Final = "it errs less than another network of the same half"
HALF_LESS_AMPLIFIED: Final = "amplified to 0.1, it errs less than another network of the same half"
FARTHER: Final = "FC10(1) needs larger perturbations than FC10(1e-4), root mean square"
LOOSE: Final = "the largest slope is below the product, decades"


def questions(rows: Sequence[Row]) -> list[Question]:
    """Return the predictions, which were written before any of this was measured."""
    across, half, stable = (by_kind(rows, kind) for kind in ("networks", "halves", "stability"))
    others, itself = pairs_of(across, same=False), pairs_of(across, same=True)
    to_other_half = [("FC100(P1)", "FC100'(P2)"), ("FC123(P1)", "FC100'(P2)")]
    own_words = "images fool the network they were made for more than noise of their size"
    return [
        Question(
            NETWORKS,
            [against(own_words, across, itself)],
            [
                against(OTHERS_FOOLED, across, others),
                against(OTHERS_SIGNS, across, others, control="sign"),
                against(OTHERS_AMPLIFIED, across, others, size="common"),
            ],
        ),
        Question(
            HALVES,
            [against(own_words, half, pairs_of(half, same=True))],
            [
                against(HALF_FOOLED, half, to_other_half),
                against(HALF_AMPLIFIED, half, to_other_half, size="common"),
                between(HALF_LESS, half, size="own"),
                between(HALF_LESS_AMPLIFIED, half, size="common"),
            ],
        ),
        Question(DECAY, [_smaller_norm(stable)], [_farther(stable)]),
        Question(SLOPES, [_steeper(stable)], [_loose(stable)]),
    ]


def _smaller_norm(rows: Sequence[Row]) -> Compared:
    own, other = ([row.metrics[name]["bound"] for row in rows] for name in ("FC10(1)", "FC10(1e-4)"))
    return Compared("the norm of FC10(1) is smaller than that of FC10(1e-4)", own, other, "lower")


def _farther(rows: Sequence[Row]) -> Compared:
    own, other = ([_distortions(row, name) for row in rows] for name in ("FC10(1)", "FC10(1e-4)"))
    both = [index for index in range(len(own[0])) if all(values[index] is not None for values in (*own, *other))]
    differences = [[a[i] - b[i] for i in both] for a, b in zip(own, other, strict=True)]
    means = ([mean(values[i] for i in both) for values in of_network] for of_network in (own, other))
    return Compared(FARTHER, *means, "higher", images=image_bootstrap(differences, seed=0, resamples=2000))


def _distortions(row: Row, name: str) -> list[Any]:
    return list(row.metrics[name]["rms"])


def _steeper(rows: Sequence[Row]) -> Compared:
    own, other = ([mean(net["slope"][kind] for net in row.metrics.values()) for row in rows] for kind in SLOPE_KINDS)
    return Compared("slopes towards L-BFGS are larger than towards noise of its size", own, other, "higher")


SLOPE_KINDS: Final = ("lbfgs", "noise")


def _loose(rows: Sequence[Row]) -> Compared:
    own, other = (
        [mean(math.log10(get(net)) for net in row.metrics.values()) for row in rows]
        for get in (lambda net: net["slope"]["lbfgs"], lambda net: net["bound"])
    )
    return Compared(LOOSE, own, other, "lower")


CLAIMED: Final = (
    Claimed(PAPER, "table 2", "adversarial images made for one network fool others", NETWORKS, OTHERS_FOOLED),
    Claimed(PAPER, "table 4", "they fool networks trained on a disjoint half", HALVES, HALF_FOOLED),
    Claimed(PAPER, "table 4", "their effect is smaller across training sets", HALVES, HALF_LESS),
    Claimed(PAPER, "table 1", "weight decay makes the smallest perturbation larger", DECAY, FARTHER),
    Claimed(PAPER, "section 4.3", "large bounds do not imply adversarial images: slopes are far below", SLOPES, LOOSE),
)


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Return the claims of the paper with our verdicts."""
    return claims_of(questions(rows) if rows else [], CLAIMED)
