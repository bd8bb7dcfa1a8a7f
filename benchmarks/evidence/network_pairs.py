"""Mean of what is measured of pairs of networks, a source and a target, although pairs share networks."""

import math
import statistics
from collections.abc import Mapping, Sequence

from orchestrator.analysis.claims.comparisons import UnpairedDifference
from orchestrator.analysis.claims.intervals import moments


def over_pairs(values: Mapping[tuple[str, str], float]) -> UnpairedDifference:
    """Return the mean over pairs of source and target, with its error over networks that other seeds give.

    If the sources are the targets, in pairs of different ones, the error is the jackknife's, which leaves out a network
    as both: one whose images fool others may be one that is easily fooled. If they are other networks, or only two, of
    which none can be left out, the variance of the sources' means and that of the targets' means are added, with the
    degrees of freedom of the fewer.

    >>> found = over_pairs({("a", "x"): 1.0, ("a", "y"): 3.0, ("b", "x"): 1.0, ("b", "y"): 3.0})
    >>> found.mean, found.degrees, found.error
    (2.0, 1, 1.0)
    """
    sources, targets = (_means(values, end) for end in (0, 1))
    count = min(len(sources), len(targets))
    if sources.keys() == targets.keys() and count > 2:
        both = [sources[name] + targets[name] for name in sources]
        error = _error(both) * (count - 1) / (count - 2)
    else:
        error = math.hypot(_error(list(sources.values())), _error(list(targets.values())))
    return UnpairedDifference(statistics.mean(values.values()), error, count - 1)


def _means(values: Mapping[tuple[str, str], float], end: int) -> dict[str, float]:
    """Return the mean of the pairs of each source (0) or target (1)."""
    names = dict.fromkeys(pair[end] for pair in values)
    return {name: statistics.mean(value for pair, value in values.items() if pair[end] == name) for name in names}


def _error(values: Sequence[float]) -> float:
    return moments(values)[1] / math.sqrt(len(values))
