"""How far MLflow has followed a sweep's log: a small file beside the log, which may be lost without loss."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.state.event_log import is_line_end, segment_at
from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.state.sweep_folder import SweepFolder


@dataclass
class Cursor:
    """How far MLflow has followed: a byte offset of the log, and the run ids MLflow assigned.

    ``store`` is where that is true, without its password: in another store nothing was sent yet. ``segment`` names the
    file of the log that held the offset: another one there is another driver's, which went on from before it.
    """

    offset: int = 0
    experiment: str | None = None
    sweep_run: str | None = None
    runs: dict[str, str] = field(default_factory=dict)
    store: str | None = None
    segment: str | None = None

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """The saved cursor, or a fresh one."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # lost or unreadable: all is sent again, which changes nothing
            return cls()

    @classmethod
    def resume(cls, folder: SweepFolder, store: str) -> Cursor:
        """The saved cursor where it fits this store and this log, else a fresh one."""
        cursor = cls.load(folder.cursor)
        fits = (
            cursor.store == store
            and isinstance(cursor.offset, int)
            and is_line_end(folder.events, cursor.offset)
            and cursor.segment in {None, segment_at(folder.events, cursor.offset)}
        )
        return cursor if fits else cls(store=store)

    def move_to(self, offset: int, folder: SweepFolder) -> None:
        """Note that everything before an offset was sent."""
        self.offset, self.segment = offset, segment_at(folder.events, offset)

    def save(self, path: Path) -> None:
        """Write the cursor, atomically."""
        write_atomically(path, json.dumps(vars(self)))
