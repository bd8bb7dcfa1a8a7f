"""The append-only event log on disk: the source of truth of a sweep; everything else can be rebuilt from it.

One line an event (``orchestrator.state.events``), in the order things happened. Every line is handed to the operating
system at once, so that it survives its process. What is decided (a trial created, judged, promoted) is flushed to disk
(``fsync``) before anything acts on it; what is only seen (``SEEN``) is flushed with the next decision, with any event
after a second, and before MLflow is told, so that a machine that loses its power loses a second of what it can measure
again. A driver killed in the middle of a line leaves a torn tail, which was never acted on: the next one cuts it off.

A log is cut into segments, so that a growing log can be copied elsewhere piece by piece: ``events.jsonl``, then
``events-<byte at which it starts>-g<generation of its driver>.jsonl``. A driver writes to segments of its own alone,
and begins the next at about a megabyte. Put together they are the log; offsets count through. Where two overlap, a
driver lost the sweep while it was cut off, and a later one went on from the copy that was there: what the earlier one
wrote from that place on never became part of the sweep.
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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.state.events import Event

SEGMENT_BYTES = 2**20
FIRST = 1
"""The generation of ``events.jsonl``."""
NAME = re.compile(r"-(\d{12})-g(\d{4,})$")
FLUSH_S = 1.0
SEEN = (AttemptStarted, EpochReported, CheckpointSaved, TrialEnded)


@dataclass(frozen=True)
class Segment:
    """One file of a log: the bytes from ``start`` on, ``size`` of them when it was looked at, and whose they are."""

    path: Path
    start: int
    size: int
    generation: int

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.start + self.size


def segments(path: Path) -> list[Segment]:
    """The files of the log that begins with ``path``, in order; none where it was never begun.

    Raises:
        LogDamaged: a segment is missing.
    """
    files = [(FIRST, 0, path)] if path.exists() else []
    later = [(NAME.search(file.stem), file) for file in path.parent.glob(f"{path.stem}-*{path.suffix}")]
    files += [(int(named[2]), int(named[1]), file) for named, file in later if named is not None]
    found: list[Segment] = []
    taken_from = math.inf  # where a later driver went on from
    for generation in sorted({generation for generation, _, _ in files}, reverse=True):
        own = [(start, file) for each, start, file in files if each == generation and start < taken_from]
        for start, file in own:
            size = min(file.stat().st_size, taken_from - start)
            found.append(Segment(file, start, int(size), generation))
        taken_from = min([taken_from, *(start for start, _ in own)])
    return _joined(path, sorted(found, key=lambda segment: segment.start))


def _joined(path: Path, found: list[Segment]) -> list[Segment]:
    """The segments, if each begins where the one before it ends."""
    reached = 0
    for segment in found:
        if segment.start != reached:
            raise LogDamaged(
                f"{path.parent}: bytes {reached} to {segment.start} of the event log are missing; "
                "restore the file from a copy, or move the folder away and launch the sweep again"
            )
        reached = segment.end
    return found


def segment_name(path: Path, start: int, generation: int) -> str:
    """The file name of the segment of a log that a driver begins at an offset.

    >>> from pathlib import Path
    >>> segment_name(Path("events.jsonl"), 1048700, 2)
    'events-000001048700-g0002.jsonl'
    """
    return f"{path.stem}-{start:012d}-g{generation:04d}{path.suffix}"


def segment_at(path: Path, offset: int) -> str | None:
    """The file name of the segment that holds the byte before an offset; null where there is none."""
    return next((each.path.name for each in segments(path) if each.start < offset <= each.end), None)


def end_of(path: Path) -> int:
    """The offset behind the last byte that a log has now.

    Raises:
        LogDamaged: a segment is missing.
    """
    there = segments(path)
    return there[-1].end if there else 0


def is_line_end(path: Path, offset: int) -> bool:
    """Whether a log can be read on from here: an offset behind its end, or inside a line, is another log's."""
    if offset == 0:
        return True
    holding = next((segment for segment in segments(path) if segment.start < offset <= segment.end), None)
    if holding is None:
        return False
    with holding.path.open("rb") as file:
        file.seek(offset - holding.start - 1)
        return file.read(1) == b"\n"


