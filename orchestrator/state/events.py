"""What can happen in a sweep, and each event as one line of its log: JSON that ends in its own checksum."""

from __future__ import annotations

import json
import zlib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from orchestrator.state.migrations import event_of_format_1

TrialStatus: TypeAlias = Literal["completed", "stopped", "paused", "diverged", "failed", "interrupted"]
Cause: TypeAlias = Literal["infrastructure", "preemption", "user"]
Origin: TypeAlias = Literal["baseline", "point", "search"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[3] = 3
    time: float
    """Seconds since the epoch, UTC: what MLflow shows, so that sending a point again changes nothing."""


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

    ``since_restore`` counts the epochs this attempt has trained, itself included: what a retry cost. ``data`` is the
    digest of the data set, told with the first epoch of an attempt.
    """

    kind: Literal["epoch_reported"] = "epoch_reported"
    trial: str
    attempt: int
    epoch: int
    since_restore: int
    metrics: dict[str, float | None]
    host: str | None = None
    pid: int | None = None
    data: str | None = None


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
_EPOCH: TypeAdapter[EpochReported] = TypeAdapter(EpochReported)


SEAL = b',"crc":"%08x"}\n'
SEAL_BYTES = len(SEAL % 0)


def encode(event: Event) -> bytes:
    """One line of the log; its last field, ``crc``, is the CRC-32 of the JSON object without that field.

    Example:
        >>> line = encode(SweepEnded(time=1.0, status="completed"))
        >>> json.loads(line)["crc"]
        '0ef78ac8'
        >>> decode(line).status
        'completed'
    """
    return _sealed(event.model_dump_json().encode())


def reported(measured: str, **head: Any) -> tuple[EpochReported, bytes]:
    """An epoch and its line of the log; the fields in ``measured`` are a JSON object as their worker wrote it.

    That text becomes part of the line: the loop that decides reads it once and never writes it again.

    Raises:
        ValueError: together they are no such event.

    Example:
        >>> head = {"time": 1.0, "trial": "t000", "attempt": 1, "since_restore": 3}
        >>> event, line = reported('{"epoch": 3, "metrics": {"val/accuracy": 0.5}}', **head)
        >>> event.metrics, decode(line) == event
        ({'val/accuracy': 0.5}, True)
    """
    body = to_json({"v": 3, "kind": "epoch_reported", **head})[:-1] + b"," + measured.encode()[1:]
    return _EPOCH.validator.validate_json(body), _sealed(body)


def _sealed(body: bytes) -> bytes:
    return body[:-1] + SEAL % zlib.crc32(body)


def decode(line: bytes) -> Event:
    """The event of one line; formats 1 and 2, which had no checksum, are read for ever.

    Raises:
        ValueError: the line does not fit its checksum, has none where its format wants one, or is no event this
            version knows.
    """
    body = line[:-SEAL_BYTES] + b"}"
    if line == _sealed(body):
        return _ADAPTER.validate_json(body)
    return _ADAPTER.validate_python(_in_todays_words(json.loads(line)))


def _in_todays_words(document: Any) -> Any:
    """An event of format 1 or 2 as one of today's.

    Raises:
        ValueError: it is of a format whose lines end in their checksum.
    """
    match document:
        case {"v": 1}:
            return {**event_of_format_1(document), "v": 3}
        case {"v": 2}:
            return {**document, "v": 3}
        case {"crc": _}:
            raise ValueError("its checksum does not fit")
        case _:
            raise ValueError("it has no checksum")
