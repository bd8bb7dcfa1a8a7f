"""Events of a sweep, each one line of its log: JSON that ends in its place in the log and its own checksum.

Since format 4 a line ends in three fields. ``seq`` is its number, from 1. ``prev`` is the checksum of the line before
(of a line of format 1 or 2, that of its text), so that a line that was deleted, doubled or moved breaks the chain.
``crc`` is the CRC-32 of the object without that field.

Format 5 has three more kinds of events, of orders; lines of all other kinds stay as in format 4.
"""

from __future__ import annotations

import json
import re
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from orchestrator.state.migrations import event_of_format_1

if TYPE_CHECKING:
    from collections.abc import Mapping

TrialStatus: TypeAlias = Literal["completed", "stopped", "paused", "diverged", "failed", "interrupted"]
Cause: TypeAlias = Literal["infrastructure", "preemption", "user"]
Origin: TypeAlias = Literal["baseline", "point", "search"]
Action: TypeAlias = Literal["stop", "extend"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[4] = 4
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
    """An actor runs the trial; attempts count from 1, and a retried or resumed trial has several.

    ``host`` is the machine it runs on, null where that is not known.
    """

    kind: Literal["attempt_started"] = "attempt_started"
    trial: str
    attempt: int
    host: str | None = None


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
    """A trial left its worker: it is over, or ``paused`` at a rung, or ``interrupted`` until the sweep is resumed.

    ``cause`` is whose fault a failed trial is, null in older logs.
    """

    kind: Literal["trial_ended"] = "trial_ended"
    trial: str
    status: TrialStatus
    rung: int | None = None
    reason: str | None = None
    traceback: str | None = None
    cause: Cause | None = None


class SweepEnded(_Event):
    """The driver left the sweep."""

    kind: Literal["sweep_ended"] = "sweep_ended"
    status: Literal["completed", "interrupted", "failed"]
    reason: str | None = None


class _OrderEvent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[5] = 5
    time: float


class OrderAccepted(_OrderEvent):
    """An order of a user was accepted; what it requires follows from this event and the state.

    ``trials`` are those to stop (none: the whole sweep), or those to reopen, in this order. Of an extension,
    ``settings`` are new values of the spec, ``plan`` those of the plan that follow from them, and ``config`` new values
    in the configurations of trials that are not over. ``notes`` say for people what changed.
    """

    kind: Literal["order_accepted"] = "order_accepted"
    order: str
    action: Action
    author: str
    trials: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    plan: dict[str, Any] = {}
    config: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class OrderRefused(_OrderEvent):
    """An order was refused, and changed nothing; ``reasons`` lists every problem, ``action`` is null if unknown."""

    kind: Literal["order_refused"] = "order_refused"
    order: str
    action: Action | None
    author: str
    reasons: tuple[str, ...]


class TrialReopened(_OrderEvent):
    """A trial that was over continues by order: from its last checkpoint, or paused at ``rung`` once more."""

    kind: Literal["trial_reopened"] = "trial_reopened"
    order: str
    trial: str
    rung: int | None = None


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
    | OrderAccepted
    | OrderRefused
    | TrialReopened
)
OfSweep: TypeAlias = SweepStarted | SweepEnded | OrderAccepted | OrderRefused
"""Events that concern no single trial."""
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
_EPOCH: TypeAdapter[EpochReported] = TypeAdapter(EpochReported)


ADDED: Mapping[str, str] = MappingProxyType({"attempt_started": "host", "trial_ended": "cause"})
"""Fields that are younger than format 4, by kind: where null they are left out, as in the lines before them."""

SEAL = b',"crc":"%08x"}\n'
SEAL_BYTES = len(SEAL % 0)
SEALED = re.compile(rb',"crc":"([0-9a-f]{8})"\}\n\Z')
LINK = b',"seq":%d,"prev":"%08x"'
LINKED = re.compile(rb',"seq":(\d{1,12}),"prev":"([0-9a-f]{8})","crc":"([0-9a-f]{8})"\}\n\Z')
LINKED_BYTES = 80
"""Length of the longest end of a line, at most."""
HEAD_3, HEAD_4 = b'{"v":3,', b'{"v":4,'


