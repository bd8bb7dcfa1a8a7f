"""Intervals of differences over the choice of images: what the same images get from two treatments, over all seeds."""

import math
from collections.abc import Sequence

from orchestrator.analysis.claims.intervals import Interval, moments, quantile, student_interval

from .doses import Networks


def of_accuracy(treatment: Networks, reference: Networks) -> Interval:
    """Return the interval of a difference of accuracies, paired by image."""
    seeds = len(treatment.values["test/accuracy"])
    pairs = zip(treatment.by_image["right"], reference.by_image["right"], strict=True)
    return student_interval([(int(own) - int(other)) / seeds for own, other in pairs])


def of_mean(treatment: Networks, reference: Networks, name: str) -> Interval:
    """Return the interval of a difference of means over images, paired by image."""
    return student_interval(_differences(treatment.by_image[name], reference.by_image[name]))


def of_auroc(treatment: Networks, reference: Networks) -> Interval:
    """Return the interval of a difference of two AUROCs of the same test images and outliers (DeLong et al., 1988)."""
    sides = [_differences(treatment.by_image[name], reference.by_image[name]) for name in ("above", "below")]
    (center, _), *_ = found = [moments(side) for side in sides]
    error = math.hypot(*(spread / math.sqrt(len(side)) for (_, spread), side in zip(found, sides, strict=True)))
    half = quantile(min(map(len, sides)) - 1) * error
    return Interval(center - half, center + half)


def _differences(own: Sequence[float], other: Sequence[float]) -> list[float]:
    return [one - two for one, two in zip(own, other, strict=True)]
