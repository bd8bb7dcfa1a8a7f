"""Intervals at 95 %: of a mean over seeds, and of a share of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from trainables.evaluation.core.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
RESAMPLES = 9_999
ROUNDING = 1e-12
"""Relative difference of values that count as equal."""


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def student_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Return Student's interval of the mean of independent values, as of seeds.

    It is exact for normal values. Of values that are all equal it is their value: they say nothing about the spread.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> [round(end, 4) for end in student_interval([0.90, 0.92, 0.94])]
    [0.8703, 0.9697]
    """
    center, spread = moments(values)
    half = quantile(len(values) - 1, confidence=confidence) * spread / math.sqrt(len(values))
    return Interval(center - half, center + half)


def quantile(degrees: float, *, confidence: float = CONFIDENCE) -> float:
    """Return the half width of Student's interval in standard errors.

    >>> f"{quantile(2):.3f} {quantile(9):.3f}"
    '4.303 2.262'
    """
    from scipy import stats  # type: ignore[import-untyped]  # noqa: PLC0415

    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def bootstrap_interval(
    values: Sequence[float], *, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of the mean (Efron, 1987).

    It assumes no distribution, and is too narrow for few values: with five seeds it covers less than Student's. The
    values are sorted first, so their order does not count. Of values that are all equal it is their value.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> bootstrap_interval([0.5, 0.5, 0.5], seed=0)
    Interval(low=0.5, high=0.5)
    """
    import numpy as np  # noqa: PLC0415
    from scipy import stats  # noqa: PLC0415

    center, spread = moments(values)
    if not spread:
        return Interval(center, center)
    resampled = stats.bootstrap(
        (np.sort(np.asarray(values, dtype=float)),),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(resampled.low), float(resampled.high))


def image_interval(accuracy: float, num_images: int) -> Interval:
    """Return Wilson's interval of a share of images: what another draw of as many test images would do to it.

    It says nothing about seeds.

    Raises:
        ValueError: the accuracy is not in [0, 1], or there is no image.

    >>> [round(end, 4) for end in image_interval(0.9, 100)]
    [0.8256, 0.9448]
    """
    if not 0 <= accuracy <= 1 or num_images < 1:
        raise ValueError(f"accuracy: must be in [0, 1], of 1 image or more, got {accuracy} of {num_images}")
    return Interval(*wilson(accuracy * num_images, num_images))


def image_difference_interval(accuracy: float, control: float, num_images: int) -> Interval:
    """Return the interval of the difference of two shares of images, over the choice of images (Newcombe, 1998).

    It takes the two as of independent images. Answers to the same images are alike, and the interval is too wide rather
    than too narrow; it says nothing about seeds.

    Raises:
        ValueError: as `image_interval`.

    >>> [round(end, 3) for end in image_difference_interval(0.9, 0.8, 1000)]
    [0.069, 0.131]
    """
    own, other = image_interval(accuracy, num_images), image_interval(control, num_images)
    down = math.hypot(accuracy - own.low, other.high - control)
    up = math.hypot(own.high - accuracy, control - other.low)
    return Interval(accuracy - control - down, accuracy - control + up)


def image_bootstrap(
    values: Sequence[Sequence[float]], *, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Return the percentile bootstrap interval of a mean over images, as of a likelihood: other images would give it.

    All seeds answer the same images, so whole images are resampled, each with the mean of its values. It says nothing
    about seeds.

    Args:
        values: of each seed, the value of each image, in one order.
        seed: seed of the resampling.
        confidence: share of intervals that contain the mean.
        resamples: number of resamples.

    Raises:
        ValueError: no seed, other numbers of images, fewer than two images, or a value that is not finite.

    >>> [round(end, 2) for end in image_bootstrap([[0.0, 1.0] * 50, [1.0, 0.0] * 50], seed=0)]
    [0.5, 0.5]
    """
    import numpy as np  # noqa: PLC0415

    counts = {len(of_seed) for of_seed in values}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(f"values: must have the same two images or more for each seed, got {sorted(counts)} images")
    means_N = np.asarray(values, dtype=float).mean(0)
    if not np.isfinite(means_N).all():
        raise ValueError("values: must be finite")
    rng = np.random.default_rng(seed)
    # One at a time: all of them together would be 800 MB of 10,000 images.
    resampled = [means_N[rng.integers(len(means_N), size=len(means_N))].mean() for _ in range(resamples)]
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def moments(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (n - 1); 0 where the values differ by no more than their rounding.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> moments([0.1, 0.1 + 1e-17, 0.1])[1], moments([1.0, 2.0, 3.0])
    (0.0, (2.0, 1.0))
    """
    if len(values) < 2:
        raise ValueError(f"values: must be two or more, got {len(values)}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"values: must be finite, got {list(values)}")
    center = math.fsum(values) / len(values)
    if max(values) - min(values) <= ROUNDING * max(map(abs, values)):
        return center, 0.0
    return center, math.sqrt(math.fsum((value - center) ** 2 for value in values) / (len(values) - 1))
