"""Commands of the panel Run: check, plan, launch, resume, trial."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from datetime import timedelta
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
from orchestrator.decisions.retention import most_stored
from orchestrator.errors import MAX_LINE_LENGTH, PreflightError, cut, quoted
from orchestrator.execution.cluster import submission
from orchestrator.execution.cluster.addresses import HERE, chosen_address, kind_of
from orchestrator.formatting import shown
from orchestrator.planning.batch_choice import trials_at_once
from orchestrator.planning.choices import sampler_choice
from orchestrator.planning.loading import load_spec, load_trial
from orchestrator.planning.points import first_points, num_trials
from orchestrator.scheduling.rungs import seeds_at
from orchestrator.spec.baseline import strengths_of
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_lookup import find_sweep
from orchestrator.state.trial import CHECKPOINTS_KEPT

if TYPE_CHECKING:
    from orchestrator.analysis.batch_forecast import BatchForecast
    from orchestrator.analysis.forecast import Forecast, Probe, Range
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
    from orchestrator.analysis import forecast  # noqa: PLC0415  trains a trial for two epochs
    from orchestrator.analysis.batch_forecast import batch_forecast  # noqa: PLC0415
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
        batched = None if batch is None else asdict(batch)
        typer.echo(json.dumps({**_plan_json(loaded, expected, probe, seconds), "batch": batched}, indent=1))
        return
    for line in _plan_lines(loaded, expected, probe, seconds, batch=batch):
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


def _plan_json(spec: SweepSpec, expected: Forecast, probe: Probe, seconds: float) -> dict[str, object]:
    return {
        **asdict(expected),
        "sampler": sampler_choice(spec) or spec.search.sampler,
        "share": expected.share,
        "epoch_s": seconds,
        "hours": asdict(expected.seconds.scaled(seconds / 3600)),
        "mlflow_runs": _most_trials(expected) + 1,
        "mlflow_metric_rows": asdict(_metric_rows(expected, probe)),
        "checkpoint_bytes": probe.checkpoint_bytes,
        "storage_bytes": asdict(_storage(spec, expected, probe)),
    }


def _plan_lines(
    spec: SweepSpec, expected: Forecast, probe: Probe, seconds: float, *, batch: BatchForecast | None
) -> list[str]:
    kind = "promotion" if expected.pauses else "stopping"
    if spec.scheduler.chosen in {"none", "pbt"}:
        kind = "no early stopping" if spec.scheduler.chosen == "none" else _population(spec)
    seeds = spec.search.seeds
    size, full = _storage(spec, expected, probe), expected.num_trials * expected.max_epochs * seeds
    mode = f"{expected.slots} at a time; {spec.scheduler.chosen}, {kind}"
    *rungs, end = expected.reached.items()
    levels, at_most = [rung for rung, _ in rungs], " at most" if seeds > 1 else ""
    return [
        f"{spec.name}: {num_trials(spec)} of at most {expected.max_epochs} epochs, {mode}",
        *([f"scheduler: {expected.reason}"] if expected.reason else []),
        *(f"  rung {rung:>4}: reached by {_shown(trials)} {_kind(spec, rung, levels)}" for rung, trials in rungs),
        f"  end  {end[0]:>4}: reached by {_shown(end[1])} {_kind(spec, end[0], levels)}",
        *([] if (choice := sampler_choice(spec)) is None else [f"sampler  {choice}"]),
        f"epochs   {_shown(expected.epochs)}, {expected.share:.0%} of {full:,}",
        f"gradients {_shown(expected.gradient_evaluations)} at each image, {expected.gradient_share:.0%} of all",
        *_too_small(spec, expected),
        *([] if batch is None else [f"batch    {batch.reason}"]),
        f"time     {_clock(expected.seconds.scaled(seconds))}, at {seconds:.2g} s for an epoch without attacks",
        f"MLflow   {_most_trials(expected) + 1:,} runs{at_most}, {_shown(_metric_rows(expected, probe))} metric rows",
        f"storage  {_shown(size.scaled(1e-6), 1)} MB of checkpoints of {probe.checkpoint_bytes / 1e6:.2g} MB each"
        + _kept(spec),
    ]


def _too_small(spec: SweepSpec, expected: Forecast) -> list[str]:
    """Return the warning about a budget in which no trial would end but the baseline."""
    if not expected.cheapest_share:
        return []
    budget = f"{spec.scheduler.budget_fraction:g} of {expected.num_trials} trials"
    cheapest = f"the cheapest sweep that does costs {expected.cheapest_share:.2f} of them, and runs instead"
    return [f"budget   {budget} ends none but the baseline; {cheapest}"]


def _population(spec: SweepSpec) -> str:
    """Return what population based training does, in words: epochs are those of a sweep without early stopping."""
    members = spec.search.num_trials - 1
    replaced = min(int(members * spec.scheduler.quantile), (members - 1) // 2)
    return f"{members} members and the baseline, up to {replaced} of them replaced at each rung"


def _most_trials(expected: Forecast) -> int:
    return expected.num_trials * expected.seeds


def _kind(spec: SweepSpec, level: int, rungs: list[int]) -> str:
    """Return what reaches a level: trials, or configurations with the seeds that they are compared by there."""
    if spec.search.seeds == 1:
        return "trials"
    seeds = dict(zip(rungs, seeds_at(rungs, spec.search.seeds), strict=True)).get(level, spec.search.seeds)
    return f"configurations with {seeds} seed{'' if seeds == 1 else 's'}"


def _kept(spec: SweepSpec) -> str:
    best = spec.storage.keep_best
    return "" if best is None else f" at most, those of {best} trials at the end"


def _shown(value: Range, digits: int = 0) -> str:
    mean, low, high = (f"{number:,.{digits}f}" for number in (value.mean, value.low, value.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def _clock(value: Range) -> str:
    mean, low, high = (str(timedelta(seconds=round(number))) for number in (value.mean, value.low, value.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def _metric_rows(expected: Forecast, probe: Probe) -> Range:
    """Return the metric rows of all epochs; an epoch at a rung, and a last epoch, has more of them."""
    at_rungs = sum(trials.mean for trials in expected.reached.values())
    more = at_rungs * (probe.metrics_at_rung - probe.metrics)
    ordinary = expected.epochs.scaled(probe.metrics)
    return type(ordinary)(ordinary.mean + more, ordinary.low + more, ordinary.high + more)


def _storage(spec: SweepSpec, expected: Forecast, probe: Probe) -> Range:
    """Return the bytes of the newest checkpoints of each attempt; each promotion of a trial adds an attempt.

    With ``storage.keep_best`` that is the most at one time, as paused trials wait with theirs.
    """
    _, *later = expected.reached.values()
    keep_best = spec.storage.keep_best
    stored = most_stored(_most_trials(expected), keep_best=keep_best, pauses=expected.pauses, live=expected.slots)
    attempts = stored + (sum(trials.mean for trials in later) if expected.pauses else 0)
    least = float(stored * probe.checkpoint_bytes)
    most = CHECKPOINTS_KEPT * attempts * probe.checkpoint_bytes
    return type(expected.epochs)((least + most) / 2, least, most)
