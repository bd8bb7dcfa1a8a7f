"""Events of a sweep, each one line of its log: JSON that ends in its own checksum."""

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
    """Seconds since the Unix epoch, UTC. MLflow gets this time, so that sending a point twice changes nothing."""


class SweepStarted(_Event):
    """A driver locked the sweep; ``generation``, its fencing token, counts drivers from 1."""

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
    """An actor runs the trial; attempts count from 1, and a retried or resumed trial has several."""

    kind: Literal["attempt_started"] = "attempt_started"
    trial: str
    attempt: int


class AttemptFailed(_Event):
    """An attempt failed, and the trial will be retried from its last checkpoint."""

    kind: Literal["attempt_failed"] = "attempt_failed"
    trial: str
    attempt: int
    cause: Cause
    reason: str
    traceback: str | None = None


class EpochReported(_Event):
    """One epoch was trained and measured; a non-finite metric is null.

    ``since_restore`` counts the epochs that this attempt has trained, this one included: the cost of a retry. ``data``
    is the digest of the data set, reported with the first epoch of an attempt.
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
    """The scheduler evaluated a trial at a rung: it continues (``kept``), or it stops or is paused.

    ``cutoff`` is the value to reach among ``competitors`` trials (this one included); both values are of the first
    objective. ``rungs`` are the current ones, if the scheduler moves them. A rejected trial that is ``audited`` runs
    to its end all the same, to measure if the rejection was right.
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
    """A paused trial resumes from its rung; ``audited`` if it runs only to measure if its rejection was right."""

    kind: Literal["trial_promoted"] = "trial_promoted"
    trial: str
    rung: int
    audited: bool = False


class CheckpointSaved(_Event):
    """A checkpoint folder is complete; ``path`` is relative to the sweep's folder if it is inside."""

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
    """Encode an event as a line of the log; the last field, ``crc``, is the CRC-32 of the object without that field.

    Example:
        >>> line = encode(SweepEnded(time=1.0, status="completed"))
        >>> json.loads(line)["crc"]
        '0ef78ac8'
        >>> decode(line).status
        'completed'
    """
    return _sealed(event.model_dump_json().encode())


def reported(measured: str, **head: Any) -> tuple[EpochReported, bytes]:
    """Return an epoch's event and its line of the log; ``measured`` is the JSON object that the worker wrote.

    The worker's text becomes part of the line: the driver parses it once and never encodes it.

    Raises:
        ValueError: the fields do not form an ``EpochReported``.

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
    """Decode one line of the log, of this format or of formats 1 and 2, which had no checksum.

    Raises:
        ValueError: the checksum is wrong or missing, or this version knows no such event.
    """
    body = line[:-SEAL_BYTES] + b"}"
    if line == _sealed(body):
        return _ADAPTER.validate_json(body)
    return _ADAPTER.validate_python(_migrated(json.loads(line)))


def _migrated(document: Any) -> Any:
    """Migrate an event of format 1 or 2 to format 3.

    Raises:
        ValueError: it is of format 3, whose lines end in their checksum.
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
