"""Segments of an event log on disk, which together are the log; offsets count through all of them.

A segment is ``events.jsonl``, or ``events-<offset of its first byte>-g<generation of its driver>.jsonl``. Where two
segments overlap, the later generation counts (``orchestrator.state.event_log``).
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import LogDamaged
from orchestrator.state.stray_files import leave_out
from orchestrator.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST_GENERATION = 1
"""Generation of ``events.jsonl``."""
END_BYTES = 18
"""Length of the checksum at the end of a line."""
SEGMENT_STEM = re.compile(r"-(\d{12})-g(\d{4,})$")
REMEDY = "restore the file from a copy, or move the sweep's folder away and launch a new sweep"


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
    offset = 0
    parts: list[Segment] = []
    for segment in ordered:
        if segment.start > offset and not segment.size:
            leave_out(str(segment.path), "an empty file that starts after the end of the event log")
            continue
        if segment.start > offset:
            raise LogDamaged(f"{path.parent}: bytes {offset} to {segment.start} of the event log are missing; {REMEDY}")
        if segment.start < offset:
            size = segment.start - parts[-1].start
            raise LogDamaged(f"{parts[-1].path}: must end at byte {size}, where {segment.path.name} begins; {REMEDY}")
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
    return offset == 0 or end_before(path, offset).endswith("\n")


def end_before(path: Path, offset: int) -> str:
    """Return the last characters before an offset: of a line with a checksum, this; empty if the log ends before it."""
    segment = _segment_before(path, offset)
    if segment is None:
        return ""
    with segment.path.open("rb") as file:
        file.seek(max(0, offset - segment.start - END_BYTES))
        return file.read(min(END_BYTES, offset - segment.start)).decode(errors="replace")


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


def refuse_lost(path: Path) -> None:
    """Refuse a log without content whose sweep has trials or was tracked: read as empty, the sweep would start again.

    Raises:
        LogDamaged: names what shows that the log existed.
    """
    if end_of(path):
        return
    folder = SweepFolder(path.parent)
    traces = [
        file for file in (folder.cursor, folder.tune) if file.is_file() or (file.is_dir() and any(file.iterdir()))
    ]
    if traces:
        shown = " and ".join(file.name for file in traces)
        raise LogDamaged(f"{path}: the event log is missing or empty, but {shown} shows that the sweep began; {REMEDY}")
