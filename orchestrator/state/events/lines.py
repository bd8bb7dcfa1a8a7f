"""Lines of a log: JSON that ends in its place in the log and its own checksum.

Since format 4 a line ends in three fields. ``seq`` is its number, from 1. ``prev`` is the checksum of the line before
(of a line of format 1 or 2, that of its text), so that a line that was deleted, doubled or moved breaks the chain.
``crc`` is the CRC-32 of the object without that field.

Format 5 has three more kinds of events, of orders, format 6 has dropped checkpoints, and format 7 dropped seeds. Lines
of all other kinds stay as in format 4.
"""

from __future__ import annotations

import json
import re
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

from orchestrator.state.events.kinds import EpochReported, Event
from orchestrator.state.migrations import event_of_format_1

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
_EPOCH: TypeAdapter[EpochReported] = TypeAdapter(EpochReported)


ADDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "trial_created": ("descent",),
        "attempt_started": ("host", "batched"),
        "attempt_failed": ("shared_by",),
        "trial_ended": ("cause",),
        "checkpoint_saved": ("size_bytes",),
        "rung_decided": ("outcome", "mean", "reason"),
    }
)
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
        >>> from orchestrator.state.events.kinds import SweepEnded
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
    absent = {name for name in ADDED.get(event.kind, ()) if getattr(event, name) is None} or None
    return event.model_dump_json(exclude=absent).encode()


def sealed(body: bytes, link: Link) -> bytes:
    """Return the line of a JSON object at a place in the log."""
    linked = body[:-1] + LINK % link
    return linked + SEAL % zlib.crc32(b"}", zlib.crc32(linked))


def checksum(line: bytes) -> int:
    """Return the checksum of a whole line, which the next line repeats; formats 1 and 2 had none, so that of its text.

    >>> from orchestrator.state.events.kinds import SweepEnded
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
