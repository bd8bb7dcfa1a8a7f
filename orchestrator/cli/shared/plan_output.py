"""Forecast of a sweep in words and as JSON, for ``ravel plan``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator.decisions.retention import most_stored
from orchestrator.planning.choices import sampler_choice
from orchestrator.planning.points import num_trials
from orchestrator.scheduling.rungs import seeds_at
from orchestrator.state.trial import CHECKPOINTS_KEPT

if TYPE_CHECKING:
    from orchestrator.analysis.forecast.batches import BatchForecast
    from orchestrator.analysis.forecast.forecast import Forecast, Probe, Range
    from orchestrator.spec.model import SweepSpec


def plan_json(
    spec: SweepSpec, expected: Forecast, probe: Probe, seconds: float, *, batch: BatchForecast | None
) -> dict[str, object]:
    """Return the forecast for programs; ``seconds`` are those of an epoch."""
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
        "batch": None if batch is None else asdict(batch),
    }


def plan_lines(
    spec: SweepSpec, expected: Forecast, probe: Probe, seconds: float, *, batch: BatchForecast | None
) -> list[str]:
    """Return the forecast in lines; ``seconds`` are those of an epoch."""
    kind = "promotion" if expected.pauses else "stopping"
    if spec.scheduler.chosen in {"none", "pbt"}:
        kind = "no early stopping" if spec.scheduler.chosen == "none" else population(spec)
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


def population(spec: SweepSpec) -> str:
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
