"""Write-ahead event log on disk: the source of truth of a sweep, from which everything else can be rebuilt.

One line is one event (``orchestrator.state.events``), in the order of time. Every line is written to the operating
system at once, so that it survives its process. Decisions (a trial created, rejected, promoted) are flushed to disk
(``fsync``) before anything acts on them. Observations (``OBSERVATIONS``) are flushed with the next decision, with any
event after a second, and before they are sent to MLflow: a machine that loses its power loses at most a second of what
it can measure a second time. A driver killed in the middle of a line leaves a torn tail; nothing ever acted on it, and
the next driver cuts it off.

A log is split into segments, so that a growing log can be copied piece by piece: ``events.jsonl``, then
``events-<offset of its first byte>-g<generation of its driver>.jsonl``. A driver writes only to segments of its own,
and starts a new one at about a megabyte. The concatenated segments are the log, and offsets count through all of them.
Where two segments overlap, one driver lost the sweep while it was cut off, and a later one continued from the copy it
had: what the first driver wrote from that offset on never became part of the sweep.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from orchestrator.errors import LogDamaged, quoted
from orchestrator.state.events import (
    AttemptStarted,
    CheckpointSaved,
    EpochReported,
    Link,
    TrialCreated,
    TrialEnded,
    body_of,
    checksum,
    decode_linked,
    sealed,
)
from orchestrator.state.log_segments import (
    FIRST_GENERATION,
    REMEDY,
    Segment,
    num_events,
    segment_name,
    segments,
)
from orchestrator.storage.atomic_files import flush_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.state.events import Event

SEGMENT_BYTES = 2**20
FLUSH_S = 1.0
OBSERVATIONS = (AttemptStarted, EpochReported, CheckpointSaved, TrialEnded)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield each event from a byte offset on, with the offset after it; a torn tail is not yielded.

    Raises:
        LogDamaged: a whole line is no event, its checksum is wrong, lines before it are missing, repeated or moved, or
            a file that is not the last ends within a line; names the file and the byte.
    """
    parts = [segment for segment in segments(path) if segment.end > offset]
    chain = Chain() if offset == 0 else Chain(seq=None, crc=None, trials=None)
    for segment in parts:
        first = max(offset, segment.start)
        yield from _events_of(segment, first, chain, is_last=segment is parts[-1])


def _events_of(segment: Segment, offset: int, chain: Chain, *, is_last: bool) -> Iterator[tuple[Event, int]]:
    with segment.path.open("rb") as file:
        file.seek(offset - segment.start)
        for line in file:
            if not line.endswith(b"\n") or offset >= segment.end or (not is_last and offset + len(line) > segment.end):
                break
            try:
                event = chain.advance(line)
            except (ValueError, RecursionError) as error:
                place = f"{segment.path}: the line at byte {offset - segment.start}"
                raise LogDamaged(f"{place} is {_reason(error)}; {REMEDY}") from None
            offset += len(line)
            yield event, offset
    if not is_last and offset != segment.end:
        place = f"{segment.path}: the line at byte {offset - segment.start}"
        raise LogDamaged(f"{place} is cut off, and the log continues in another file; {REMEDY}")


