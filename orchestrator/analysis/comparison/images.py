"""Number of images behind an accuracy, and the test that one count of right answers is worse than another.

The log has accuracies, not the answers to single images. The number of images follows from the values: it is the
smallest n of which all of them are multiples of 1/n. A divisor of the real number is the only other one possible, and
makes every interval wider.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from trainables.evaluation.core.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_IMAGES = 100_000
LEAST_VALUES = 5
"""Different values that are needed: of fewer, too many numbers of images fit by chance."""
MOST_VALUES = 256
SIGNIFICANCE = 0.05
"""Probability that the set of trials that no test separates from the best lacks the really best one."""

_ROUNDING = (1e-12, 1e-7)
"""Relative errors of a share in float64, and in float32."""


def num_images(values: Iterable[float]) -> int | None:
    """Return the smallest number of images of which all these shares are whole numbers, or None if that is unknown.

    >>> num_images([0.9, 0.925, 0.8, 0.85, 0.7])
    40
    >>> num_images([0.9, 0.8]), num_images([0.31, 0.272, 0.1415, 0.61803, 0.57721, 2.5])
    (None, None)
    """
    shares = set(values)
    if any(not 0 <= share <= 1 for share in shares):
        return None
    inner = sorted(shares - {0.0, 1.0})
    if len(inner) < LEAST_VALUES:
        return None
    some = inner[:: math.ceil(len(inner) / MOST_VALUES)]
    for rounding in _ROUNDING:
        for images in range(LEAST_VALUES, MOST_IMAGES + 1):
            if all(abs(share * images - round(share * images)) <= images * rounding for share in some):
                return images if all(_fits(share, images) for share in inner) else None
    return None


def _fits(share: float, images: int) -> bool:
    return abs(share * images - round(share * images)) <= images * _ROUNDING[-1]


def is_apart(best: int, hits: int, *, images: int, rivals: int) -> bool:
    """Return True if this many right answers are fewer than the best's beyond chance.

    Two conditions must hold, at a one-sided level of 5 % divided by the number of rivals (Bonferroni), since the best
    of many trials was chosen for its luck too. First, the interval of the difference of two independent shares lies
    above 0 (Newcombe 1998, from Wilson's intervals). Second, a paired test could see it: trials answer the same images,
    and if the best was right on all d images by which they differ, and no other, the exact test has p = 0.5**d.

    >>> is_apart(358, 350, images=360, rivals=1), is_apart(358, 350, images=360, rivals=47)
    (True, False)
    >>> is_apart(10_000, 9_996, images=10_000, rivals=1), is_apart(358, 358, images=360, rivals=1)
    (False, False)
    """
    level = SIGNIFICANCE / max(1, rivals)
    if 0.5 ** (best - hits) > level:
        return False
    z = NormalDist().inv_cdf(1 - level)
    higher, lower = best / images, hits / images
    down, up = higher - wilson(best, images, z=z)[0], wilson(hits, images, z=z)[1] - lower
    return higher - lower > math.hypot(down, up)
