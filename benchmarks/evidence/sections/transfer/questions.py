"""Predictions of Szegedy et al. (2014) on transfer, decay and slopes, as written before anything was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any, Final

import published_claims as published
from questions import Expected, Published, Question, Rows, by_seed, paired, rows_of
from section import Row

from orchestrator.analysis.claims.conclusions import Prediction
from orchestrator.analysis.claims.intervals import image_bootstrap
from trainables.evaluation.robustness.transfer_result import TransferCondition

NETWORKS: Final = "networks of the same images, other layers and decay"
HALVES: Final = "halves of MNIST"
SLOPE_KINDS: Final = ("lbfgs", "noise")
STABILITY: Final = {"kind": "stability"}


def error(row: Row, condition: TransferCondition, pairs: Sequence[tuple[str, str]]) -> float:
    """Return the mean error over pairs of source and target."""
    matrix = row.metrics["errors"][" ".join(condition)]
    rates = [matrix[source][target] for source, target in pairs]
    return mean(wrong / images for wrong, images in rates if images)


def pairs_of(row: Row, *, same: bool) -> list[tuple[str, str]]:
    """Return the pairs of different networks, or those of each with itself."""
    names = list(row.metrics["test_error"])
    return [(source, target) for source in names for target in names if (source == target) == same]


def against(
    kind: str, pairs: Callable[[Row], Sequence[tuple[str, str]]], *, size: str = "own", control: str = "gaussian"
) -> Callable[[Rows], Prediction]:
    """Compare the error by the attack with that by noise of the same size, on images that all classify correctly."""
    attack, noise = (TransferCondition(by, size, "right") for by in ("attack", control))
    return paired(
        lambda row: error(row, attack, pairs(row)),
        "higher",
        {"kind": kind},
        control_value=lambda row: error(row, noise, pairs(row)),
        num_images=_fewest,
    )


def between(*, size: str) -> Callable[[Rows], Prediction]:
    """Compare the transfer to the other half with that to another network of the same half, of the same layers."""
    condition = TransferCondition("attack", size, "right")
    return paired(
        lambda row: error(row, condition, [("FC100(P1)", "FC100'(P2)")]),
        "lower",
        {"kind": "halves"},
        control_value=lambda row: error(row, condition, [("FC100(P1)", "FC100'(P1)")]),
        num_images=_fewest,
    )


def _fewest(rows: Rows) -> int:
    """Return the least number of images of a pair."""
    condition = " ".join(TransferCondition("gaussian", "own", "right"))
    matrices = (row.metrics["errors"][condition] for row in rows)
    return min(images for matrix in matrices for own in matrix.values() for _, images in own.values() if images)


def _own(kind: str) -> Expected:
    words = "images fool the network they were made for more than noise of their size"
    return Expected(words, against(kind, partial(pairs_of, same=True)))


def _others(words: str, *, claim: Published | None = None, **condition: str) -> Expected:
    return Expected(words, against("networks", partial(pairs_of, same=False), **condition), claim, NETWORKS)


def _other_half(words: str, *, claim: Published | None = None, size: str = "own") -> Expected:
    pairs = [("FC100(P1)", "FC100'(P2)"), ("FC123(P1)", "FC100'(P2)")]
    return Expected(words, against("halves", lambda _: pairs, size=size), claim, HALVES)


def _less(words: str, *, claim: Published | None = None, size: str = "own") -> Expected:
    return Expected(words, between(size=size), claim, HALVES)


def _farther(rows: Rows) -> Prediction:
    stable = rows_of(rows, STABILITY)
    own, other = ([list(row.metrics[name]["rms"]) for row in stable] for name in ("FC10(1)", "FC10(1e-4)"))
    both = [index for index in range(len(own[0])) if all(values[index] is not None for values in (*own, *other))]
    differences = [[a[i] - b[i] for i in both] for a, b in zip(own, other, strict=True)]
    means = ([mean(values[i] for i in both) for values in of_network] for of_network in (own, other))
    return by_seed(*means, "higher", images=image_bootstrap(differences, seed=0, resamples=2000))


def _norm(name: str) -> Callable[[Row], float]:
    return lambda row: row.metrics[name]["bound"]


def _steepest(kind: str) -> Callable[[Row], float]:
    return lambda row: mean(net["slope"][kind] for net in row.metrics.values())


def _decades(get: Callable[[Mapping[str, Any]], float]) -> Callable[[Row], float]:
    return lambda row: mean(math.log10(get(net)) for net in row.metrics.values())


SMALLER_NORM: Final = paired(_norm("FC10(1)"), "lower", STABILITY, control_value=_norm("FC10(1e-4)"))
STEEPER: Final = paired(_steepest("lbfgs"), "higher", STABILITY, control_value=_steepest("noise"))
FAR: Final = 10
"""Factor by which a slope is far below the product. None can be above it, so "below" would agree with any network."""
LOOSE: Final = paired(
    _decades(lambda net: net["slope"]["lbfgs"]),
    "lower",
    STABILITY,
    control_value=_decades(lambda net: net["bound"] / FAR),
)
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
        (Expected("the norm of FC10(1) is smaller than that of FC10(1e-4)", SMALLER_NORM),),
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
        (Expected("slopes towards L-BFGS are larger than towards noise of its size", STEEPER),),
        (
            Expected(
                f"the largest slope is less than 1/{FAR} of the product",
                LOOSE,
                published.BOUNDS,
                "networks on MNIST",
                "decades",
            ),
        ),
    ),
)
"""Written before anything was measured."""
