"""Commands of the panel Change: stop, extend, fork."""

from __future__ import annotations

import re
import time
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from orchestrator.cli.arguments import RESULTS, Address, Set, StorageFolder, Sweep
from orchestrator.cli.run import describe, finish
from orchestrator.errors import OrchestratorError, SpecError, quoted
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep
from search_spaces import Problem, YamlError, dump_yaml, load_yaml

if TYPE_CHECKING:
    from orchestrator.orders.order import Order
    from orchestrator.spec.model import Point
    from orchestrator.state.events import OrderAccepted, OrderRefused
    from orchestrator.state.sweep_folder import SweepFolder

PANEL = "Change"
WAIT_S = 20.0
REFUSED, UNANSWERED = 2, 3
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the driver's answer.")]
BEST = 4

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel stop digits t003")
def stop(
    sweep: Sweep,
    trials: Annotated[
        list[str] | None, typer.Argument(metavar="[TRIAL]...", help="Trials to stop; default: the whole sweep.")
    ] = None,
    wait: Wait = WAIT_S,
    folder: StorageFolder = RESULTS,
) -> None:
    """Stop a running sweep, or some of its trials.

    Any machine that sees the sweep's folder, or its S3 address, may order it. The sweep ends as interrupted, and
    ravel resume continues it. A trial ends for good, and frees its slot at once.
    """
    from orchestrator.orders.order import stop_order  # noqa: PLC0415
    from orchestrator.state.sweep_lock import held_generation  # noqa: PLC0415

    store = find_sweep(folder, sweep)
    generation = held_generation(store)
    if generation is None:
        remedy = f"ravel resume {reference(store)} continues it, ravel extend {reference(store)} changes it"
        raise OrchestratorError(f"{store.sweep}: must have a driver to be stopped, and its driver is gone; {remedy}")
    _give(store, stop_order(now=time.time(), generation=generation, trials=trials or ()), wait_s=wait)


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
    overrides: Set = None,
    now: Annotated[
        bool, typer.Option("--now", help="Without a driver, apply the order here; ravel resume then runs it.")
    ] = False,
    wait: Wait = WAIT_S,
    folder: StorageFolder = RESULTS,
) -> None:
    """Extend a sweep: more trials, more epochs, further points.

    It may run, be interrupted, or be finished. All earlier trials count. Ids and the sampler continue; rungs stay
    where they are.
    """
    from orchestrator.orders.order import extend_order  # noqa: PLC0415

    store = find_sweep(folder, sweep)
    more, settings = _number_of(trials)
    settings += [] if epochs is None else [f"trial.epochs={epochs}"]
    order = extend_order(
        now=time.time(),
        more_trials=more,
        settings=[*settings, *(overrides or [])],
        points=[point for path in add_point or [] for point in _points(path)],
        retry_failed=retry_failed,
    )
    _require_one_number(order)
    _give(store, order, wait_s=wait, now=now)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel fork digits --name digits-wide --set search.sampler=gp")
def fork(
    sweep: Sweep,
    *,
    name: Annotated[str, typer.Option(help="Name of the new sweep.")],
    overrides: Set = None,
    best: Annotated[int, typer.Option(min=0, help="Best points of the earlier sweep to begin with.")] = BEST,
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the spec; start nothing.")] = False,
    folder: StorageFolder = RESULTS,
) -> None:
    """Launch a new sweep from the spec and the best points of an earlier one.

    Any setting may differ; the plan of the new sweep names the earlier one.
    """
    from orchestrator.analysis.result import SweepResult  # noqa: PLC0415
    from orchestrator.planning.fork import fork as fork_of  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    made = fork_of(result.plan, result.state, result.folder, name=name, settings=overrides or [], best=best)
    for report in made.reports:
        if report.notes:
            typer.echo(str(report), err=True)
    if dry_run:
        typer.echo(dump_yaml(made.spec.document()))
        return
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.live_display import display_for  # noqa: PLC0415

    typer.echo(f"{name}, a fork of {result.sweep}: {describe(made.spec)}")
    finish(launching.launch_fork(made, address=address, callback=display_for(Console())))


