"""Thinning of figures: which of many trials are shown, by a rule that the caption can state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_LINES = 150
MOST_POINTS = 400
MOST_BARS = 600
MOST_ROWS = 2_000
RULE = "the best, the baseline, both ends of every axis, and of the rest evenly spaced ones by rank"


def thinned(names: Sequence[str], most: int, *, always: Iterable[str]) -> tuple[str, ...]:
    """Return at most this many names in their order: those of ``always``, and evenly spaced ones of the rest.

    If ``always`` has more names than that, it is all of them.

    >>> thinned(["a", "b", "c", "d", "e", "f", "g"], 4, always=["a", "c"])
    ('a', 'b', 'c', 'g')
    >>> thinned(["a", "b"], 4, always=["a"])
    ('a', 'b')
    """
    if len(names) <= most:
        return tuple(names)
    kept = set(always) & set(names)
    rest, room = [name for name in names if name not in kept], max(0, most - len(kept))
    last = len(rest) - 1
    kept |= {rest[round(index * last / max(1, room - 1))] for index in range(room)}
    return tuple(name for name in names if name in kept)


def ends(names: Sequence[str], *positions: Sequence[float]) -> set[str]:
    """Return the names at both ends of each axis; ``positions`` has one for each name.

    >>> sorted(ends(["a", "b", "c"], [0.1, 0.9, 0.5]))
    ['a', 'b']
    """
    if not names:
        return set()
    places = [pick(range(len(names)), key=axis.__getitem__) for axis in positions for pick in (min, max)]
    return {names[place] for place in places}


def share_shown(shown: int, total: int, *, rule: str = RULE, what: str = "trials") -> str:
    """Return how many of how many a figure shows, and by which rule; nothing is added if it shows all.

    >>> share_shown(3, 3), share_shown(2, 3, rule="the ends")
    ('All 3 trials are shown.', 'Shown are 2 of 3 trials: the ends.')
    """
    if shown == total:
        return f"All {total:,} {what} are shown." if total != 1 else f"The only one of the {what} is shown."
    return f"Shown are {shown:,} of {total:,} {what}: {rule}."


def parameters_shown(shown: int, total: int, *, which: str, see: str) -> str:
    """Return the sentence on parameters that a figure leaves out, and where all are; empty if it shows all.

    >>> parameters_shown(3, 3, which="first", see="see the table")
    ''
    >>> parameters_shown(12, 19, which="first", see="for all run: ravel plot digits slice")
    ' Shown are the first 12 of 19 parameters; for all run: ravel plot digits slice.'
    """
    return "" if shown == total else f" Shown are the {which} {shown} of {total} parameters; {see}."
