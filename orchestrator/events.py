"""The append-only event log: the source of truth of a sweep; everything else can be rebuilt from it.

One JSON object a line, in the order things happened. A line is flushed to disk before anything acts on it. A driver
killed in the middle of a line leaves a torn tail, which was never acted on: the next driver cuts it off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from orchestrator.earlier import config_of_format_1, point_of_format_1
from orchestrator.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TrialStatus: TypeAlias = Literal["completed", "stopped", "paused", "diverged", "failed", "interrupted"]
Cause: TypeAlias = Literal["infrastructure", "preemption", "user"]
Origin: TypeAlias = Literal["baseline", "point", "search"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[2] = 2
    time: float
    """Seconds since the epoch, UTC: what MLflow shows, so that sending a point again changes nothing."""

    @model_validator(mode="before")
    @classmethod
    def _in_todays_words(cls, document: Any) -> Any:
        is_old = isinstance(document, dict) and document.get("v") == 1
        return cls._of_format_1({**document, "v": 2}) if is_old else document

    @classmethod
    def _of_format_1(cls, document: dict[str, Any]) -> dict[str, Any]:
        return document


class SweepStarted(_Event):
    """A driver took the sweep; ``generation`` counts them from 1."""

    kind: Literal["sweep_started"] = "sweep_started"
    generation: int
    host: str
    pid: int


class TrialCreated(_Event):
    """A point was proposed; ``config`` is the whole flat trial, ``point`` the searched part of it."""

    kind: Literal["trial_created"] = "trial_created"
    trial: str
    origin: Origin
    point: dict[str, Any]
    config: dict[str, Any]

    @classmethod
    def _of_format_1(cls, document: dict[str, Any]) -> dict[str, Any]:
        point, config = document.get("point"), document.get("config")
        if not (isinstance(point, dict) and isinstance(config, dict)):
            return document  # what is wrong with it is told as of any other
        return {**document, "point": point_of_format_1(point), "config": config_of_format_1(config)}


class AttemptStarted(_Event):
    """An actor was given the trial; attempts count from 1, a retried or resumed trial has several."""

    kind: Literal["attempt_started"] = "attempt_started"
    trial: str
    attempt: int


class AttemptFailed(_Event):
    """An attempt broke off and the trial will be tried again, from its last checkpoint."""

    kind: Literal["attempt_failed"] = "attempt_failed"
    trial: str
    attempt: int
    cause: Cause
    reason: str
    traceback: str | None = None


class EpochReported(_Event):
    """One epoch was trained and measured; a non-finite metric is null.

    ``since_restore`` counts the epochs this attempt has trained, itself included: what a retry cost.
    """

    kind: Literal["epoch_reported"] = "epoch_reported"
    trial: str
    attempt: int
    epoch: int
    since_restore: int
    metrics: dict[str, float | None]
    host: str | None = None
    pid: int | None = None


class RungDecided(_Event):
    """The scheduler looked at a trial at a rung: it goes on (``kept``), or it stops or waits.

    ``cutoff`` is the value it had to reach among ``competitors`` trials (itself included); both values are those of the
    first objective. ``rungs`` are those in force, where the scheduler moves them. A trial that was rejected and is
    ``audited`` runs on all the same, to show whether that was right.
    """

    kind: Literal["rung_decided"] = "rung_decided"
    trial: str
    rung: int
    value: float | None
    cutoff: float | None
    competitors: int
    kept: bool
    rungs: tuple[int, ...] = ()
    audited: bool = False


class TrialPromoted(_Event):
    """A trial that waited at a rung goes on; ``audited`` if only to show whether it was right to leave it there."""

    kind: Literal["trial_promoted"] = "trial_promoted"
    trial: str
    rung: int
    audited: bool = False


class CheckpointSaved(_Event):
    """A checkpoint folder is complete; ``path`` is relative to the sweep's folder where it lies inside."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    trial: str
    epoch: int
    path: str


class TrialEnded(_Event):
    """A trial left its worker: it is over, or ``paused`` at a rung, or ``interrupted`` until the sweep is resumed."""

    kind: Literal["trial_ended"] = "trial_ended"
    trial: str
    status: TrialStatus
    rung: int | None = None
    reason: str | None = None
    traceback: str | None = None


class SweepEnded(_Event):
    """The driver left the sweep."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    status: Literal["completed", "interrupted", "failed"]
    reason: str | None = None


Event: TypeAlias = (
    SweepStarted
    | TrialCreated
    | AttemptStarted
    | AttemptFailed
    | EpochReported
    | RungDecided
    | TrialPromoted
    | CheckpointSaved
    | TrialEnded
    | SweepEnded
)
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def encode(event: Event) -> bytes:
    """One line of the log.

    Example:
        >>> decode(encode(SweepEnded(time=1.0, status="completed"))).status
        'completed'
    """
    return event.model_dump_json().encode() + b"\n"


def decode(line: bytes) -> Event:
    """The event of one line.

    Raises:
        ValidationError: the line is no event this version knows.
    """
    return _ADAPTER.validate_json(line)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Every whole event from a byte offset on, each with the offset just behind it; a torn tail is not yielded.

    Raises:
        LogDamaged: a whole line is no event; names the file and the byte.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                event = decode(line)
            except ValidationError as error:
                law = error.errors()[0]["msg"]
                raise LogDamaged(
                    f"{path}: the line at byte {offset} is no event ({law}); restore the file from a copy, "
                    "or move it away and launch the sweep again"
                ) from None
            offset += len(line)
            yield event, offset


class EventLog:
    """Appends to a log durably: ``append`` returns when the line is on disk.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "events.jsonl"
        >>> with EventLog(path) as log:
        ...     log.append(SweepEnded(time=1.0, status="completed"))
        >>> [event.kind for event, _ in read_events(path)]
        ['sweep_ended']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._cut_torn_tail()

    def append(self, event: Event) -> None:
        """Write one event and flush it to disk.

        Raises:
            OSError: the disk refused; no part of the event stays in the log.
        """
        start = os.fstat(self._file.fileno()).st_size  # never tell(): it stays behind a write that was cut off
        line = encode(event)
        try:
            self._write(line)
        except OSError:
            self._file.truncate(start)
            raise

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        if self._file.write(line) != len(line):
            raise OSError(f"{self.path}: the disk took only a part of an event (is it full?)")
        os.fsync(self._file.fileno())

    def _cut_torn_tail(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
