"""Racing of seeds: a configuration whose mean will not reach a rival's gets no further seed.

Seeds are paired: the trials of two configurations with the same number of a seed start from the same weights and see
the same order of the data. So the difference of two configurations, seed by seed, varies less than either. Of ``n``
seeds that a level needs, ``m`` have come, with the mean difference d to the rival. The mean over all n reaches the
rival's if the other n - m make up for it. Their mean is predicted from the m by Student's distribution, whose scale is
the spread s of paired differences between complete configurations at that level:

    P(T >= -d sqrt(n m / (n - m)) / s)

Below ``CHANCE`` the seeds that have not come are dropped. With fewer than ``LEAST_FREEDOM`` degrees of freedom (three
complete configurations of three seeds, or four of two) the spread is not known well enough for a race.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.scheduling.protocol import RacingScheduler
from orchestrator.scheduling.trial_views import RungIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.scheduling.configurations import Configuration
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.scheduling.trial_views import TrialViews

CHANCE = 0.05
"""A configuration is out of the race where the chance to reach its rival is below this."""


LEAST_FREEDOM = 3
ROUNDING = 1e-12
"""Relative size of residuals that are no more than rounding."""


class Spread(NamedTuple):
    """Standard deviation of a paired difference between two configurations, and its degrees of freedom."""

    deviation: float
    freedom: int


def paired_spread(table: Sequence[Sequence[float]]) -> Spread | None:
    """Return the spread of paired differences in a table: a row for each configuration, a column for each seed.

    It is that of the residuals without the means of rows and columns, times the root of 2. None for fewer than two rows
    or columns, or where all residuals are 0, which shows no scale.

    >>> spread = paired_spread([[0.90, 0.91], [0.80, 0.83]])
    >>> round(spread.deviation, 4), spread.freedom
    (0.0141, 1)
    """
    rows, columns = len(table), len(table[0]) if table else 0
    freedom = max(0, rows - 1) * max(0, columns - 1)
    if not freedom:
        return None
    of_row = [math.fsum(row) / columns for row in table]
    of_column = [math.fsum(column) / rows for column in zip(*table, strict=True)]
    middle = math.fsum(of_row) / rows
    residuals = (
        value - of_row[at] - mean + middle
        for at, row in enumerate(table)
        for value, mean in zip(row, of_column, strict=True)
    )
    deviation = math.sqrt(2 * math.fsum(residual**2 for residual in residuals) / freedom)
    return Spread(deviation, freedom) if deviation > ROUNDING * max(1.0, abs(middle)) else None


def chance_to_reach(own: Mapping[int, float], rival: Mapping[int, float], spread: Spread) -> float:
    """Return the chance that a configuration's mean reaches its rival's, once all seeds of the rival have come.

    Args:
        own: Values of the configuration by the number of the seed, at least one, higher is better.
        rival: Those of the rival, which has every seed.
        spread: Spread of paired differences.

    >>> rival = {0: 0.90, 1: 0.91, 2: 0.92}
    >>> round(chance_to_reach({0: 0.90}, rival, Spread(0.01, 8)), 3)
    0.5
    >>> round(chance_to_reach({0: 0.87}, rival, Spread(0.01, 8)), 3)
    0.003
    """
    from scipy.special import stdtr  # type: ignore[import-untyped]  # noqa: PLC0415  for sweeps with seeds alone

    seeds, come = len(rival), len(own)
    difference = math.fsum(value - rival[number] for number, value in own.items()) / come
    scale = math.sqrt(seeds * come / (seeds - come))
    return float(stdtr(spread.freedom, difference * scale / spread.deviation))


def out_of_race(
    configurations: Mapping[str, Configuration], views: TrialViews, scheduler: Scheduler, name: str
) -> str | None:
    """Return the reason in words for which a configuration gets no further seed on its way, or None if it may.

    Its rival is the configuration in the last place that the scheduler keeps at the rung it is on its way to; at the
    end, the best complete one. The baseline is never out.
    """
    configuration = configurations[name]
    level = configuration.target
    if level is None or views[name].exempt or not isinstance(scheduler, RacingScheduler):
        return None
    own = {number: value[0] for number, value in configuration.values(level).items()}
    if not own or not configuration.missing(level):
        return None
    rival = _best(views, level) if level == configuration.maximum else scheduler.rival(views, views[name], level)
    spread = paired_spread(_table(configurations, views, level, columns=configuration.levels[level]))
    if rival is None or spread is None or spread.freedom < LEAST_FREEDOM:
        return None
    values = {number: value[0] for number, value in configurations[rival].values(level).items()}
    chance = chance_to_reach(own, values, spread)
    if chance >= CHANCE:
        return None
    left = configuration.levels[level] - len(own)
    return (
        f"with {left} more of {configuration.levels[level]} seeds its mean reaches that of {rival} "
        f"({'the best' if level == configuration.maximum else 'the last place'} at epoch {level}) with a chance of "
        f"{chance:.2%}, below {CHANCE:.0%}; paired differences have a standard deviation of {spread.deviation:.3g}"
    )


def _best(views: TrialViews, level: int) -> str | None:
    values = views.index(RungIndex, (level,)).values_at(level)
    return max(values, key=lambda name: (values[name], name), default=None)


def _table(
    configurations: Mapping[str, Configuration], views: TrialViews, level: int, *, columns: int
) -> list[list[float]]:
    """Return what the seeds of every complete configuration measured at a level, in the order of their ids."""
    complete = sorted(views.index(RungIndex, (level,)).values_at(level))
    rows = ([value[0] for value in configurations[name].values(level).values()] for name in complete)
    return [row for row in rows if len(row) == columns]
