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


def of_bounded(treatment: Networks, reference: Networks, metric: str, *, images: int, largest: float = 1.0) -> Interval:
    """Return the interval of a difference of means between 0 and `largest`, of which no values of images are stored.

    The variance of a mean is at most that of values at the two ends (Bhatia and Davis, 2000), and that of an AUROC at
    most that of the same share of the fewer images (Birnbaum and Klose, 1957). Both are taken as of other images, so
    the interval is too wide rather than too narrow.
    """
    own, other = treatment.mean(metric), reference.mean(metric)
    variance = sum(max(0.0, mean * (largest - mean)) for mean in (own, other)) / images
    half = quantile(images - 1) * math.sqrt(variance)
    return Interval(own - other - half, own - other + half)
