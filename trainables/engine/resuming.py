"""What runs of every task do alike: say whose checkpoint it is, and train to the last epoch."""

import os
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import ValidationError

from trainables.config.points import Description
from trainables.config.trial import PLACE, DataConfig
from trainables.engine.checkpoint import Checkpoint
from trainables.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainables.engine.epoch_report import EpochReport

__all__ = ["TrialRun", "check_same_trial", "description_of", "to_the_end"]

Path = str | os.PathLike[str]
D = TypeVar("D", bound=Description)


class _Describes(Protocol):
    """The description of a trial, as far as those who drive it look."""

    @property
    def data(self) -> DataConfig:
        """Which images."""


class TrialRun(Protocol):
    """A trial in progress, whatever it trains."""

    @property
    def config(self) -> _Describes:
        """What it was started with."""

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""

    @property
    def finished(self) -> bool:
        """Whether every epoch is complete."""

    def run_epoch(self) -> "EpochReport":
        """Train one epoch and measure it."""

    def save(self, directory: Path, /) -> None:
        """Write a checkpoint of the complete epochs into `directory`."""


def to_the_end(
    run: TrialRun, *, report: "Callable[[EpochReport], None] | None", checkpoint: Path | None
) -> "tuple[EpochReport, ...]":
    """Train what is left; after each epoch save to `checkpoint`, then call `report`."""
    reports = []
    while not run.finished:
        reports.append(run.run_epoch())
        if checkpoint is not None:
            run.save(checkpoint)
        if report is not None:
            report(reports[-1])
    return tuple(reports)


def description_of(kind: type[D], directory: Path, checkpoint: Checkpoint, *, called: str) -> D:
    """The description of the trial that a checkpoint belongs to; `called` names its kind in the error.

    Raises:
        CheckpointError: it describes none that this version knows.
    """
    try:
        return kind.model_validate_json(checkpoint.config)
    except ValidationError as error:
        raise CheckpointError(
            str(directory),
            f"describes no valid {called} ({error})",
            "read it with the version and the kind of trial that wrote it",
        ) from error


def check_same_trial(directory: Path, *, saved: Description, given: Description) -> None:
    """Return if both describe one trial; where it runs may differ.

    Raises:
        CheckpointError: they do not; names what differs.
    """
    before, now = saved.to_point(), given.to_point()
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name) and name not in PLACE]
    if changed:
        names = ", ".join(f"{name} ({before.get(name)} there, {now.get(name)} here)" for name in changed)
        raise CheckpointError(str(directory), f"belongs to another trial: {names}", "resume it with its own parameters")
