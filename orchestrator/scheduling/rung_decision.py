"""Decision of a scheduler about one trial at one rung."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.state.ranking import Measured


@dataclass(frozen=True, slots=True)
class RungDecision:
    """One decision about one trial at one rung.

    ``cutoff`` is the value that the trial had to reach among ``competitors`` trials (itself included), None without
    such a value; ``rungs`` are those in force, for a scheduler that moves them.
    """

    rung: int
    kept: bool
    cutoff: Measured | None = None
    competitors: int = 1
    rungs: tuple[int, ...] = ()
