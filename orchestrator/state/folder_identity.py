"""Identity of a sweep's folder, recorded at the launch: its place, its inode and that of its plan."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from orchestrator.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from orchestrator.state.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Identity:
    """Identity of a sweep's folder on its file system."""

    path: str
    folder: int
    plan: int

    @classmethod
    def of(cls, folder: SweepFolder) -> Identity:
        """Return the identity of a folder that holds a plan.

        Raises:
            OSError: it holds none.
        """
        path = folder.path.resolve()
        return cls(str(path), path.stat().st_ino, folder.plan.stat().st_ino)

    @classmethod
    def load(cls, folder: SweepFolder) -> Identity | None:
        """Return the recorded identity; None if there is none that can be read."""
        try:
            recorded = cls(**json.loads(folder.identity.read_bytes()))
        except (OSError, TypeError, ValueError, RecursionError):
            return None
        is_valid = isinstance(recorded.path, str) and type(recorded.folder) is type(recorded.plan) is int
        return recorded if is_valid and "\0" not in recorded.path else None

    def is_same_directory(self, other: Identity) -> bool:
        """Return True if both are one directory, whatever its path."""
        return (self.folder, self.plan) == (other.folder, other.plan)


def record(folder: SweepFolder) -> None:
    """Record the identity of the folder of a new sweep; one in S3 is known by its address."""
    if folder.remote is None:
        write_atomically(folder.identity, json.dumps(asdict(Identity.of(folder)), indent=1) + "\n")