def flush(path: Path) -> None:
    """Have what was written to a log on disk, whoever wrote it."""
    for segment in segments(path)[-1:]:
        with segment.path.open("rb") as file:
            os.fsync(file.fileno())


def num_events(path: Path, start: int = 0, end: float = math.inf) -> int:
    """How many whole lines a log has between two offsets, without reading what they say.

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
    """Every whole event from a byte offset on, each with the offset just behind it; a torn tail is not yielded.

    Raises:
        LogDamaged: a whole line is no event, or does not fit its checksum; names the file and the byte.
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
                raise LogDamaged(
                    f"{segment.path}: the line at byte {offset - segment.start} is no event ({_law(error)}); "
                    "restore the file from a copy, or move it away and launch the sweep again"
                ) from None
            offset += len(line)
            yield event, offset


def _law(error: ValueError) -> str:
    """What is wrong, without the document that pydantic would print."""
    told = getattr(error, "errors", None)
    return str(told()[0]["msg"]) if told is not None else str(error)


class EventLog:
    """Appends to a log durably: ``append`` returns when a decision is on disk, and when what was seen is written.

    Args of note: ``generation`` of the driver, which writes to segments of its own alone; without it, the last segment
    is gone on with.

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
        there = segments(path)
        last = there[-1] if there else Segment(path, 0, 0, FIRST)
        whole = _whole(last) if there else 0
        if generation is None or (generation == FIRST and not there):
            self._generation, self._start, self._size = last.generation, last.start, whole
            self._file = last.path.open("ab", buffering=0)
            self._file.truncate(whole)
        else:
            newest = last.generation if there else FIRST
            self._generation, self._start, self._size = max(generation, newest + 1), last.start + whole, 0
            self._file = self._file_at(self._start).open("ab", buffering=0)
        self._flush()
        _flush_folder(path.parent)

    def append(self, event: Event, line: bytes | None = None) -> None:
        """Write one event, and flush it to disk if it is a decision or a second has passed.

        Args:
            event: what happened.
            line: the event as a line, if there is one already.

        Raises:
            OSError: the disk refused; no part of the event stays in the log.
        """
        if self._is_torn:
            self._cut()
        if self._size >= self._segment_bytes:
            self._begin_segment()
        line = encode(event) if line is None else line
        self._is_torn = True
        try:
            self._write(line)
            if type(event) not in SEEN or time.monotonic() - self._flushed_at >= FLUSH_S:
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

    def _begin_segment(self) -> None:
        self._flush()
        start = self._start + self._size
        file = self._file_at(start).open("ab", buffering=0)
        self._file.close()
        self._file, self._start, self._size = file, start, 0
        _flush_folder(self.path.parent)

    def _file_at(self, start: int) -> Path:
        return self.path.with_name(segment_name(self.path, start, self._generation))

    def _cut(self) -> None:
        """Take away what a refused write left; while the disk refuses that too, nothing more is written."""
        self._file.truncate(self._size)
        self._is_torn = False

    def _write(self, line: bytes) -> None:
        if self._file.write(line) != len(line):
            raise OSError(f"{self._file.name}: the disk took only a part of an event (is it full?)")

    def _flush(self) -> None:
        os.fsync(self._file.fileno())
        self._flushed_at = time.monotonic()


def _whole(segment: Segment) -> int:
    """The bytes of a segment up to the end of its last whole line."""
    with segment.path.open("rb") as file:
        return file.read(segment.size).rfind(b"\n") + 1


def _flush_folder(folder: Path) -> None:
    """A new file is safe when its folder is on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
