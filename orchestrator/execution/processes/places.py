"""Places of trials: the slots of this machine, each with a worker and lanes, and the attempts that are in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.execution.trials.starting_point import attempt_folder
from trainables.batched.refusals import program_key
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.execution.processes.pool import Worker
    from orchestrator.execution.processes.slots import Slot


class Attempt:
    """Attempt of a trial in a lane; ``program`` is None if it trains by itself."""

    def __init__(self, config: dict[str, Any], *, program: str | None, lanes: int) -> None:
        self.config, self.trial, self.program = config, str(config["ravel.trial"]), program
        self.batched = lanes if program is not None and lanes > 1 else None
        self.folder = attempt_folder(config)
        self.epoch = 0
        self.has_begun = self.is_over = self.is_killed = self.is_ordered_out = False
        self.is_ready = False
        """True while nothing is awaited but its next epoch."""
        self.saved: list[str] = []


@dataclass(eq=False)
class Place:
    """Slot of this machine, its worker if it has one, and its attempts by lane.

    Args of note: ``lanes`` is the number of trials that its worker may have. A worker that ``is_draining`` gets no
    further trial, and is ended when it has none. ``is_halved`` once its lanes are those of the next worker.
    """

    slot: Slot
    lanes: int = 1
    worker: Worker | None = None
    attempts: dict[int, Attempt] = field(default_factory=dict)
    is_draining: bool = False
    is_halved: bool = False

    @property
    def has_room(self) -> bool:
        """True if a trial may begin here."""
        return len(self.attempts) < self.lanes and not self.is_draining

    @property
    def is_ready(self) -> bool:
        """True if the next epoch of all its trials can be trained."""
        return bool(self.attempts) and all(attempt.is_ready for attempt in self.attempts.values())

    @property
    def in_order(self) -> list[tuple[int, Attempt]]:
        """Attempts with their lanes, in the order of these."""
        return sorted(self.attempts.items())

    def add(self, attempt: Attempt) -> int:
        """Put an attempt into the first free lane, and return its number."""
        lane = next(lane for lane in range(self.lanes) if lane not in self.attempts)
        self.attempts[lane] = attempt
        return lane

    def halve(self) -> None:
        """Have half as many lanes as trials from the next worker on, at least one; once for each worker."""
        if not self.is_halved:
            self.lanes = max(1, min(self.lanes, len(self.attempts)) // 2)
            self.is_halved = self.is_draining = True

    def vacate(self) -> None:
        """Have no worker: the next trial gets a new one."""
        self.worker, self.is_draining, self.is_halved = None, False, False


def place_for(program: str | None, places: Iterable[Place]) -> Place:
    """Return the place where a trial begins, of those that have room: that with the fewest trials.

    Of equal ones it is the one with the most trials of its program, then one whose worker is idle.
    """

    def rank(place: Place) -> tuple[int, int, bool, int]:
        alike = sum(program is not None and other.program == program for other in place.attempts.values())
        return len(place.attempts), -alike, place.worker is None, place.slot.number

    return min((place for place in places if place.has_room), key=rank)


def program_in(config: Mapping[str, Any]) -> str | None:
    """Return the program of a trial's configuration (`trainables.batched.refusals`); None if it trains by itself."""
    point = {name: value for name, value in config.items() if not name.startswith("ravel.")}
    try:
        trial = task_of(point).from_point(point) if task_of(point) is CLASSIFIER else None
    except ConfigError:  # its worker reports it
        return None
    return program_key(trial) if isinstance(trial, TrialConfig) else None