class Link(NamedTuple):
    """Place of a line in the log: its number, from 1, and the checksum of the line before it, 0 if it is the first."""

    seq: int = 1
    prev: int = 0


FIRST = Link()


def encode(event: Event, link: Link = FIRST) -> bytes:
    """Encode an event as a line of the log.

    Example:
        >>> line = encode(SweepEnded(time=1.0, status="completed"), Link(seq=7, prev=255))
        >>> document = json.loads(line)
        >>> document["seq"], document["prev"], document["crc"]
        (7, '000000ff', 'e7b38e59')
        >>> decode(line).status
        'completed'
    """
    return sealed(body_of(event), link)


def body_of(event: Event) -> bytes:
    """Return an event as a JSON object, without its place in the log."""
    added = ADDED.get(event.kind)
    absent = {added} if added is not None and getattr(event, added) is None else None
    return event.model_dump_json(exclude=absent).encode()


def sealed(body: bytes, link: Link) -> bytes:
    """Return the line of a JSON object at a place in the log."""
    linked = body[:-1] + LINK % link
    return linked + SEAL % zlib.crc32(b"}", zlib.crc32(linked))


def checksum(line: bytes) -> int:
    """Return the checksum of a whole line, which the next line repeats; formats 1 and 2 had none, so that of its text.

    >>> f"{checksum(encode(SweepEnded(time=1.0, status='completed'))):08x}"
    'e5c711f0'
    """
    end = SEALED.search(line, max(0, len(line) - SEAL_BYTES))
    return int(end[1], 16) if end is not None else zlib.crc32(line)


def reported(measured: str, **head: Any) -> tuple[EpochReported, bytes]:
    """Return an epoch's event and its JSON object; ``measured`` is the JSON object that the worker wrote.

    The worker's text becomes part of the log's line: the driver parses it once and never encodes it.

    Raises:
        ValueError: the fields do not form an ``EpochReported``.

    Example:
        >>> head = {"time": 1.0, "trial": "t000", "attempt": 1, "since_restore": 3}
        >>> event, body = reported('{"epoch": 3, "metrics": {"val/accuracy": 0.5}}', **head)
        >>> event.metrics, decode(sealed(body, FIRST)) == event
        ({'val/accuracy': 0.5}, True)
    """
    body = to_json({"v": 4, "kind": "epoch_reported", **head})[:-1] + b"," + measured.encode()[1:]
    return _EPOCH.validator.validate_json(body), body


def decode(line: bytes) -> Event:
    """Decode one line of the log, of this format or an older one.

    Raises:
        ValueError: the checksum is wrong or missing, or this version knows no such event.
    """
    return decode_linked(line)[0]


def decode_linked(line: bytes) -> tuple[Event, Link | None]:
    """Decode one line of the log, with its place in it; None in the formats 1 to 3.

    Raises:
        ValueError: the checksum is wrong or missing, or this version knows no such event.
    """
    end = LINKED.search(line, max(0, len(line) - LINKED_BYTES))
    if end is not None:
        if zlib.crc32(b"}", zlib.crc32(line[:-SEAL_BYTES])) != int(end[3], 16):
            raise ValueError("its checksum does not fit")
        return _ADAPTER.validate_json(line[: end.start()] + b"}"), Link(int(end[1]), int(end[2], 16))
    body = line[:-SEAL_BYTES] + b"}"
    if line == body[:-1] + SEAL % zlib.crc32(body) and body.startswith(HEAD_3):
        return _ADAPTER.validate_json(HEAD_4 + body[len(HEAD_3) :]), None
    return _ADAPTER.validate_python(_migrated(json.loads(line))), None


def _migrated(document: Any) -> Any:
    """Migrate an event of format 1 or 2 to format 4.

    Raises:
        ValueError: it is of a later format, whose lines end in their checksum.
    """
    match document:
        case {"v": 1}:
            return {**event_of_format_1(document), "v": 4}
        case {"v": 2}:
            return {**document, "v": 4}
        case {"crc": _}:
            raise ValueError("its checksum does not fit")
        case _:
            raise ValueError("it has no checksum")
