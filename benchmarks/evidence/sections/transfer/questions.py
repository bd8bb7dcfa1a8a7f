"""Predictions of Szegedy et al. (2014) on transfer, decay and slopes, as written before anything was measured."""

import math
from collections.abc import Sequence
from statistics import mean
from typing import Final

import published_claims as published
from questions import Expected, Published, Question, Rows, by_seed, by_shares
from section import Row

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import image_bootstrap
from trainables.evaluation.robustness.transfer_result import TransferCondition

NETWORKS: Final = "networks of the same images, other layers and decay"
HALVES: Final = "halves of MNIST"
SLOPE_KINDS: Final = ("lbfgs", "noise")


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
    rows: Sequence[Row], pairs: Sequence[tuple[str, str]], *, size: str = "own", control: str = "gaussian"
) -> Prediction:
    """Compare the error by the attack with that by noise of the same size, on images that all classify correctly."""
    attack, noise = (TransferCondition(kind, size, "right") for kind in ("attack", control))
    own, other = ([error(row, condition, pairs) for row in rows] for condition in (attack, noise))
    return by_shares(own, other, "higher", num_images=_fewest(rows))


def between(rows: Sequence[Row], *, size: str) -> Prediction:
    """Compare the transfer to the other half with that to another network of the same half, of the same layers."""
    condition = TransferCondition("attack", size, "right")
    own = [error(row, condition, [("FC100(P1)", "FC100'(P2)")]) for row in rows]
    other = [error(row, condition, [("FC100(P1)", "FC100'(P1)")]) for row in rows]
    return by_shares(own, other, "lower", num_images=_fewest(rows))


def _fewest(rows: Sequence[Row]) -> int:
    """Return the least number of images of a pair."""
    condition = " ".join(TransferCondition("gaussian", "own", "right"))
    return min(
        images
        for row in rows
        for of_source in row.metrics["errors"][condition].values()
        for _, images in of_source.values()
        if images
    )


def _own(kind: str) -> Expected:
    def of(rows: Rows) -> Prediction:
        own = by_kind(rows, kind)
        return against(own, pairs_of(own, same=True))

    return Expected("images fool the network they were made for more than noise of their size", of)


def _others(words: str, *, claim: Published | None = None, **condition: str) -> Expected:
    def of(rows: Rows) -> Prediction:
        own = by_kind(rows, "networks")
        return against(own, pairs_of(own, same=False), **condition)

    return Expected(words, of, claim, NETWORKS)


def _other_half(words: str, *, claim: Published | None = None, size: str = "own") -> Expected:
    pairs = [("FC100(P1)", "FC100'(P2)"), ("FC123(P1)", "FC100'(P2)")]
    return Expected(words, lambda rows: against(by_kind(rows, "halves"), pairs, size=size), claim, HALVES)


def _less(words: str, *, claim: Published | None = None, size: str = "own") -> Expected:
    return Expected(words, lambda rows: between(by_kind(rows, "halves"), size=size), claim, HALVES)


def _smaller_norm(rows: Rows) -> Prediction:
    stable = by_kind(rows, "stability")
    own, other = ([row.metrics[name]["bound"] for row in stable] for name in ("FC10(1)", "FC10(1e-4)"))
    return by_seed(own, other, "lower")


def _farther(rows: Rows) -> Prediction:
    own, other = (
        [list(row.metrics[name]["rms"]) for row in by_kind(rows, "stability")] for name in ("FC10(1)", "FC10(1e-4)")
    )
    both = [index for index in range(len(own[0])) if all(values[index] is not None for values in (*own, *other))]
    differences = [[a[i] - b[i] for i in both] for a, b in zip(own, other, strict=True)]
    means = ([mean(values[i] for i in both) for values in of_network] for of_network in (own, other))
    return by_seed(*means, "higher", images=image_bootstrap(differences, seed=0, resamples=2000))


def _steeper(rows: Rows) -> Prediction:
    stable = by_kind(rows, "stability")
    own, other = ([mean(net["slope"][kind] for net in row.metrics.values()) for row in stable] for kind in SLOPE_KINDS)
    return by_seed(own, other, "higher")


def _loose(rows: Rows) -> Prediction:
    slopes, bounds = (
        [mean(math.log10(get(net)) for net in row.metrics.values()) for row in by_kind(rows, "stability")]
        for get in (lambda net: net["slope"]["lbfgs"], lambda net: net["bound"])
    )
    return by_seed(slopes, bounds, "lower")


QUESTIONS: Final = (
    Question(
        "Between networks of other layers and decay (table 2)",
        (_own("networks"),),
        (
            _others("other networks err more than on Gaussian noise of the same size", claim=published.FOOLED),
            _others("and than on random signs of the same size", control="sign"),
            _others("amplified to 0.1, other networks err more than on noise of that size", size="common"),
        ),
    ),
    Question(
        "Between disjoint halves of the training set (table 4)",
        (_own("halves"),),
        (
            _other_half(
                "a network of the other half errs more than on Gaussian noise of the same size",
                claim=published.FOOLED_HALF,
            ),
            _other_half("amplified to 0.1, it errs more than on noise of that size", size="common"),
            _less("it errs less than another network of the same half", claim=published.LESS_ACROSS),
            _less("amplified to 0.1, it errs less than another network of the same half", size="common"),
        ),
    ),
    Question(
        "Weight decay and the smallest perturbation (table 1)",
        (Expected("the norm of FC10(1) is smaller than that of FC10(1e-4)", _smaller_norm),),
        (
            Expected(
                "FC10(1) needs larger perturbations than FC10(1e-4), root mean square",
                _farther,
                published.DECAY,
                "linear networks on MNIST",
            ),
        ),
    ),
    Question(
        "The product of the norms, and the slope that images meet (section 4.3)",
        (Expected("slopes towards L-BFGS are larger than towards noise of its size", _steeper),),
        (
            Expected(
                "the largest slope is below the product",
                _loose,
                published.BOUNDS,
                "networks on MNIST",
                "decades",
            ),
        ),
    ),
)
"""Written before anything was measured."""
