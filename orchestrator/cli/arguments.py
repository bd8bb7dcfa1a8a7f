"""The arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.state.sweep_folder import DEFAULT_STORAGE

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A sweep spec in YAML.")]
Sweep = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's id, its name for the latest, or s3://BUCKET/PREFIX/ID.")
]
MaybeSweep = Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="Default: the latest.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field; repeatable.")]
Address = Annotated[str, typer.Option(help="local, auto, or HOST:PORT of a running Ray cluster.")]
StorageFolder = Annotated[
    str, typer.Option("--storage", help="Where sweeps are kept: a folder, or s3://BUCKET/PREFIX.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RESULTS = DEFAULT_STORAGE
