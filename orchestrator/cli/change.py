"""Commands of the panel Change: stop, extend, fork, confirm."""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator import changing
from orchestrator.cli.run import describe, finish
from orchestrator.cli.shared.arguments import RESULTS, Address, AsJson, Set, StorageFolder, Sweep
from orchestrator.cli.shared.evaluation_options import (
    Suites,
    Track,
    evaluation_bar,
    evaluation_console,
    send_report,
    suites_of,
)
from orchestrator.errors import SpecError, quoted
from orchestrator.execution.cluster.addresses import OPTION, chosen_address, kind_of
from orchestrator.orders.order import extend_order
from orchestrator.planning.changes.fork import Fork
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem, YamlError, dump_yaml, load_yaml

if TYPE_CHECKING:
    from orchestrator.analysis.result import SweepResult
    from orchestrator.spec.model import Point
    from trainables.evaluation.core.report import Report

PANEL = "Change"
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the driver's answer.")]
Changed = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="New value of resources.max_concurrent, budget.*, failures.*, scheduler.budget_fraction or .audit; "
        "repeatable.",
    ),
]
MAX_POINTS_CHARACTERS = 1_000_000

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel stop digits t003")
def stop(
    sweep: Sweep,
    trials: Annotated[
        list[str] | None,
        typer.Argument(metavar="TRIAL", help="Trials to stop, by their ids; default: the whole sweep."),
    ] = None,
    wait: Wait = changing.WAIT_S,
    folder: StorageFolder = RESULTS,
) -> None:
    """Stop a running sweep, or some of its trials.

    Any machine that sees the sweep's folder, or its S3 address, may order it. The sweep ends as interrupted, and
    ravel resume continues it. A trial ends for good, and frees its slot at once. ravel status lists the orders.
    """
    typer.echo(changing.stop(find_sweep(folder, sweep), trials or (), wait_s=wait))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel extend digits --trials +64 --epochs 81")
def extend(
    sweep: Sweep,
    *,
    trials: Annotated[
        str | None, typer.Option(metavar="+N", help="Further trials; without +, their number in all.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a full run.")] = None,
    add_point: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Points to run next, in YAML; repeatable.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry the trials that failed.")] = False,
    overrides: Changed = None,
    now: Annotated[
        bool, typer.Option("--now", help="Without a driver, apply the order here; ravel resume then runs it.")
    ] = False,
    wait: Wait = changing.WAIT_S,
    folder: StorageFolder = RESULTS,
) -> None:
    """Extend a sweep: more trials, more epochs, further points.

    It may run, be interrupted, or be finished. All earlier trials count. Ids and the sampler continue; rungs stay
    where they are. Whatever else you want to change needs ravel fork. ravel status lists the orders.
    """
    order = extend_order(
        now=time.time(),
        trials=trials,
        epochs=epochs,
        points=[point for path in add_point or [] for point in _points(path)],
        retry_failed=retry_failed,
        settings=overrides or (),
    )
    typer.echo(changing.give(find_sweep(folder, sweep), order, wait_s=wait, now=now))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel fork digits --name digits-wide --set search.sampler=gp")
def fork(
    sweep: Sweep,
    *,
    name: Annotated[str, typer.Option(help="Name of the new sweep.")],
    overrides: Set = None,
    best: Annotated[int, typer.Option(min=0, help="Best points of the earlier sweep to begin with.")] = changing.BEST,
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spec; start nothing.")] = False,
    folder: StorageFolder = RESULTS,
) -> None:
    """Launch a new sweep from the spec and the best points of an earlier one.

    Any setting may differ; the plan of the new sweep names the earlier one.
    """
    _refuse_dashboard(address, "fork")
    earlier = find_sweep(folder, sweep)
    made = changing.fork(earlier, name, settings=overrides or (), best=best)
    for report in made.reports:
        if report.notes:
            typer.echo(str(report), err=True)
    if dry_run:
        typer.echo(dump_yaml(made.spec.document()))
        return
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.shared.live_display import display_for  # noqa: PLC0415

    typer.echo(f"{name}, a fork of {earlier.sweep}: {describe(made.spec)}")
    callback = display_for(Console())
    finish(launching.launch(made.spec, address=address, callback=callback, parent=made.parent))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel confirm digits --top 3 --seeds 5")
