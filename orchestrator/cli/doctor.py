"""Command doctor: check this machine, its servers and a cluster, and say how to mend what is broken."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.shared.arguments import Address, AsJson, Set, complete_spec
from orchestrator.execution.cluster.addresses import chosen_address

MaybeSpec = Annotated[
    Path | None,
    typer.Argument(metavar="SPEC", help="Sweep spec to check this machine for.", autocompletion=complete_spec),
]
PANEL = "Maintain"

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel doctor sweep.yaml --address auto")
def doctor(
    spec: MaybeSpec = None,
    overrides: Set = None,
    address: Address = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="Storage to check.  [default: the spec's, else results]")
    ] = None,
    *,
    start_ray: Annotated[bool, typer.Option("--start-ray", help="Start a private Ray, which takes a while.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, its servers and a cluster; print the fix for each fault.

    With SPEC, import its modules and read its data too. Exit with 0 if nothing failed, with 2 if the spec is wrong,
    else with 3. What is written for a check is removed.
    """
    from orchestrator.doctor import checkup, output  # noqa: PLC0415  imports what each check needs

    subject = checkup.Subject(
        spec=None if spec is None else str(spec),
        overrides=tuple(overrides or ()),
        address=chosen_address(address),
        storage=storage,
        start_ray=start_ray,
    )
    diagnosis = checkup.check_up(subject)
    typer.echo(json.dumps(output.as_json(diagnosis), indent=1) if as_json else "\n".join(output.lines(diagnosis)))
    if diagnosis.is_cut_short:  # a thread may wait in the kernel for ever, and a library may wait for it
        sys.stdout.flush()
        os._exit(diagnosis.exit_code)
    raise typer.Exit(diagnosis.exit_code)
