"""``ravel plan``, ``ravel replay`` and ``ravel audit``: what a scheduler will do, did, and should have done."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.analysis.result import SweepResult
from orchestrator.cli.arguments import RESULTS, AsJson, Set, Spec, StorageFolder, Sweep
from orchestrator.errors import OrchestratorError, PreflightError
from orchestrator.planning.loading import load_spec
from orchestrator.state.sweep_lookup import find_sweep

if TYPE_CHECKING:
    from orchestrator.analysis.forecast import Forecast, Probe, Range
    from orchestrator.analysis.replay import Replay
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.simulator import Outcome
    from orchestrator.spec.model import SweepSpec

Slots = Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: what this machine has room for.")]
Seconds = Annotated[
    float | None, typer.Option("--epoch-s", min=0, help="Seconds of a plain epoch; default: the baseline is tried out.")
]
WhatIf = Annotated[
    list[str] | None,
    typer.Option("--what-if", metavar="scheduler.FIELD=VALUE", help="Decide by other settings; repeatable."),
]
CHECKPOINTS_KEPT = 2


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


def replay(
    sweep: Sweep,
    what_if: WhatIf = None,
    folder: StorageFolder = RESULTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Make every decision of a sweep again.

    Or see what other scheduler settings would have decided, with --what-if.
    """
    from orchestrator.analysis import replay as replaying  # noqa: PLC0415  the search asks Optuna again
    from orchestrator.state.event_log import read_events  # noqa: PLC0415

    result = SweepResult.read(find_sweep(folder, sweep))
    events = [event for event, _ in read_events(result.folder.events)]
    if what_if:
        workers = replaying.most_at_once(events)
        other, outcome = replaying.what_if(result.plan, result.state, what_if, workers=workers)
        typer.echo(_what_if_text(result, other, outcome, as_json=as_json))
        return
    found = replaying.replay(result.plan, events)
    typer.echo(json.dumps(asdict(found), indent=1) if as_json else _replay_text(result.sweep, found))
    if found.differences:
        raise typer.Exit(OrchestratorError.exit_code)


def audit(sweep: Sweep, folder: StorageFolder = RESULTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Report what early stopping cost.

    Of a sweep with scheduler.audit: how often and by how much rejected trials would have been better.
    """
    found = SweepResult.read(find_sweep(folder, sweep)).audit()
    typer.echo(json.dumps(_plain(asdict(found)), indent=1) if as_json else "\n".join(found.lines()))


def _plain(value: Any) -> Any:
    """As strict JSON has it: what is not finite is null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def _replay_text(sweep: str, found: Replay) -> str:
    made = ", ".join(f"{count} {kind}" for kind, count in found.counts.items())
    if not found.differences:
        return f"{sweep}: every decision came out as recorded ({made})"
    lines = [
        f"  line {each.event}, {each.kind}: recorded {each.recorded}, now {each.replayed}" for each in found.differences
    ]
    told = f"{sweep}: {len(found.differences)} of {sum(found.counts.values())} decisions came out otherwise ({made})"
    return "\n".join([told, *lines])


def _what_if_text(result: SweepResult, other: SweepPlan, outcome: Outcome, *, as_json: bool) -> str:
    from orchestrator.analysis.replay import winner  # noqa: PLC0415

    best = winner(outcome)
    unknown = [trial for _, trial, what, _ in outcome.decisions if what == "unknown"]
    ends = {trial: each.level for trial, each in outcome.views.views.items()}
    recorded = {trial.id: trial.epoch for trial in result.state.trials.values()}
    if as_json:
        told = {"rungs": other.rungs, "epochs": outcome.spent, "best": best, "unknown": unknown, "ended_at": ends}
        return json.dumps({**told, "recorded_at": recorded}, indent=1)
    by_epoch = sorted((epoch, trial) for trial, epoch in ends.items() if epoch != recorded[trial])
    lines = [
        f"  {trial}: {epoch} epochs instead of {recorded[trial]}{', and on' if trial in unknown else ''}"
        for epoch, trial in by_epoch
    ]
    same = sum(epoch == recorded[trial] and trial not in unknown for trial, epoch in ends.items())
    rungs = ", ".join(map(str, other.rungs)) or "none"
    spent = f"{outcome.spent} epochs (recorded: {result.state.epochs_run})"
    return "\n".join(
        [
            f"{result.sweep} by other settings: rungs {rungs}, {spent}",
            f"best of those trained to their end: {best or 'none'} (recorded: {result.best().trial.id})",
            f"{same} of {len(ends)} trials end where they did",
            *lines,
            *([f"unknown beyond their record: {', '.join(unknown)}"] if unknown else []),
        ]
    )
