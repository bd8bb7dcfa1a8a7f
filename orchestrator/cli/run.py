"""Commands of the panel Run: check, plan, launch, resume, trial."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from orchestrator.cli.arguments import RESULTS, Address, AsJson, Set, Spec, StorageFolder, Sweep
from orchestrator.errors import PreflightError
from orchestrator.planning.loading import load_spec, load_trial
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep

if TYPE_CHECKING:
    from orchestrator.analysis.forecast import Forecast, Probe, Range
    from orchestrator.analysis.result import SweepResult
    from orchestrator.spec.model import SweepSpec

Slots = Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: what this machine has room for.")]
Seconds = Annotated[
    float | None, typer.Option("--epoch-s", min=0, help="Seconds of a plain epoch; default: the baseline is tried out.")
]
CHECKPOINTS_KEPT = 2


def check(spec: Spec, overrides: Set = None) -> None:
    """Check a spec, without starting anything: every mistake at once."""
    _say(f"{spec}: valid. {_describe(load_spec(spec, overrides or []))}")


def plan(
    spec: Spec,
    overrides: Set = None,
    slots: Slots = None,
    epoch_s: Seconds = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Say what a sweep would cost.

    Rungs, trials that reach them, epochs, time, MLflow rows and storage; what cannot be is refused.
    """
    from orchestrator.analysis import forecast  # noqa: PLC0415  a forecast tries a trial out
    from orchestrator.execution import preflight  # noqa: PLC0415
    from orchestrator.scheduling.registry import pauses  # noqa: PLC0415

    loaded = load_spec(spec, overrides or [])
    preflight.check_here(loaded, address="local")
    slots = slots or _slots_here(loaded)
    probe = forecast.probe(loaded)
    seconds = probe.seconds if epoch_s is None else epoch_s
    found = forecast.forecast(loaded, slots=slots, pauses=pauses(loaded, slots=slots))
    _refuse_too_short(loaded, found, seconds)
    told = _plan_json(found, probe, seconds)
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    for line in _plan_lines(loaded, found, probe, seconds):
        typer.echo(line)


def launch(
    spec: Spec,
    overrides: Set = None,
    address: Address = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, run nothing.")] = False,  # noqa: FBT002
) -> None:
    """Run a new sweep."""
    loaded = load_spec(spec, overrides or [])
    if dry_run:
        from orchestrator.execution import preflight  # noqa: PLC0415  imports torch when it asks for models

        preflight.check_here(loaded, address=address)
        _say(f"{spec}: ready to launch. {_describe(loaded)}")
        return
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.live_display import display_for  # noqa: PLC0415

    _finish(launching.launch(loaded, address=address, watch=display_for(Console())))


def resume(sweep: Sweep, address: Address = "local", folder: StorageFolder = RESULTS) -> None:
    """Go on with an interrupted or killed sweep."""
    from orchestrator import launching  # noqa: PLC0415  imports what a run needs
    from orchestrator.cli.live_display import display_for  # noqa: PLC0415

    found = find_sweep(folder, sweep)
    _finish(launching.resume(found, address=address, watch=display_for(Console())))


def trial(spec: Spec, overrides: Set = None) -> None:
    """Run one trial in this process, without Ray: the spec's baseline, with ``--set trial.NAME=VALUE`` on top."""
    from orchestrator.execution import local_trial as single  # noqa: PLC0415  imports torch

    single.run(load_trial(spec, overrides or []), say=_say)


def _finish(result: SweepResult) -> None:
    from orchestrator.cli.live_display import print_summary  # noqa: PLC0415

    print_summary(Console(), result.plan, result.state, command=_command(), sweep=reference(result.folder))
    if len(result.state.with_status("failed")) > result.plan.spec.failures.allowed:
        raise typer.Exit(1)


def _describe(spec: SweepSpec) -> str:
    searched = len(spec.space.names)
    return f"{spec.search.num_trials} trials over {searched} parameters, {spec.objective.mode} {spec.objective.metric}."


