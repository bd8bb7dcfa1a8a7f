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

import math
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from orchestrator.errors import LogDamaged
from orchestrator.state.events import AttemptStarted, CheckpointSaved, EpochReported, TrialEnded, decode, encode
from orchestrator.state.stray_files import leave_out
from orchestrator.storage.atomic_files import flush_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.state.events import Event

SEGMENT_BYTES = 2**20
FIRST_GENERATION = 1
"""Generation of ``events.jsonl``."""
SEGMENT_STEM = re.compile(r"-(\d{12})-g(\d{4,})$")
FLUSH_S = 1.0
REMEDY = "restore the file from a copy, or move the sweep's folder away and launch a new sweep"
OBSERVATIONS = (AttemptStarted, EpochReported, CheckpointSaved, TrialEnded)


@dataclass(frozen=True)
class Segment:
    """One file of a log, by the driver of a generation: from offset ``start`` on, ``size`` bytes when it was listed."""

    path: Path
    start: int
    size: int
    generation: int

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self.start + self.size


def segments(path: Path) -> list[Segment]:
    """Return the segments of the log that starts with the file ``path``, in order; none if there is no log.

    Raises:
        LogDamaged: a segment is missing.
    """
    files = list(_files_of(path))
    valid: list[Segment] = []
    overridden_from = math.inf  # offset from which a later driver continued
    for generation in sorted({generation for generation, _, _ in files}, reverse=True):
        own = [(start, file) for author, start, file in files if author == generation and start < overridden_from]
        for start, file in own:
            size = min(file.stat().st_size, overridden_from - start)
            valid.append(Segment(file, start, int(size), generation))
        overridden_from = min([overridden_from, *(start for start, _ in own)])
    return _contiguous(path, sorted(valid, key=lambda segment: segment.start))


def is_segment(path: Path, name: str) -> bool:
    """Return True if a file of this name is a segment of the log."""
    stem, suffix = name.removesuffix(path.suffix), path.suffix
    later = SEGMENT_STEM.fullmatch(stem.removeprefix(path.stem)) if stem.startswith(path.stem) else None
    return name == path.name or (name.endswith(suffix) and later is not None)


def _files_of(path: Path) -> Iterator[tuple[int, int, Path]]:
    """Yield generation, start and file of each segment; name any other file like them, and leave it out."""
    for file in sorted(path.parent.glob(f"*{path.stem}*{path.suffix}")):
        named = SEGMENT_STEM.search(file.stem)
        if not is_segment(path, file.name):
            leave_out(str(file), "no part of the event log has such a name")
        elif file.is_dir():
            raise LogDamaged(f"{file}: must be a file of the event log, got a folder; {REMEDY}")
        elif named is None:
            yield FIRST_GENERATION, 0, file
        else:
            yield int(named[2]), int(named[1]), file


def _contiguous(path: Path, ordered: list[Segment]) -> list[Segment]:
    """Return the segments if each starts at the end of the one before it; else raise ``LogDamaged``."""
    offset, parts = 0, []
    for segment in ordered:
        if segment.start > offset and not segment.size:
            leave_out(str(segment.path), "an empty file that starts after the end of the event log")
            continue
        if segment.start != offset:
            raise LogDamaged(f"{path.parent}: bytes {offset} to {segment.start} of the event log are missing; {REMEDY}")
        offset = segment.end
        parts.append(segment)
    return parts


def segment_name(path: Path, start: int, generation: int) -> str:
    """Return the file name of the segment that a driver starts at an offset.

    >>> from pathlib import Path
    >>> segment_name(Path("events.jsonl"), 1048700, 2)
    'events-000001048700-g0002.jsonl'
    """
    return f"{path.stem}-{start:012d}-g{generation:04d}{path.suffix}"


def segment_at(path: Path, offset: int) -> str | None:
    """Return the file name of the segment with the byte before an offset; None if there is none."""
    segment = _segment_before(path, offset)
    return None if segment is None else segment.path.name


def _segment_before(path: Path, offset: int) -> Segment | None:
    return next((segment for segment in segments(path) if segment.start < offset <= segment.end), None)


def end_of(path: Path) -> int:
    """Return the offset after the last byte of a log.

    Raises:
        LogDamaged: a segment is missing.
    """
    existing = segments(path)
    return existing[-1].end if existing else 0


def is_line_end(path: Path, offset: int) -> bool:
    """Return True if an offset is the start of the log or the end of a line; any other belongs to another log."""
    if offset == 0:
        return True
    segment = _segment_before(path, offset)
    if segment is None:
        return False
    with segment.path.open("rb") as file:
        file.seek(offset - segment.start - 1)
        return file.read(1) == b"\n"


def flush(path: Path) -> None:
    """Flush a log to disk, also what another process wrote."""
    for segment in segments(path)[-1:]:
        with segment.path.open("rb") as file:
            os.fsync(file.fileno())


def num_events(path: Path, start: int = 0, end: float = math.inf) -> int:
    """Count the whole lines of a log between two offsets, without decoding them.

    Raises:
        LogDamaged: a segment is missing.
    """
    count = 0
    for segment in segments(path):
        first, last = max(start, segment.start), min(end, segment.end)
        if first < last:
            with segment.path.open("rb") as file:
                file.seek(first - segment.start)
                count += file.read(int(last) - first).count(b"\n")
    return count


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield each event from a byte offset on, with the offset after it; a torn tail is not yielded.

    Raises:
        LogDamaged: a whole line is no event, or its checksum is wrong; names the file and the byte.
    """
    for segment in segments(path):
        if segment.end > offset:
            yield from _events_of(segment, max(offset, segment.start))


def _events_of(segment: Segment, offset: int) -> Iterator[tuple[Event, int]]:
    with segment.path.open("rb") as file:
        file.seek(offset - segment.start)
        for line in file:
            if not line.endswith(b"\n") or offset >= segment.end:
                return
            try:
                event = decode(line)
            except ValueError as error:
                place = f"{segment.path}: the line at byte {offset - segment.start}"
                raise LogDamaged(f"{place} is no event ({_reason(error)}); {REMEDY}") from None
            offset += len(line)
            yield event, offset


def _reason(error: ValueError) -> str:
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

    def append(self, event: Event, line: bytes | None = None) -> None:
        """Write one event, and flush it to disk if it is a decision or a second has passed.

        Args:
            event: the event.
            line: the encoded event, if the caller has it.

        Raises:
            OSError: the disk refused; no part of the event stays in the log.
        """
        if self._is_torn:
            self._cut()
        if self._size >= self._segment_bytes:
            self._start_segment()
        line = encode(event) if line is None else line
        self._is_torn = True
        try:
            self._write(line)
            if type(event) not in OBSERVATIONS or time.monotonic() - self._flushed_at >= FLUSH_S:
                self._flush()
        except OSError:
            self._cut()
            raise
        self._size += len(line)
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
