"""Cursor of the tracker in a sweep's log: a small file next to the log. Nothing is lost if the file is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.state.log_segments import end_before, is_line_end, segment_at
from orchestrator.state.stray_files import leave_out
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.state.sweep_folder import SweepFolder


@dataclass
class Cursor:
    """Position of MLflow in the log: a byte offset, and the run ids that MLflow assigned.

    Args:
        offset: Byte offset of the log; MLflow has all events before it.
        experiment: Id of the sweep's experiment.
        sweep_run: Id of the summary run.
        runs: Ids of the trials' runs.
        store: Address of the store, without its password. In another store, nothing was sent yet.
        segment: File of the log that holds the offset. If another file holds it now, another driver continued from an
            offset before this one.
        end: End of the line before the offset, with its checksum, which is that of another line in another log.
    """

    offset: int = 0
    experiment: str | None = None
    sweep_run: str | None = None
    runs: dict[str, str] = field(default_factory=dict)
    store: str | None = None
    segment: str | None = None
    end: str | None = None

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """Return the saved cursor, or a new one."""
        try:
            cursor = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):  # lost or damaged: a second sending changes nothing
            return cls()
        return cursor if cursor._is_valid() else cls()

    @classmethod
    def resume(cls, folder: SweepFolder, store: str) -> Cursor:
        """Return the saved cursor if it fits this store and this log, or else a new one."""
        cursor = cls.load(folder.cursor)
        return cursor if cursor.store == store and cursor.fits(folder) else cls(store=store)

    @classmethod
    def is_ahead(cls, folder: SweepFolder, store: str) -> bool:
        """Return True if this store was sent events that the log lacks: it was restored from an older copy."""
        cursor = cls.load(folder.cursor)
        return cursor.store == store and not cursor.fits(folder)

    def fits(self, folder: SweepFolder) -> bool:
        """Return True if the events before the offset are those of this log."""
        return (
            is_line_end(folder.events, self.offset)
            and self.segment in {None, segment_at(folder.events, self.offset)}
            and self.end in {None, end_before(folder.events, self.offset)}
        )

    def _is_valid(self) -> bool:
        """Return True if each field has its type, which a damaged file may not have."""
        texts = (self.experiment, self.sweep_run, self.store, self.segment, self.end)
        return (
            type(self.offset) is int
            and self.offset >= 0
            and all(text is None or isinstance(text, str) for text in texts)
            and isinstance(self.runs, dict)
            and all(isinstance(run, str) for run in self.runs.values())
        )

    def move_to(self, offset: int, folder: SweepFolder) -> None:
        """Record that everything before an offset was sent."""
        self.offset, self.segment = offset, segment_at(folder.events, offset)
        self.end = end_before(folder.events, offset)

    def save(self, path: Path) -> None:
        """Write the cursor, atomically; in the place of a folder it is not kept, and everything is sent again."""
        if path.is_dir():
            leave_out(str(path), "a folder in the place of MLflow's position in the log")
            return
        write_atomically(path, json.dumps(vars(self)))
