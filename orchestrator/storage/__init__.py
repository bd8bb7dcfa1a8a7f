"""Where sweeps live: a folder of this machine, or a prefix of a bucket in S3."""

from orchestrator.state.s3_mirror import Mirror, download_folder, fetch, publish, pull
from orchestrator.state.sweep_folder import DEFAULT_STORAGE, SweepFolder, reference, write_atomically
from orchestrator.state.sweep_lookup import create_folder, find_sweep, is_remote, list_sweeps, try_out

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
