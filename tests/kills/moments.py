"""Moments in the life of a sweep, drawn by a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.state.events import EpochReported, RungDecided, SweepEnded, SweepStarted, TrialPromoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launched import Launched

PLACES = {
    "Ray starts": (None, 1),
    "the sweep starts": (SweepStarted, 1),
    "an epoch": (EpochReported, 35),
    "a rung": (RungDecided, 12),
    "a promotion": (TrialPromoted, 4),
    "the end": (SweepEnded, 1),
}
"""The event of each place, and how many of it every run of the spec has, at least."""


@dataclass(frozen=True)
class Moment:
    """The ``nth`` event of a place, and a part of a second after it; ``pause_s`` is the time between two signals."""

    kind: str
    seed: int
    place: str
    nth: int
    delay_s: float
    pause_s: float

    @classmethod
    def drawn(
        cls, kind: str, seed: int, *, kinds: Sequence[str], places: Sequence[str] = tuple(PLACES), first: int = 2
    ) -> Moment:
        """Draw a moment; seeds that follow each other take the places in turn, from ``first`` of the first kind."""
        rng = random.Random(f"{kind} {seed}")
        place = places[(seed + first + kinds.index(kind)) % len(places)]
        longest_s = 4.0 if place in {"Ray starts", "the sweep starts"} else 0.5
        nth = rng.randint(1, PLACES[place][1])
        return cls(kind, seed, place, nth, rng.uniform(0, longest_s), rng.uniform(0.2, 2.0))

    def has_come(self, sweep: Launched) -> bool:
        """Return True if the event of the place has happened in a sweep."""
        kind, _ = PLACES[self.place]
        if kind is None:
            return bool(sweep.processes("raylet"))
        return sum(isinstance(event, kind) for event in sweep.events) >= self.nth
