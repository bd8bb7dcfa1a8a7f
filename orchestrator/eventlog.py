"""The append-only event log on disk: the source of truth of a sweep; everything else can be rebuilt from it.

One line an event (``orchestrator.events``), in the order things happened. Every line is handed to the operating system
at once, so that it survives its process. What is decided (a trial created, stopped, promoted, ended) is flushed to disk
(``fsync``) before anything acts on it; what is only seen (``SEEN``) is flushed with the next decision, with any event
after a second, and before MLflow is told, so that a machine that loses its power loses a second of what it can measure
again. A driver killed in the middle of a line leaves a torn tail, which was never acted on: the next one cuts it off.

A log is cut into segments of about a megabyte, so that a growing log can be copied elsewhere piece by piece:
``events.jsonl``, then ``events-<byte at which it starts>.jsonl``. Put together they are the log; offsets count through.
Where two overlap, a driver lost the sweep while it was cut off, and another went on from the copy that was there: what
the first wrote behind that place never became part of the sweep.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from orchestrator.errors import LogDamaged
from orchestrator.events import AttemptStarted, CheckpointSaved, EpochReported, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.events import Event

SEGMENT_BYTES = 2**20
FLUSH_S = 1.0
SEEN = (AttemptStarted, EpochReported, CheckpointSaved)


@dataclass(frozen=True)
class Segment:
    """One file of a log: the bytes from ``start`` on, ``size`` of them when it was looked at."""

    path: Path
    start: int
    size: int

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.start + self.size


def segments(path: Path) -> list[Segment]:
    """The files of the log that begins with ``path``, in order; none where it was never begun.

    Raises:
        LogDamaged: a segment is missing.
    """
    later = sorted((_start_of(found), found) for found in path.parent.glob(f"{path.stem}-*{path.suffix}"))
    first = [(0, path)] if path.exists() else []
    found: list[Segment] = []
    for start, file in [*first, *later]:
        reached = found[-1].end if found else 0
        if start > reached:
            raise LogDamaged(
                f"{path.parent}: bytes {reached} to {start} of the event log are missing; "
                "restore the file from a copy, or move the folder away and launch the sweep again"
            )
        if found:
            found[-1] = replace(found[-1], size=start - found[-1].start)
        found.append(Segment(file, start, file.stat().st_size))
    return found


def segment_name(path: Path, start: int) -> str:
    """The file name of the segment of a log that begins at an offset.

    >>> from pathlib import Path
    >>> segment_name(Path("events.jsonl"), 1048700)
    'events-000001048700.jsonl'
    """
    return path.name if start == 0 else f"{path.stem}-{start:012d}{path.suffix}"


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


def num_events(path: Path, offset: int = 0) -> int:
    """How many whole lines a log has from a byte offset on, without reading what they say.

    Raises:
        LogDamaged: a segment is missing.
    """
    count = 0
    for segment in segments(path):
        if segment.end > offset:
            with segment.path.open("rb") as file:
                file.seek(max(0, offset - segment.start))
                count += file.read(segment.end - max(offset, segment.start)).count(b"\n")
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


def _start_of(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


class EventLog:
    """Appends to a log durably: ``append`` returns when a decision is on disk, and when what was seen is written.

    Args of note: ``in_new_segment`` begins a segment for this driver, which no other one will write to.

    Example:
        >>> import pathlib, tempfile
        >>> from orchestrator.events import SweepEnded
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "events.jsonl"
        >>> with EventLog(path) as log:
        ...     log.append(SweepEnded(time=1.0, status="completed"))
        >>> [event.kind for event, _ in read_events(path)]
        ['sweep_ended']
    """

    def __init__(self, path: Path, *, segment_bytes: int = SEGMENT_BYTES, in_new_segment: bool = False) -> None:
        self.path = path
        self._segment_bytes = segment_bytes
        there = segments(path)
        self._start = there[-1].start if there else 0
        self._file = (there[-1].path if there else path).open("ab", buffering=0)
        self._size = self._cut_torn_tail()
        self._flush()
        if in_new_segment and self._size:
            self._begin_segment()
        _flush_folder(path.parent)

    def append(self, event: Event) -> None:
        """Write one event, and flush it to disk if it is a decision or a second has passed.

        Raises:
            OSError: the disk refused; no part of the event stays in the log.
        """
        if self._size >= self._segment_bytes:
            self._begin_segment()
        line = encode(event)
        try:
            self._write(line)
            if not isinstance(event, SEEN) or time.monotonic() - self._flushed_at >= FLUSH_S:
                self._flush()
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(line)

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
        file = self.path.with_name(segment_name(self.path, start)).open("ab", buffering=0)
        self._file.close()
        self._file, self._start, self._size = file, start, 0
        _flush_folder(self.path.parent)

    def _write(self, line: bytes) -> None:
        if self._file.write(line) != len(line):
            raise OSError(f"{self._file.name}: the disk took only a part of an event (is it full?)")

    def _flush(self) -> None:
        os.fsync(self._file.fileno())
        self._flushed_at = time.monotonic()

    def _cut_torn_tail(self) -> int:
        with open(self._file.name, "rb") as file:  # noqa: PTH123  the path as it was opened
            content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            self._file.truncate(whole)
        return whole


def _flush_folder(folder: Path) -> None:
    """A new file is safe when its folder is on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