@dataclass
class Chain:
    """Place in a log that is read line by line: the number and the checksum of the last line; None: not known.

    Args:
        seq: Number of the last line.
        crc: Its checksum.
        trials: Names of the trials that were created so far.
        is_linked: True after the first line of format 4.
    """

    seq: int | None = 0
    crc: int | None = 0
    trials: set[str] | None = field(default_factory=set)
    is_linked: bool = False

    def advance(self, line: bytes) -> Event:
        """Return the event of the next line.

        Raises:
            ValueError: it is no event, or another line belongs here.
        """
        try:
            event, link = decode_linked(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no event ({_reason(error)})") from None
        if link is not None:
            self._check(link)
        elif self.is_linked:
            raise ValueError("of an older format than the lines before it: it was copied here")
        else:
            self._check_trial(event)
        seq = None if self.seq is None else self.seq + 1
        self.seq, self.crc, self.is_linked = link.seq if link else seq, checksum(line), link is not None
        return event

    def _check(self, link: Link) -> None:
        if self.seq is not None and link.seq > self.seq + 1:
            raise ValueError(
                f"number {link.seq} of the log, and {self.seq + 1} is missing: lines were deleted or moved"
            )
        if self.seq is not None and link.seq <= self.seq:
            raise ValueError(f"number {link.seq} of the log, and follows {self.seq}: it is a copy, or was moved")
        if self.crc is not None and link.prev != self.crc:
            raise ValueError(f"number {link.seq} of the log, and does not continue the line before: that was replaced")

    def _check_trial(self, event: Event) -> None:
        """Notice missing and doubled lines in formats without numbers, as far as their trials show them."""
        name = getattr(event, "trial", None)
        if name is None or self.trials is None:
            return
        is_known = name in self.trials
        if isinstance(event, TrialCreated):
            if is_known:
                raise ValueError(f"a second creation of trial {quoted(name)}: it is a copy of an earlier line")
            self.trials.add(name)
        elif not is_known:
            raise ValueError(f"of trial {quoted(name)}, which no line before it creates: lines are missing")


def _reason(error: Exception) -> str:
    """Return the message of an error, without the document that pydantic adds to it."""
    problems = getattr(error, "errors", None)
    return str(problems()[0]["msg"]) if problems is not None else str(error)


class EventLog:
    """Appends to a log durably: ``append`` returns when a decision is on disk, or an observation is written.

    Args:
        path: the first file of the log.
        segment_bytes: size from which a segment is full.
        generation: that of the driver, which writes only to segments of its own; by default, continue the last one.

    Example:
        >>> import pathlib, tempfile
        >>> from orchestrator.state.events import SweepEnded
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "events.jsonl"
        >>> with EventLog(path) as log:
        ...     log.append(SweepEnded(time=1.0, status="completed"))
        >>> [event.kind for event, _ in read_events(path)]
        ['sweep_ended']
    """

    def __init__(self, path: Path, *, segment_bytes: int = SEGMENT_BYTES, generation: int | None = None) -> None:
        self.path = path
        self._segment_bytes, self._is_torn = segment_bytes, False
        existing = segments(path)
        last = existing[-1] if existing else Segment(path, 0, 0, FIRST_GENERATION)
        whole = _whole_bytes(last) if existing else 0
        self._next = _next_link(path, existing, last.start + whole)
        if generation is None or (generation == FIRST_GENERATION and not existing):
            self._generation, self._start, self._size = last.generation, last.start, whole
            self._file = last.path.open("ab", buffering=0)
            self._file.truncate(whole)
        else:
            newest = last.generation if existing else FIRST_GENERATION
            self._generation, self._start, self._size = max(generation, newest + 1), last.start + whole, 0
            self._file = self._file_at(self._start).open("ab", buffering=0)
        self._flush()
        flush_folder(path.parent)

    def append(self, event: Event, body: bytes | None = None) -> None:
        """Write one event, and flush it to disk if it is a decision or a second has passed.

        Args:
            event: the event.
            body: the event as a JSON object, if the caller has it.

        Raises:
            OSError: the disk refused; no part of the event stays in the log.
        """
        if self._is_torn:
            self._cut()
        if self._size >= self._segment_bytes:
            self._start_segment()
        line = sealed(body_of(event) if body is None else body, self._next)
        self._is_torn = True
        try:
            self._write(line)
            if type(event) not in OBSERVATIONS or time.monotonic() - self._flushed_at >= FLUSH_S:
                self._flush()
        except OSError:
            self._cut()
            raise
        self._size += len(line)
        self._next = Link(self._next.seq + 1, checksum(line))
        self._is_torn = False

    def close(self) -> None:
        """Flush and release the file."""
        if not self._file.closed:
            self._flush()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start_segment(self) -> None:
        self._flush()
        start = self._start + self._size
        file = self._file_at(start).open("ab", buffering=0)
        self._file.close()
        self._file, self._start, self._size = file, start, 0
        flush_folder(self.path.parent)

    def _file_at(self, start: int) -> Path:
        return self.path.with_name(segment_name(self.path, start, self._generation))

    def _cut(self) -> None:
        """Truncate a partly written line; while the disk refuses that too, nothing more is written."""
        self._file.truncate(self._size)
        self._is_torn = False

    def _write(self, line: bytes) -> None:
        if self._file.write(line) != len(line):
            raise OSError(f"{self._file.name}: the disk took only a part of an event; check if it is full")

    def _flush(self) -> None:
        os.fsync(self._file.fileno())
        self._flushed_at = time.monotonic()


def _whole_bytes(segment: Segment) -> int:
    """Return the number of bytes up to the end of a segment's last whole line."""
    with segment.path.open("rb") as file:
        return file.read(segment.size).rfind(b"\n") + 1


def _next_link(path: Path, existing: list[Segment], end: int) -> Link:
    """Return the place after the last whole line of a log, which ends at this offset."""
    last = next((segment for segment in reversed(existing) if segment.start < end), None)
    if last is None:
        return Link()
    with last.path.open("rb") as file:
        line = file.read(end - last.start).rpartition(b"\n")[0].rpartition(b"\n")[2] + b"\n"
    try:
        link = decode_linked(line)[1]
    except (ValueError, RecursionError):  # damaged: reading names it; the next line must not make it look whole
        link = None
    seq = link.seq if link is not None else num_events(path, end=end)
    return Link(seq + 1, checksum(line))
