"""Rungs, the levels at which trials are compared, in integers; and brackets of them that spend equal budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def rungs(grace_period: int, reduction_factor: int, maximum: int) -> tuple[int, ...]:
    """Return the resource levels at which trials are compared: integers below ``maximum``, without logarithms.

    >>> rungs(3, 3, 27), rungs(1, 3, 243)
    ((3, 9), (1, 3, 9, 27, 81))
    """
    levels = []
    rung = grace_period
    while rung < maximum:
        levels.append(rung)
        rung *= reduction_factor
    return tuple(levels)


def spaced(first: int, spacing: float, maximum: int, *, highest: float = 1.0) -> tuple[int, ...]:
    """Return rungs ``spacing`` times apart, rounded, each once, below ``maximum`` and up to a share of it.

    >>> spaced(4, 1.5, 27, highest=0.9), spaced(3, 3, 27), spaced(1, 1.5, 9)
    ((4, 6, 9, 14, 20), (3, 9), (1, 2, 3, 5, 8))
    """
    levels: list[int] = []
    exact = float(first)
    while (rung := round(exact)) < maximum and rung <= highest * maximum:
        levels += [rung] if rung not in levels[-1:] else []
        exact *= spacing
    return tuple(levels)


def seeds_at(levels: Sequence[int], seeds: int) -> tuple[int, ...]:
    """Return the seeds that a configuration needs at each rung: 1 at the first, all at the last, evenly between.

    At the end it needs all, so a single rung needs one.

    >>> seeds_at((3, 9, 27), 3), seeds_at((1, 3, 9, 27), 3), seeds_at((9,), 3), seeds_at((3, 9), 1)
    ((1, 2, 3), (1, 1, 2, 3), (1,), (1, 1))
    """
    last = max(1, len(levels) - 1)
    return tuple(1 + rung * (seeds - 1) // last for rung in range(len(levels)))


def weights(levels: Sequence[int], seeds: int) -> tuple[int, ...]:
    """Return the epochs of all seeds of a configuration up to each rung: a later seed begins at its first epoch.

    >>> weights((3, 9, 27), 3), weights((3, 9, 27), 1)
    ((3, 18, 81), (3, 9, 27))
    """
    return tuple(level * count for level, count in zip(levels, seeds_at(levels, seeds), strict=True))


def brackets(grace_period: int, reduction_factor: int, maximum: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Return the rungs of each bracket (Li et al. 2018): bracket s leaves out the first s, the last may have none.

    >>> brackets(1, 3, 27, 3)
    ((1, 3, 9), (3, 9), (9,))

    Raises:
        ValueError: more brackets than rungs and the empty bracket.
    """
    whole = rungs(grace_period, reduction_factor, maximum)
    if not 1 <= count <= len(whole) + 1:
        raise ValueError(f"must be 1 to {len(whole) + 1} (rungs {whole}, and one bracket without), got {count}")
    return tuple(whole[skipped:] for skipped in range(count))


def expected_cost(bracket: tuple[int, ...], reduction_factor: float, maximum: int) -> float:
    """Return the resource one trial of a bracket is expected to use, when exactly 1/eta advances from each rung.

    >>> expected_cost((3, 9), 3, 27)
    7.0
    """
    steps = zip((0, *bracket), (*bracket, maximum), strict=True)
    return float(sum((end - start) / float(reduction_factor) ** passed for passed, (start, end) in enumerate(steps)))


def brackets_of(count: int, costs: Sequence[float]) -> list[int]:
    """Return the bracket of each of the first ``count`` trials: after any number, each has spent about the same.

    Brackets are filled by deficit, never by chance: the same index always lands in the same bracket.

    >>> brackets_of(6, (1.0, 2.0))
    [0, 1, 0, 0, 1, 0]
    """
    counts = [0] * len(costs)
    return [fill_bracket(counts, costs) for _ in range(count)]


def fill_bracket(counts: list[int], costs: Sequence[float]) -> int:
    """Count one more trial in the bracket that has spent least, and return that bracket."""
    bracket = min(range(len(costs)), key=lambda index: ((counts[index] + 0.5) * costs[index], index))
    counts[bracket] += 1
    return bracket
