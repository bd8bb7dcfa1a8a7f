"""Rank correlation of entanglement with the quality of samples over the epochs of a network, with and without trend."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import mean

from section import Row

Of = Callable[[Row, str, Sequence[str]], float]
"""Correlation of entanglement in a space with the mean of some measures of quality, of one network."""


def of_changes(row: Row, space: str, quality: Sequence[str]) -> float:
    """Correlate the changes of entanglement from epoch to epoch with those of quality, which have no trend."""
    return rank_correlation(changes(_course(row, [space])), changes(_course(row, quality)))


def of_values(row: Row, space: str, quality: Sequence[str]) -> float:
    """Correlate entanglement after each epoch with quality: two that grow with training are alike by that alone."""
    return rank_correlation(_course(row, [space]), _course(row, quality))


def changes(values: Sequence[float]) -> list[float]:
    """Return the difference of each value to the one before.

    >>> changes([1.0, 3.0, 2.0])
    [2.0, -1.0]
    """
    return [after - before for before, after in pairwise(values)]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's correlation; 0 where either does not vary.

    >>> round(rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]), 3)
    0.8
    """
    from scipy import stats  # noqa: PLC0415

    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


def _course(row: Row, names: Sequence[str]) -> list[float]:
    """Return the mean of some measures after each epoch of training."""
    return [mean(own) for own in zip(*(row.metrics["course"][name][1:] for name in names), strict=True)]
