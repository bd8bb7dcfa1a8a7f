"""Arguments and options that several commands share, and their shell completion."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.state.sweep_folder import DEFAULT_STORAGE
from orchestrator.state.sweep_lookup import STAMP_SUFFIX, list_sweeps
from orchestrator.storage.locations import is_remote

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
RESULTS = DEFAULT_STORAGE


def complete_spec(incomplete: str) -> list[str]:
    """Return the YAML files whose path starts with the word to complete, also those one folder below."""
    start = glob.escape(str(Path(incomplete).expanduser()) if incomplete.startswith("~") else incomplete)
    return sorted(path for pattern in ("*.yaml", "*.yml", "*/*.yaml") for path in glob.glob(f"{start}{pattern}"))  # noqa: PTH207  as it is spelt


def complete_sweep(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names and ids of the sweeps in ``--storage``; none of a storage in S3, which would take seconds."""
    storage = str(ctx.params.get("folder") or RESULTS)
    if is_remote(storage):
        return []
    sweeps = [folder.sweep for folder in list_sweeps(storage)]
    words = dict.fromkeys([*(STAMP_SUFFIX.sub("", sweep) for sweep in sweeps), *reversed(sweeps)])
    return [word for word in words if word.startswith(incomplete)]


Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="Sweep spec in YAML.", autocompletion=complete_spec)]
Sweep = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="Sweep id, sweep name for the latest of that name, or s3://BUCKET/PREFIX/ID.",
        autocompletion=complete_sweep,
    ),
]
Sweeps = Annotated[
    list[str],
    typer.Argument(metavar="SWEEP...", help="Sweep ids, names, or addresses.", autocompletion=complete_sweep),
]
MaybeSweep = Annotated[
    str | None, typer.Argument(metavar="SWEEP", help="Default: the latest sweep.", autocompletion=complete_sweep)
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field; repeatable.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="local (default): start Ray on this machine; processes: start workers on it without Ray; "
        "auto, or HOST:PORT: join a running Ray cluster; http://HOST:8265: submit to its dashboard. Also RAY_ADDRESS.",
        show_default=False,
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return when the sweep has begun; with http://HOST:8265.")]
SharedResults = Annotated[
    bool,
    typer.Option("--shared-results", help="storage.uri is on a disk that all nodes mount; with http://HOST:8265."),
]
StorageFolder = Annotated[
    str, typer.Option("--storage", help="Storage of the sweeps: a folder, or s3://BUCKET/PREFIX.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Epoch = Annotated[int | None, typer.Option("--epoch", min=1, help="Compare trials at this epoch.", show_default=False)]
