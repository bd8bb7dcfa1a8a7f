"""What a rule sees of a sweep: who measured what at which level, what was decided, and who runs or waits.

A level is an amount of the resource (epochs, unless the spec says otherwise). A views knows neither Ray nor the event
log: ``views`` fills one from a state, ``simulator`` from recorded curves, and a rule cannot tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable

    from orchestrator.state.ranking import Measured

State: TypeAlias = Literal["running", "paused", "completed", "over"]


@dataclass(frozen=True, slots=True)
class RungDecision:
    """One decision about one trial at one rung.

    ``cutoff`` is what it had to reach among ``competitors`` trials (itself included), None where there is no such
    value; ``rungs`` are those in force, where a rule moves them.
    """

    rung: int
    kept: bool
    cutoff: Measured | None = None
    competitors: int = 1
    rungs: tuple[int, ...] = ()


@dataclass(slots=True)
class TrialView:
    """One trial. It competes with those of its bracket and stratum; an ``exempt`` one is never stopped.

    ``level`` is the last one measured, ``maximum`` that of a full run, ``promoted`` holds the rungs it waited at. A
    trial that was rejected and runs on for the audit has ``blind_from`` set: above that rung it competes with nobody.
    """

    trial: str
    maximum: int
    bracket: int = 0
    stratum: Hashable = ()
    exempt: bool = False
    level: int = 0
    values: dict[int, Measured] = field(default_factory=dict)
    decisions: dict[int, RungDecision] = field(default_factory=dict)
    promoted: frozenset[int] = frozenset()
    state: State = "running"
    blind_from: int | None = None

    @property
    def group(self) -> tuple[int, Hashable]:
        """Those it is compared with."""
        return self.bracket, self.stratum

    def competes_at(self, level: int) -> bool:
        """Whether others are compared with what it measured there."""
        return level in self.values and (self.blind_from is None or level <= self.blind_from)

    def went_on(self, rung: int) -> bool:
        """Whether it was kept at a rung, or promoted from it later."""
        return rung in self.promoted or (rung in self.decisions and self.decisions[rung].kept)

    def was_lost_at(self, rung: int) -> bool:
        """Whether it ended at a rung without ever being sent on: it takes no place there."""
        return self.level == rung and self.state in {"completed", "over"} and not self.went_on(rung)

    def is_running_between(self, below: int, level: int) -> bool:
        """Whether it is on its way from one level to another, and not for the audit alone."""
        return self.state == "running" and below <= self.level < level and self.blind_from is None


@dataclass(slots=True)
class TrialViews:
    """All trials, in the order they were started."""

    views: dict[str, TrialView] = field(default_factory=dict)

    def at(self, level: int, group: Hashable) -> dict[str, Measured]:
        """What the trials of a group measured at a level."""
        return {
            each.trial: each.values[level]
            for each in self.views.values()
            if each.group == group and each.competes_at(level)
        }

    def paused(self) -> list[TrialView]:
        """Trials that wait at a rung."""
        return [each for each in self.views.values() if each.state == "paused"]

    def somebody_completed(self) -> bool:
        """Whether a trial that may be stopped was trained to its end, and not for the audit alone."""
        return any(
            each.state == "completed" and not each.exempt and each.blind_from is None for each in self.views.values()
        )

    def is_quiet(self) -> bool:
        """Whether nobody runs, but for the audit."""
        return not any(each.is_running_between(0, each.maximum) for each in self.views.values())


class Scheduler(Protocol):
    """Who goes on: functions of a views alone, so that a resumed or replayed sweep decides as the first one did."""

    @property
    def pauses(self) -> bool:
        """Whether a rejected trial waits at its rung, so that it can go on later; else it is over."""

    @property
    def rungs(self) -> tuple[int, ...] | None:
        """Every level at which it may decide; None for all of them."""

    def judge(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """What becomes of a trial that has just measured a level; None where there is nothing to decide."""

    def resume(self, views: TrialViews, *, unstarted: int) -> str | None:
        """The waiting trial that a free worker goes on with; ``unstarted`` counts the new ones that may yet come."""
