"""Statistics of counts: the interval of a share, and tests that a count is chance.

This module imports no array library. Shapes: N images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RARE", "Z_95", "DiscordantPairs", "Proportion", "binomial_tail", "mcnemar_test", "plausible", "wilson"]

Z_95: Final = 1.959963984540054

RARE: Final = 0.002
"""Share of images that may be exceptions, as in AutoAttack's bound for images that Square alone fools."""

_SIGNIFICANCE: Final = 0.01


def wilson(hits: float, trials: int, *, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a rate (Wilson, 1927), by default at 95 %; all of [0, 1] of no trials.

    >>> [round(end, 4) for end in wilson(1, 10)]
    [0.0179, 0.4042]
    >>> wilson(0, 10)[0], wilson(10, 10)[1], wilson(0, 0)
    (0.0, 1.0, (0.0, 1.0))
    """
    if not trials:
        return 0.0, 1.0
    rate, spread = hits / trials, z * z / trials
    centre = rate + spread / 2
    half = math.sqrt(spread * (rate * (1 - rate) + spread / 4))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return 0.0 if hits == 0 else min(low, rate), 1.0 if hits == trials else max(high, rate)


@dataclass(frozen=True, slots=True)
class Proportion:
    """Share of images, with its 95 % score interval.

    Raises:
        ValueError: not 0 <= hits <= trials, or no trial.

    >>> share = Proportion(1, 10)
    >>> f"{share.value:.3f} in [{share.low:.3f}, {share.high:.3f}]"
    '0.100 in [0.018, 0.404]'
    """

    hits: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.trials or not self.trials:
            raise ValueError(f"hits: 0 <= hits <= trials and 0 < trials must hold, got {self.hits} of {self.trials}")

    @property
    def value(self) -> float:
        """Value of the share."""
        return self.hits / self.trials

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return wilson(self.hits, self.trials)[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return wilson(self.hits, self.trials)[1]


class DiscordantPairs(NamedTuple):
    """Numbers of images that only one of two attacks fooled."""

    weaker: int
    stronger: int


def mcnemar_test(weaker_N: Tensor, stronger_N: Tensor) -> tuple[DiscordantPairs, bool]:
    """Count the images that each of two attacks fools alone, and test if the weaker one fools more beyond chance.

    The arguments flag the images that withstand each attack. McNemar's exact test: if both were equally strong, each
    image that one alone fools would be a fair coin.

    >>> import torch
    >>> holds = torch.ones(10, dtype=torch.bool)
    >>> mcnemar_test(~holds, holds), mcnemar_test(torch.arange(10) > 0, holds)
    ((DiscordantPairs(weaker=10, stronger=0), True), (DiscordantPairs(weaker=1, stronger=0), False))
    """
    pair = DiscordantPairs(int((stronger_N & ~weaker_N).sum()), int((weaker_N & ~stronger_N).sum()))
    return pair, binomial_tail(pair.weaker, sum(pair), rate=0.5) < _SIGNIFICANCE


def plausible(hits: int, trials: int, *, rate: float) -> bool:
    """Return True if this many hits can be chance at this rate.

    >>> plausible(1, 100, rate=0.002), plausible(3, 100, rate=0.002)
    (True, False)
    """
    return binomial_tail(hits, trials, rate=rate) >= _SIGNIFICANCE


def binomial_tail(hits: int, trials: int, *, rate: float) -> float:
    """Return the probability of at least this many hits in independent trials, for a rate between 0 and 1.

    >>> binomial_tail(2, 2, rate=0.5), binomial_tail(0, 7, rate=0.1)
    (0.25, 1.0)
    """
    if hits <= 0:
        return 1.0
    if rate >= 1:
        return float(hits <= trials)
    whole = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            whole
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(rate)
            + (trials - k) * math.log1p(-rate)
        )
        for k in range(hits, trials + 1)
    )
