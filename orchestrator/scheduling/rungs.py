"""Where trials are compared: rungs in integers, and brackets of them that spend equal budgets."""

from __future__ import annotations

from functools import lru_cache


def rungs(grace_period: int, reduction_factor: int, maximum: int) -> tuple[int, ...]:
    """The resource levels at which trials are compared: integers below ``maximum``, exact where logarithms round.

    >>> rungs(3, 3, 27), rungs(1, 3, 243)
    ((3, 9), (1, 3, 9, 27, 81))
    """
    found = []
    rung = grace_period
    while rung < maximum:
        found.append(rung)
        rung *= reduction_factor
    return tuple(found)


def brackets(grace_period: int, reduction_factor: int, maximum: int, count: int) -> tuple[tuple[int, ...], ...]:
    """The rungs of each bracket (Li et al. 2018): bracket s leaves out the first s rungs, the last may have none.

    >>> brackets(1, 3, 27, 3)
    ((1, 3, 9), (3, 9), (9,))

    Raises:
        ValueError: more brackets than rungs and the empty bracket.
    """
    whole = rungs(grace_period, reduction_factor, maximum)
    if not 1 <= count <= len(whole) + 1:
        raise ValueError(f"must be 1 to {len(whole) + 1} (rungs {whole}, and one bracket without), got {count}")
    return tuple(whole[skipped:] for skipped in range(count))


def expected_cost(bracket: tuple[int, ...], reduction_factor: int, maximum: int) -> float:
    """The resource one trial of a bracket is expected to use, when exactly 1/eta goes on at each rung.

    >>> expected_cost((3, 9), 3, 27)
    7.0
    """
    steps = zip((0, *bracket), (*bracket, maximum), strict=True)
    return float(sum((end - start) / float(reduction_factor) ** passed for passed, (start, end) in enumerate(steps)))


@lru_cache(maxsize=4096)
def bracket_of(index: int, costs: tuple[float, ...]) -> int:
    """The bracket of the ``index``-th trial: after any number of trials, each bracket has spent about the same.

    Brackets are filled by deficit, never by chance: the same index always lands in the same bracket.

    >>> [bracket_of(index, (1.0, 2.0)) for index in range(6)]
    [0, 1, 0, 0, 1, 0]
    """
    counts = [0] * len(costs)
    for earlier in range(index):
        counts[bracket_of(earlier, costs)] += 1
    return min(range(len(costs)), key=lambda each: ((counts[each] + 0.5) * costs[each], each))
