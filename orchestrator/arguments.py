"""The arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import storage

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A sweep spec in YAML.")]
Sweep = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's id, or its name for the latest of that name.")]
MaybeSweep = Annotated[str | None, typer.Argument(metavar="[SWEEP]", help="Default: the latest.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field; repeatable.")]
Address = Annotated[str, typer.Option(help="local, auto, or HOST:PORT of a running Ray cluster.")]
StorageFolder = Annotated[Path, typer.Option("--storage", help="The folder sweeps are kept in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RESULTS = Path(storage.DEFAULT_STORAGE)