def _give(folder: SweepFolder, order: Order, *, wait_s: float, now: bool = False) -> None:
    """Write an order, wait for its answer and print it; without a driver, say when it will be applied."""
    from orchestrator.orders.book import submit  # noqa: PLC0415
    from orchestrator.orders.waiting import wait_for_answer  # noqa: PLC0415
    from orchestrator.state.log_segments import end_of  # noqa: PLC0415
    from orchestrator.state.sweep_lock import is_held  # noqa: PLC0415

    runs, start, notes = is_held(folder), end_of(folder.events), tuple[str, ...]()
    if not runs:
        preview = _preview(folder, order)
        if preview.kind == "order_refused":
            _print(folder, preview)
            return
        notes = preview.notes
    submit(folder, order)
    if not runs and not now:
        lines = "".join(f"\n  {note}" for note in notes)
        typer.echo(f"{folder.sweep}: written, to be applied by ravel resume {reference(folder)}{lines}")
        return
    if not runs:
        from orchestrator import launching  # noqa: PLC0415  imports what a run needs

        launching.answer_orders(folder)
    answer = wait_for_answer(folder, order.id, start=start, timeout_s=wait_s)
    if answer is None:
        remedy = "a driver that runs reads it, else ravel resume does; see ravel logs"
        typer.echo(f"{folder.sweep}: written, and not answered within {wait_s:g} s; {remedy}", err=True)
        raise typer.Exit(UNANSWERED)
    _print(folder, answer)


def _preview(folder: SweepFolder, order: Order) -> OrderAccepted | OrderRefused:
    """Return what the next driver will answer, as far as can be seen now."""
    from orchestrator.analysis.result import SweepResult  # noqa: PLC0415
    from orchestrator.decisions.trial_views import DecisionState  # noqa: PLC0415
    from orchestrator.orders.answers import answer  # noqa: PLC0415
    from orchestrator.planning.original import require_original  # noqa: PLC0415

    result = SweepResult.read(folder)
    require_original(result.plan, folder)
    decisions = DecisionState(result.plan, result.state)
    return answer(order, decisions, has_checkpoint=lambda trial: trial.has_final_checkpoint, now=time.time())


def _print(folder: SweepFolder, answer: OrderAccepted | OrderRefused) -> None:
    if answer.kind == "order_accepted":
        typer.echo(f"{folder.sweep}: accepted" + "".join(f"\n  {note}" for note in answer.notes))
        return
    typer.echo("\n".join([f"{folder.sweep}: refused", *(f"  {reason}" for reason in answer.reasons)]), err=True)
    raise typer.Exit(REFUSED)


def _number_of(trials: str | None) -> tuple[int | None, list[str]]:
    """Return further trials, or a setting with their number in all."""
    if trials is None:
        return None, []
    if not re.fullmatch(r"\+?[1-9]\d{0,6}", trials):
        raise SpecError([Problem("--trials", f"must be +N for N more, or their number in all; got {quoted(trials)}")])
    return (int(trials), []) if trials.startswith("+") else (None, [f"search.num_trials={trials}"])


def _require_one_number(order: Order) -> None:
    numbers = [setting for setting in order.settings if setting.partition("=")[0] == "search.num_trials"]
    if len(numbers) + (order.more_trials is not None) > 1:
        raise SpecError([Problem("--trials", "must be the one place with a number of trials; leave the rest out")])


def _points(path: Path) -> list[Point]:
    """Return the points of a YAML file: a mapping, or a list of mappings."""
    try:
        document: Any = load_yaml(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem(str(path), f"cannot be read: {getattr(error, 'strerror', error)}")]) from None
    except YamlError as error:
        raise SpecError([Problem(str(path), str(error).removeprefix(f"{path}: "))]) from None
    points = [document] if isinstance(document, dict) else document
    if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
        requirement = "must be a point (names and values), or a list of points"
        raise SpecError([Problem(str(path), f"{requirement}; got {quoted(document)}")])
    return points