def confirm(
    sweep: Sweep,
    *,
    top: Annotated[int, typer.Option(min=1, help="Best configurations to confirm.")] = changing.TOP,
    seeds: Annotated[
        str | None, typer.Option(metavar="S", help="Fresh seeds, 5 by default; +N adds some to a confirmation.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new sweep; default: NAME-confirm.")] = None,
    suite: Suites = "clean",
    metric: Annotated[
        str | None, typer.Option(metavar="'NAME max|min'", help="Metric to compare; default: the objective's.")
    ] = None,
    overrides: Set = None,
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spec; start nothing.")] = False,
    track: Track = True,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Retrain the best configurations and a control with fresh seeds; test them once.

    The control has all methods off, and the other settings of the best trial. All have the same seeds, none is stopped.
    Of a confirmation, continue what was interrupted, and print its table.
    """
    _refuse_dashboard(address, "confirm")
    earlier = find_sweep(folder, sweep)
    confirmation = changing.plan_confirmation(
        earlier,
        name,
        top=top,
        seeds=seeds,
        suites=suites_of(suite),
        metric=metric,
        settings=overrides or (),
        dry_run=dry_run,
        notify=lambda answer: typer.echo(answer, err=True),
    )
    if isinstance(confirmation, Fork):
        spec = confirmation.spec
        if dry_run:
            typer.echo(dump_yaml(spec.document()))
            return
        typer.echo(f"{spec.name}, a confirmation of {earlier.sweep}: {describe(spec)}", err=True)
    from orchestrator.cli.shared.live_display import display_for  # noqa: PLC0415

    callback = display_for(Console(stderr=True))
    result = changing.run_confirmation(confirmation, address=address, callback=callback)
    _claim(result, track=track, as_json=as_json)


def _claim(result: SweepResult, *, track: bool, as_json: bool) -> None:
    """Evaluate the models of a confirmation once, and print what follows."""
    from orchestrator.analysis.claims.claim_output import plain_claim, point_in_words, sentences, table_of  # noqa: PLC0415
    from orchestrator.analysis.evaluation.confirmation import evaluated  # noqa: PLC0415
    from orchestrator.analysis.report.attaching import keep_claim  # noqa: PLC0415

    def send(report: Report, epoch: int, trial: str) -> None:
        if track:
            send_report(result.plan, report, epoch=epoch, trial=trial)

    with evaluation_bar(quiet=as_json) as progress:
        claimed = evaluated(result, progress=progress, track=send)
    keep_claim(result, claimed, track=track)
    if as_json:
        typer.echo(json.dumps({"sweep": result.sweep, "confirms": _lineage(result), **plain_claim(claimed)}, indent=1))
        return
    confirmed = result.plan.confirmation
    words = {} if confirmed is None else {item.name: point_in_words(item.point) for item in confirmed.configurations}
    console = evaluation_console()
    console.print(table_of(claimed))
    for line in sentences(claimed, words):
        console.print(line, highlight=False, soft_wrap=True)


def _lineage(result: SweepResult) -> dict[str, Any] | None:
    parent = result.plan.parent
    return None if parent is None else parent.model_dump()


def _refuse_dashboard(address: str | None, command: str) -> None:
    if kind_of(chosen_address(address)) == "dashboard":
        ways = "local, processes, auto or HOST:PORT"
        requirement = f"must be {ways} to {command} a sweep, got {quoted(chosen_address(address))}"
        raise SpecError([Problem(OPTION, f"{requirement}; run it on a node of the cluster, with --address auto")])


def _points(path: Path) -> list[Point]:
    """Return the points of a YAML file: a mapping, or a list of mappings."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_POINTS_CHARACTERS + 1)  # of a device, no end
        if len(text) > MAX_POINTS_CHARACTERS:
            raise SpecError([Problem(str(path), f"must have at most {MAX_POINTS_CHARACTERS:,} characters")])
        document: Any = load_yaml(text, source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem(str(path), f"cannot be read: {getattr(error, 'strerror', error)}")]) from None
    except YamlError as error:
        raise SpecError([Problem(str(path), str(error).removeprefix(f"{path}: "))]) from None
    points = [document] if isinstance(document, dict) else document
    if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
        requirement = "must be a point (names and values), or a list of points"
        raise SpecError([Problem(str(path), f"{requirement}; got {quoted(document)}")])
    return points
