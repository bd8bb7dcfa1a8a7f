"""Where sweeps live: a folder of this machine, or a prefix of a bucket in S3."""

from orchestrator.storage.finding import create_folder, find_sweep, is_remote, list_sweeps, try_out
from orchestrator.storage.folders import DEFAULT_STORAGE, SweepFolder, reference, write_atomically
from orchestrator.storage.mirror import Mirror, download_folder, fetch, publish, pull

__all__ = [
    "DEFAULT_STORAGE",
    "Mirror",
    "SweepFolder",
    "create_folder",
    "download_folder",
    "fetch",
    "find_sweep",
    "is_remote",
    "list_sweeps",
    "publish",
    "pull",
    "reference",
    "try_out",
    "write_atomically",
]
