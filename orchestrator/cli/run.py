"""Commands of the panel Run: check, plan, launch, resume, trial."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orchestrator.cli import jobs
from orchestrator.cli.shared.arguments import (
    RESULTS,
    Address,
    AsJson,
    Detach,
    Set,
    SharedResults,
    Spec,
    StorageFolder,
    Sweep,
)
from orchestrator.cli.shared.plan_output import plan_json, plan_lines
from orchestrator.errors import MAX_LINE_LENGTH, PreflightError, cut, quoted
from orchestrator.execution.cluster import submission
from orchestrator.execution.cluster.addresses import HERE, chosen_address, kind_of
from orchestrator.formatting import shown
from orchestrator.planning.batch_choice import trials_at_once
from orchestrator.planning.loading import load_spec, load_trial
from orchestrator.planning.points import first_points, num_trials
from orchestrator.spec.baseline import strengths_of
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep

if TYPE_CHECKING:
    from orchestrator.analysis.forecast.forecast import Forecast
    from orchestrator.analysis.result import SweepResult
    from orchestrator.spec.model import SweepSpec

Slots = Annotated[
    int | None, typer.Option(min=1, help="Trials at a time; default: as many as this machine has room for.")
]
Seconds = Annotated[
    float | None,
    typer.Option("--epoch-s", min=0, help="Seconds of a plain epoch; default: measured, by training the baseline."),
]
SweepId = Annotated[
    str | None, typer.Option("--id", hidden=True, help="Id of the sweep, chosen when it was submitted.")
]
PANEL = "Run"
DRY_RUN = "`ravel launch SPEC --dry-run`"

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog="Example: ravel check examples/digits.yaml")
def check(spec: Spec, overrides: Set = None) -> None:
    """Check a spec and list every mistake; start nothing."""
    from orchestrator.execution import preflight, trial_checks  # noqa: PLC0415  imports torch for a user's own network

    loaded = load_spec(spec, overrides or [])
    trial_checks.check_own_code(loaded)
    _say(f"{spec}: valid. {describe(loaded)}")
    if networks := preflight.unequal_networks(loaded):
        _say(
            f"resources.workers: each of {loaded.resources.workers} workers normalises its own share of a batch, so a "
            "network with batch normalisation trains otherwise than with one worker, unless you set "
            f"model.sync_batch_norm: {', '.join(networks)}"
        )
    _say(f"baseline: {_baseline(loaded)}")
    roots = "".join(f", data.root {quoted(root)}" for root in _roots(loaded))
    _say(f"not built, read or called yet: networks and their layers, data, metrics{roots}; {DRY_RUN} does that")


@app.command(rich_help_panel=PANEL, epilog="Example: ravel plan examples/digits.yaml --set search.num_trials=64")
def plan(
    spec: Spec,
    overrides: Set = None,
    slots: Slots = None,
    epoch_s: Seconds = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Forecast the cost of a sweep: rungs, epochs, time, storage.

    Print how many trials reach each rung, the epochs, the time, MLflow's rows and the size of the checkpoints. Refuse
    a sweep that cannot run.
    """
    from orchestrator.analysis.forecast import forecast  # noqa: PLC0415  trains a trial for two epochs
    from orchestrator.analysis.forecast.batches import batch_forecast  # noqa: PLC0415
    from orchestrator.execution import preflight  # noqa: PLC0415
    from orchestrator.scheduling.registry import pauses  # noqa: PLC0415

    loaded = load_spec(spec, overrides or [])
    preflight.check_here(loaded, address="local" if loaded.resources.batch in {1, "auto"} else "processes")
    workers = _workers_here(loaded)
    batch = batch_forecast(loaded, workers=workers)
    slots = slots or trials_at_once(workers, 1 if batch is None else batch.size, loaded.resources)
    probe = forecast.probe(loaded)
    seconds = (probe.seconds if epoch_s is None else epoch_s) * (1.0 if batch is None else batch.slowdown)
    expected = forecast.forecast(loaded, slots=slots, pauses=pauses(loaded, slots=slots))
    _refuse_too_short(loaded, expected, seconds)
    if as_json:
        typer.echo(json.dumps(plan_json(loaded, expected, probe, seconds, batch=batch), indent=1))
        return
    for line in plan_lines(loaded, expected, probe, seconds, batch=batch):
        typer.echo(line)