def _command() -> str:
    """How this command was called, so that the commands we print can be pasted."""
    called = sys.argv[0]
    return "ravel" if shutil.which("ravel") == called else called


def _say(line: str) -> None:
    typer.echo(line)


def _slots_here(spec: SweepSpec) -> int:
    """As many as the processors of this machine have room for; GPUs are counted by those who connect to a cluster."""
    from orchestrator.execution.ray_cluster import Capacity, Node  # noqa: PLC0415

    return Capacity((Node(cpus=os.cpu_count() or 1, gpus=0.0),)).slots(spec.resources, 0.0)


def _refuse_too_short(spec: SweepSpec, found: Forecast, seconds: float) -> None:
    limit, needed = spec.budget.wall_clock_s, found.max_epochs * seconds
    if limit is not None and limit < needed:
        told = f"one trial of {found.max_epochs} epochs takes about {needed:.0f} s, the sweep has {limit:g}"
        raise PreflightError([f"budget.wall_clock_s: {told}; give it more, or its trials fewer epochs"])


def _plan_json(found: Forecast, probe: Probe, seconds: float) -> dict[str, object]:
    return {
        **asdict(found),
        "share": found.share,
        "epoch_s": seconds,
        "hours": asdict(found.seconds.scaled(seconds / 3600)),
        "mlflow_runs": found.num_trials + 1,
        "mlflow_metric_rows": asdict(_metric_rows(found, probe)),
        "checkpoint_bytes": probe.checkpoint_bytes,
        "storage_bytes": asdict(_storage(found, probe)),
    }


def _plan_lines(spec: SweepSpec, found: Forecast, probe: Probe, seconds: float) -> list[str]:
    kind = "nobody is stopped" if spec.scheduler.name == "none" else "promotion" if found.pauses else "stopping"
    size, full = _storage(found, probe), found.num_trials * found.max_epochs
    how = f"{found.slots} at a time; {spec.scheduler.name}, {kind}"
    *rungs, end = found.reached.items()
    return [
        f"{spec.name}: {found.num_trials} trials of at most {found.max_epochs} epochs, {how}",
        *(f"  rung {rung:>4}: {_shown(trials)} trials come so far" for rung, trials in rungs),
        f"  end  {end[0]:>4}: {_shown(end[1])} trials come so far",
        f"epochs   {_shown(found.epochs)}, {found.share:.0%} of {full:,}",
        f"time     {_clock(found.seconds.scaled(seconds))}, at {seconds:.2g} s for an epoch without attacks",
        f"MLflow   {found.num_trials + 1:,} runs, {_shown(_metric_rows(found, probe))} metric rows",
        f"storage  {_shown(size.scaled(1e-6), 1)} MB of checkpoints of {probe.checkpoint_bytes / 1e6:.2g} MB each",
    ]


def _shown(value: Range, digits: int = 0) -> str:
    mean, low, high = (f"{each:,.{digits}f}" for each in (value.mean, value.low, value.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def _clock(value: Range) -> str:
    mean, low, high = (str(timedelta(seconds=round(each))) for each in (value.mean, value.low, value.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def _metric_rows(found: Forecast, probe: Probe) -> Range:
    """What each epoch measures, and what rungs and last epochs measure beside it."""
    at_rungs = sum(trials.mean for trials in found.reached.values())
    more = at_rungs * (probe.metrics_at_rung - probe.metrics)
    ordinary = found.epochs.scaled(probe.metrics)
    return type(ordinary)(ordinary.mean + more, ordinary.low + more, ordinary.high + more)


def _storage(found: Forecast, probe: Probe) -> Range:
    """The newest checkpoints of each attempt: a trial that waited has one more for each rung it went on from."""
    _, *later = found.reached.values()
    attempts = found.num_trials + (sum(trials.mean for trials in later) if found.pauses else 0)
    least = float(found.num_trials * probe.checkpoint_bytes)
    most = CHECKPOINTS_KEPT * attempts * probe.checkpoint_bytes
    return type(found.epochs)((least + most) / 2, least, most)
