"""Trial views: the part of a sweep that schedulers see, and the indexes that answer their questions.

``TrialViews.put`` is the one way to change a view, and keeps every index in step. So a decision costs O(log n)
comparisons of a sweep of n trials, whether the views come from a live sweep, a replay or a simulation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar, TypeVarTuple, cast

from orchestrator.state.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Hashable

    from orchestrator.scheduling.rung_decision import RungDecision
    from orchestrator.state.ranking import Measured

State: TypeAlias = Literal["running", "paused", "completed", "over"]
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True, slots=True)
class TrialView:
    """One trial. It competes with those of its bracket and stratum; an ``exempt`` one is never stopped.

    ``level`` is the last one measured, ``maximum`` that of a full run, ``promoted`` holds the rungs it was promoted
    from. A trial that was rejected and runs on for the audit has ``blind_from`` set: above that rung it competes with
    no other.
    """

    trial: str
    maximum: int
    bracket: int = 0
    stratum: Hashable = ()
    exempt: bool = False
    level: int = 0
    values: Mapping[int, Measured] = field(default_factory=dict)
    decisions: Mapping[int, RungDecision] = field(default_factory=dict)
    promoted: frozenset[int] = frozenset()
    state: State = "running"
    blind_from: int | None = None
    cost: int = 1
    """Passes of an epoch, where the scheduler's places and budget are priced by them; else 1."""

    @property
    def group(self) -> tuple[int, Hashable]:
        """Bracket and stratum: the trials it is compared with have the same."""
        return self.bracket, self.stratum

    def competes_at(self, level: int) -> bool:
        """Return True if other trials are compared with what it measured at a level."""
        return level in self.values and (self.blind_from is None or level <= self.blind_from)

    def advanced_from(self, rung: int) -> bool:
        """Return True if it was kept at a rung, or promoted from it later."""
        return rung in self.promoted or (rung in self.decisions and self.decisions[rung].kept)

    def was_lost_at(self, rung: int) -> bool:
        """Return True if it ended at a rung from which it never advanced: it takes no place."""
        return self.level == rung and self.state in {"completed", "over"} and not self.advanced_from(rung)

    def is_running_below(self, level: int) -> bool:
        """Return True if it is on its way to a level, and not for the audit alone."""
        return self.state == "running" and self.level < level and self.blind_from is None


class Index(Protocol):
    """Summary of trial views that a scheduler asks for; a function of the views, kept in step with them."""

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:
        """Replace what a view contributed; ``number`` counts the trials in the order they were started."""


IndexT = TypeVar("IndexT", bound=Index)


class TrialViews(Mapping[str, TrialView]):
    """Views by trial id, in the order the trials were started.

    >>> views = TrialViews([TrialView("a", maximum=9)])
    >>> views.put(TrialView("a", maximum=9, level=1, values={1: (0.5,)}, state="paused"))
    >>> views["a"].level, views.is_quiet
    (1, True)
    """

    def __init__(self, views: Iterable[TrialView] = ()) -> None:
        self._views: dict[str, TrialView] = {}
        self._numbers: dict[str, int] = {}
        self._indexes: dict[tuple[object, ...], Index] = {}
        for view in views:
            self.put(view)

    def put(self, view: TrialView) -> None:
        """Add the view of a trial, or replace the one before it."""
        old = self._views.get(view.trial)
        if view == old:
            return
        number = self._numbers.setdefault(view.trial, len(self._numbers))
        self._views[view.trial] = view
        for index in self._indexes.values():
            index.replace(number, old, view)

    def index(self, kind: Callable[[*Arguments], IndexT], *arguments: *Arguments) -> IndexT:
        """Return the index of a kind; the first call builds it from all views, each ``put`` keeps it in step."""
        key = (kind, *arguments)
        if key not in self._indexes:
            made = kind(*arguments)
            for number, view in enumerate(self._views.values()):
                made.replace(number, None, view)
            self._indexes[key] = made
        return cast("IndexT", self._indexes[key])

    @property
    def is_quiet(self) -> bool:
        """Return True if no trial runs, but for the audit."""
        return self.index(Activity).num_running == 0

    @property
    def any_completed(self) -> bool:
        """Return True if a trial that may be stopped was trained to its end, and not for the audit alone."""
        return self.index(Activity).num_completed > 0

    def __getitem__(self, trial: str) -> TrialView:
        """Return the view of a trial."""
        return self._views[trial]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the trial ids."""
        return iter(self._views)

    def __len__(self) -> int:
        """Return the number of trials that were started."""
        return len(self._views)


class Activity:
    """Number of trials that run, and of those that were trained to their end."""

    def __init__(self) -> None:
        self.num_running = 0
        self.num_completed = 0

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:  # noqa: ARG002  the protocol's
        """Replace what a view contributed."""
        for view, sign in ((old, -1), (new, 1)):
            if view is not None:
                self.num_running += sign * view.is_running_below(view.maximum)
                self.num_completed += sign * (view.state == "completed" and not view.exempt and view.blind_from is None)


class Competitors:
    """Trials of one group at one rung: all that measured it and those paused at it, both best first.

    ``numbers`` are those of the paused trials, in the order they were started.
    """

    def __init__(self) -> None:
        self.ranked = Ranking()
        self.paused = Ranking()
        self.numbers: list[int] = []

    def pause(self, trial: str, number: int) -> None:
        """Add a trial of the ranking to the paused ones."""
        self.paused.add(trial, self.ranked.values[trial])
        insort(self.numbers, number)

    def unpause(self, trial: str, number: int) -> None:
        """Discard a trial from the paused ones."""
        self.paused.discard(trial)
        del self.numbers[bisect_left(self.numbers, number)]


class RungIndex:
    """Competitors of each group at each rung."""

    def __init__(self, rungs: tuple[int, ...]) -> None:
        self._groups: dict[int, dict[Hashable, Competitors]] = {rung: {} for rung in rungs}

    def at(self, rung: int, group: Hashable) -> Competitors:
        """Return the competitors of a group at a rung."""
        return self._groups[rung].setdefault(group, Competitors())

    def paused_at(self, rung: int) -> list[Competitors]:
        """Return the groups with paused trials at a rung, in the order in which the first of each was started."""
        return sorted(
            (group for group in self._groups[rung].values() if group.numbers), key=lambda group: group.numbers
        )

    def values_at(self, rung: int) -> dict[str, Measured]:
        """Return the values of all groups at a rung."""
        groups = self._groups[rung].values()
        return {trial: value for group in groups for trial, value in group.ranked.values.items()}

    def replace(self, number: int, old: TrialView | None, new: TrialView) -> None:
        """Replace what a view contributed."""
        if old is not None and self._is_paused(old):
            self.at(old.level, old.group).unpause(old.trial, number)
        for rung, groups in self._groups.items():
            before = old is not None and old.competes_at(rung) and (old.group, old.values[rung])
            after = new.competes_at(rung) and (new.group, new.values[rung])
            if before == after:
                continue
            if before:
                groups[before[0]].ranked.discard(new.trial)
            if after:
                self.at(rung, after[0]).ranked.add(new.trial, after[1])
        if self._is_paused(new):
            self.at(new.level, new.group).pause(new.trial, number)

    def _is_paused(self, view: TrialView) -> bool:
        return view.state == "paused" and view.level in self._groups and view.competes_at(view.level)