@app.command(rich_help_panel=PANEL, epilog="Example: ravel launch examples/digits.yaml --set search.num_trials=64")
def launch(  # noqa: PLR0917  typer passes them by name
    spec: Spec,
    overrides: Set = None,
    address: Address = None,
    dry_run: Annotated[  # noqa: FBT002
        bool, typer.Option("--dry-run", help="Check the spec and this machine; start nothing.")
    ] = False,
    detach: Detach = False,  # noqa: FBT002
    shared_results: SharedResults = False,  # noqa: FBT002
    sweep: Annotated[
        str | None, typer.Option("--id", hidden=True, help="Id of the sweep; a job has chosen it.")
    ] = None,
) -> None:
    """Launch a new sweep and show its progress."""
    address = chosen_address(address)
    loaded = load_spec(spec, overrides or [])
    if kind_of(address) == "dashboard":
        jobs.launch(loaded, address, shared_results=shared_results, detach=detach, dry_run=dry_run)
        return
    jobs.refuse_elsewhere({"--detach": detach, submission.SHARED: shared_results})
    if dry_run:
        from orchestrator.execution import preflight  # noqa: PLC0415  imports torch when it builds models

        preflight.check_here(loaded, address=address)
        if kind_of(address) not in HERE:
            from orchestrator.execution.cluster import gcs  # noqa: PLC0415

            _say(f"would join {gcs.probe(gcs.resolved(address))}")
        _say(f"{spec}: ready to launch. {describe(loaded)}")
        return
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.shared.live_display import display_for  # noqa: PLC0415

    _say(f"{spec}: {describe(loaded)}\nchecking data, models and storage ...")
    finish(launching.launch(loaded, address=address, callback=display_for(Console()), sweep=sweep))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel resume digits")
def resume(
    sweep: Sweep,
    address: Address = None,
    folder: StorageFolder = RESULTS,
    detach: Detach = False,  # noqa: FBT002
    shared_results: SharedResults = False,  # noqa: FBT002
) -> None:
    """Resume a sweep that was interrupted or killed."""
    address = chosen_address(address)
    if kind_of(address) == "dashboard":
        jobs.resume(find_sweep(folder, sweep), address, shared_results=shared_results, detach=detach)
        return
    jobs.refuse_elsewhere({"--detach": detach, submission.SHARED: shared_results})
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.shared.live_display import display_for  # noqa: PLC0415

    finish(launching.resume(find_sweep(folder, sweep), address=address, callback=display_for(Console())))


@app.command(rich_help_panel=PANEL, epilog="Example: ravel trial examples/digits.yaml --set trial.snnl.weight=-0.1")
def trial(spec: Spec, overrides: Set = None) -> None:
    """Train one trial in this process, without Ray.

    Train the spec's baseline; set other parameters with --set trial.NAME=VALUE.
    """
    from orchestrator.execution import local_trial  # noqa: PLC0415  imports torch

    local_trial.run(load_trial(spec, overrides or []), say=_say)


def finish(result: SweepResult) -> None:
    """Print the summary of a sweep that ended, and exit with 1 if more trials failed than are allowed."""
    from orchestrator.cli.shared.live_display import print_summary  # noqa: PLC0415
    from orchestrator.execution import signals  # noqa: PLC0415

    signals.ignore()
    print_summary(Console(), result.plan, result.state, command=_command(), sweep=reference(result.folder))
    if len(result.state.with_status("failed")) > result.plan.spec.failures.allowed:
        raise typer.Exit(1)


def describe(spec: SweepSpec) -> str:
    """Return the size and the objective of a sweep in one line."""
    num_parameters = len(spec.space.names)
    trials = f"{num_trials(spec)} over {num_parameters} parameters"
    return f"{trials}, {spec.objective.mode} {spec.objective.metric}."


def _baseline(spec: SweepSpec) -> str:
    """Return the searched parameters of the first trial in one line: their values, and the methods that are off."""
    (_, point), *_ = first_points(spec)
    strengths = strengths_of(spec)
    values = {name: value for name, value in point.items() if name in spec.space.names and name not in spec.trial}
    used = ", ".join(f"{name} {shown(value)}" for name, value in values.items() if name not in strengths)
    off = ", ".join(name for name in values if name in strengths)
    return cut(f"{used or 'the values of trial'}{f'; off: {off}' if off else ''}", MAX_LINE_LENGTH)


def _roots(spec: SweepSpec) -> list[str]:
    """Return the folders of data that the trials read."""
    searched = spec.space.parameters.get("data.root")
    values = (spec.trial.get("data.root"), *getattr(searched, "options", ()))
    return [value for value in dict.fromkeys(values) if isinstance(value, str)]


def _command() -> str:
    """Return the command as it was called, so that a reader can paste the commands we print."""
    called = sys.argv[0]
    return "ravel" if shutil.which("ravel") == called else called


def _say(line: str) -> None:
    typer.echo(line)


def _workers_here(spec: SweepSpec) -> int:
    """Return the number of workers that the processors of this machine have room for; nothing else is counted."""
    from orchestrator.execution.cluster.capacity import Capacity, Node  # noqa: PLC0415
    from orchestrator.execution.cores import cores_here  # noqa: PLC0415

    resources = spec.resources.model_copy(update={"custom": {}})
    return Capacity((Node(cpus=cores_here(), gpus=0.0),)).slots(resources, 0.0)


def _refuse_too_short(spec: SweepSpec, expected: Forecast, seconds: float) -> None:
    limit, needed = spec.budget.wall_clock_s, expected.max_epochs * seconds
    if limit is not None and limit < needed:
        reason = f"one trial of {expected.max_epochs} epochs takes about {needed:.0f} s, the sweep has {limit:g}"
        raise PreflightError([f"budget.wall_clock_s: {reason}; give it more, or its trials fewer epochs"])
