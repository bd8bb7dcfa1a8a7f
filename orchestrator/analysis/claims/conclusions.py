"""Conclusions on predictions of a paper: they agree, they disagree, or it is inconclusive.

A *question* is a family of predictions, which share Holm's correction, and the manipulation checks of its treatment. A
treatment that did not change what it was to change tests nothing: if one check fails, no prediction is concluded on.
Each check has to pass by itself, at an uncorrected 5 %, as all of them together make one claim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.analysis.claims.comparisons import SIGNIFICANCE, holm
from orchestrator.analysis.claims.intervals import quantile
from orchestrator.analysis.claims.power import smallest_difference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.analysis.claims.comparisons import Difference
    from orchestrator.analysis.claims.intervals import Interval

Conclusion = Literal["agrees", "disagrees", "inconclusive"]

AGREES: Final = "agrees"
DISAGREES: Final = "disagrees"
UNKNOWN: Final = "inconclusive"


@dataclass(frozen=True, slots=True)
class Prediction:
    """Measured difference of a treatment to its control, and the direction that a paper predicts.

    ``margin`` is the largest difference that counts as none, for the direction ``equal`` alone. ``images`` is the
    interval of the difference over the choice of images, where it has one: ``difference`` speaks of other seeds on the
    same images, and a conclusion has to hold for other seeds on other images, at the level that Holm's correction holds
    it to.

    Raises:
        ValueError: a margin without that direction, that direction without one, or one that is not above 0.
    """

    difference: Difference
    direction: Literal["higher", "lower", "equal"]
    margin: float | None = None
    images: Interval | None = None

    def __post_init__(self) -> None:
        if (self.direction == "equal") != (self.margin is not None):
            raise ValueError(f"margin: must be given for 'equal' alone, got {self.margin} for {self.direction!r}")
        if self.margin is not None and not self.margin > 0:
            raise ValueError(f"margin: must be > 0, got {self.margin}")

    @property
    def is_as_predicted(self) -> bool:
        """True if the mean difference has the predicted direction, whatever its interval."""
        mean = self.difference.mean
        return abs(mean) < self.margin if self.margin is not None else (mean > 0) == (self.direction == "higher")

    def may_be_of_these_images(self, level: float = SIGNIFICANCE) -> bool:
        """Return True if other seeds on other images may have a difference on another side of 0, or of the margin.

        The squares of the half widths over seeds and over images are added, as seeds and images are independent, and
        both are of a test at this level. An interval over images that lies elsewhere than the mean counts up to the
        mean.
        """
        if self.images is None:
            return False
        mean, over_seeds = self.difference.mean, _at(self.difference, level)
        wider = NormalDist().inv_cdf(1 - level / 2) / NormalDist().inv_cdf(1 - SIGNIFICANCE / 2)
        low = mean - math.hypot(wider * (mean - min(mean, self.images.low)), over_seeds)
        high = mean + math.hypot(wider * (max(mean, self.images.high) - mean), over_seeds)
        edges = (0.0,) if self.margin is None else (-self.margin, self.margin)
        return any(low <= edge <= high for edge in edges)

    @property
    def p(self) -> float:
        """P-value of the claim that the mean makes: that it is not 0, or of ``equal``, on its side of the margin.

        Within the margin it is that of two one-sided tests (Schuirmann, 1987), beyond it that of one. Equal differences
        have no scale; it is that of their signs, as of a mean above 0.
        """
        if self.margin is None:
            return self.difference.p
        from scipy import stats  # type: ignore[import-untyped]  # noqa: PLC0415

        mean, error = abs(self.difference.mean), self.difference.error
        if not error:
            return float(0.5 ** (self.difference.degrees + 1))
        return float(stats.t.sf(abs(self.margin - mean) / error, self.difference.degrees))


@dataclass(frozen=True, slots=True)
class Finding:
    """Conclusion on a prediction; ``smallest`` is the difference that would have been found with power 0.8.

    It is found at the level of the first step of Holm's correction, whatever the other predictions of the question
    show. Of the direction ``equal`` it is a difference beyond the margin.
    """

    conclusion: Conclusion
    reason: str
    p_corrected: float
    smallest: float


def conclude(
    predictions: Mapping[str, Prediction], *, checks: Mapping[str, Prediction], alpha: float = SIGNIFICANCE
) -> dict[str, Finding]:
    """Conclude on all predictions of one question.

    Args:
        predictions: by name; their p-values are corrected for their number.
        checks: manipulation checks by name, to the baseline and to each control.
        alpha: level of all tests.

    Raises:
        ValueError: no manipulation check.

    >>> from orchestrator.analysis.claims.comparisons import paired_difference
    >>> accuracy = Prediction(paired_difference([0.9894, 0.9888, 0.9871], [0.9904, 0.9911, 0.9889]), "higher")
    >>> raised = Prediction(paired_difference([0.6, 0.5, 0.7], [0.3, 0.3, 0.4]), "higher")
    >>> not_raised = Prediction(paired_difference([0.6, 0.3, 0.7], [0.3, 0.4, 0.4]), "higher")
    >>> conclude({"accuracy": accuracy}, checks={"conv1": raised})["accuracy"].conclusion
    'disagrees'
    >>> conclude({"accuracy": accuracy}, checks={"conv1": not_raised})["accuracy"].reason
    'the manipulation check failed: conv1'
    """
    if not checks:
        raise ValueError("checks: must have a manipulation check, or a difference is of no known treatment, got none")
    failed = [name for name, check in checks.items() if not _is_shown(check, check.p, alpha)]
    corrected = holm({name: prediction.p for name, prediction in predictions.items()})
    return {
        name: Finding(
            *_concluded(prediction, corrected[name], alpha, failed),
            p_corrected=corrected[name],
            smallest=_smallest(prediction, alpha / len(predictions)),
        )
        for name, prediction in predictions.items()
    }


def _concluded(prediction: Prediction, p: float, alpha: float, failed: list[str]) -> tuple[Conclusion, str]:
    """Conclude on a prediction by its corrected p-value; intervals over images are of the level that it was held to."""
    if failed:
        return UNKNOWN, f"the manipulation check failed: {', '.join(failed)}"
    if p <= alpha and prediction.may_be_of_these_images(alpha * prediction.p / p if p else alpha):
        return UNKNOWN, "other images may not show it"
    if _is_shown(prediction, p, alpha):
        return AGREES, f"{prediction.direction}, as predicted"
    if p <= alpha:
        return DISAGREES, f"the prediction was {prediction.direction}"
    return UNKNOWN, "no difference was shown" if prediction.margin is None else "neither none nor one was shown"


def _at(difference: Difference, level: float) -> float:
    """Return the half width of the interval over seeds at a level."""
    return quantile(difference.degrees, confidence=1 - level) * difference.error


def _smallest(prediction: Prediction, level: float) -> float:
    """Return the smallest difference that is found; beyond a margin the test is one-sided."""
    if prediction.margin is None:
        return smallest_difference(prediction.difference, alpha=level)
    return prediction.margin + smallest_difference(prediction.difference, alpha=2 * level)


def _is_shown(prediction: Prediction, p: float, alpha: float) -> bool:
    return p <= alpha and prediction.is_as_predicted
