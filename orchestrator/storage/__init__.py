"""Where sweeps live: a folder of this machine."""

from orchestrator.storage.folders import (
    DEFAULT_STORAGE,
    SweepFolder,
    create_folder,
    find_sweep,
    list_sweeps,
    reference,
    write_atomically,
)

__all__ = [
    "DEFAULT_STORAGE",
    "SweepFolder",
    "create_folder",
    "find_sweep",
    "list_sweeps",
    "reference",
    "write_atomically",
]
