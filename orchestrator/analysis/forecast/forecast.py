"""Forecast of a sweep's cost before it starts: simulate its scheduler on random curves, and probe one trial."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.trial_views import brackets_for, passes_per_epoch, stratum
from orchestrator.errors import PreflightError
from orchestrator.planning.choices import scheduler_choice
from orchestrator.planning.points import first_points, max_epochs_of
from orchestrator.scheduling.asha import Asha
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.registry import scheduler_of, whole_budget
from orchestrator.scheduling.rungs import expected_cost, weights
from orchestrator.scheduling.simulator import LearningCurve, simulate
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.scheduling.simulator import Outcome
    from orchestrator.spec.model import SweepSpec

MIN_SIMULATIONS, MAX_SIMULATIONS = 5, 40
ROUNDING = 1e-9
"""Of shares of a budget."""
MAX_TRIALS = 400
"""Larger sweeps are simulated with this many trials and scaled: the cost of a simulation grows quadratically."""


@dataclass(frozen=True, slots=True)
class Range:
    """A mean, and the bounds of the middle 90 % of the samples."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """Return the range of samples.

        >>> Range.of([1.0, 2.0, 3.0])
        Range(mean=2.0, low=1.0, high=3.0)
        """
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(fmean(values), ordered[round(0.05 * last)], ordered[round(0.95 * last)])

    def scaled(self, factor: float) -> Range:
        """Multiply by a factor."""
        return Range(self.mean * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of a sweep on ``slots`` slots; ``seconds`` assume a worker that needs one second for a plain epoch.

    ``reached`` counts the trials that reach each rung; its last entry, ``max_epochs``, those that reach their end.
    """

    slots: int
    pauses: bool
    num_trials: int
    max_epochs: int
    reached: dict[int, Range]
    epochs: Range
    seconds: Range
    gradient_evaluations: Range
    """Gradient evaluations at each training image: 1 for a plain epoch, k more for an attack of k steps."""
    gradient_share: float
    """Share of the gradient evaluations of a sweep without early stopping."""
    seeds: int = 1
    """Seeds of a configuration at most; ``num_trials`` counts configurations then."""
    reason: str = ""
    """Scheduler that ``auto`` chose, and why."""
    cheapest_share: float = 0.0
    """Share that the cheapest sweep costs which ends one trial besides the baseline, where the budget is smaller."""

    @property
    def share(self) -> float:
        """Share of the epochs of a sweep without early stopping."""
        return self.epochs.mean / (self.num_trials * self.seeds * self.max_epochs)


def forecast(spec: SweepSpec, *, slots: int, pauses: bool) -> Forecast:
    """Forecast a sweep by the mean over random points and random rankings that stay the same at every epoch.

    Raises:
        PreflightError: the scheduler counts in another unit than epochs, whose cost is unknown before the sweep.
    """
    if spec.scheduler.rung_unit != "epochs":
        problem = f"scheduler.resource: must be epochs to forecast a sweep, got {spec.scheduler.rung_unit}"
        raise PreflightError([problem])
    max_epochs, num_trials = max_epochs_of(spec), spec.search.num_trials
    if num_trials > MAX_TRIALS:
        fewer = spec.search.model_copy(update={"num_trials": MAX_TRIALS})
        return _scaled(forecast(spec.model_copy(update={"search": fewer}), slots=slots, pauses=pauses), num_trials)
    scheduler = scheduler_of(spec, pauses=pauses, max_epochs=max_epochs)
    simulations = max(MIN_SIMULATIONS, min(MAX_SIMULATIONS, MAX_SIMULATIONS * MAX_SIMULATIONS // num_trials))
    passes = [_passes(spec, max_epochs, seed) for seed in range(simulations)]
    outcomes = [
        simulate(_curves(spec, scheduler, sampled, seed), scheduler, workers=slots, leaps=True)
        for seed, sampled in enumerate(passes)
    ]
    gradients = [float(_gradients(*pair, spec, scheduler)) for pair in zip(outcomes, passes, strict=True)]
    full = [sum(item.epochs * item.passes for item in sampled) * spec.search.seeds for sampled in passes]
    levels = (*(scheduler.rungs or ()), max_epochs)
    reached = [_reached(outcome, levels) for outcome in outcomes]
    return Forecast(
        slots=slots,
        pauses=pauses,
        num_trials=num_trials,
        max_epochs=max_epochs,
        reached={level: Range.of([counts[level] for counts in reached]) for level in levels if level <= max_epochs},
        epochs=Range.of([float(_spent(outcome, spec, scheduler)) for outcome in outcomes]),
        seconds=Range.of([outcome.ended_at for outcome in outcomes]),
        gradient_evaluations=Range.of(gradients),
        gradient_share=fmean(gradients) / fmean(full),
        seeds=spec.search.seeds,
        reason=scheduler_choice(spec, getattr(scheduler, "schedule", None), pauses=pauses),
        cheapest_share=_cheapest_share(spec, scheduler),
    )


def _spent(outcome: Outcome, spec: SweepSpec, scheduler: Scheduler) -> int:
    """Return the epochs of a simulated sweep; with several seeds, of all that each level needs. Racing saves some."""
    return sum(_epochs(outcome, spec, scheduler))


def _epochs(outcome: Outcome, spec: SweepSpec, scheduler: Scheduler) -> list[int]:
    """Return the epochs of each trial of a simulated sweep, in their order."""
    rungs = scheduler.rungs or ()
    used = dict(zip((0, *rungs), (0, *weights(rungs, spec.search.seeds)), strict=True))
    return [used.get(view.level, view.level * spec.search.seeds) for view in outcome.views.values()]


def _gradients(outcome: Outcome, sampled: Sequence[_Sampled], spec: SweepSpec, scheduler: Scheduler) -> int:
    """Return the gradient evaluations of a simulated sweep."""
    pairs = zip(_epochs(outcome, spec, scheduler), sampled, strict=True)
    return sum(epochs * trial.passes for epochs, trial in pairs)


def _cheapest_share(spec: SweepSpec, scheduler: Scheduler) -> float:
    """Return the budget with which one trial besides the baseline ends; 0 where the spec's is enough."""
    if not isinstance(scheduler, BudgetedAsha):
        return 0.0
    full = scheduler.schedule.maximum * spec.search.seeds
    share = whole_budget(spec, scheduler.schedule) / (spec.search.num_trials * full)
    return share if share > spec.scheduler.budget_fraction + ROUNDING else 0.0


def expected_epochs(plan: SweepPlan) -> float:
    """Estimate the epochs of a whole sweep quickly, as the total of its progress.

    A user's own scheduler is not asked: its code is not imported to read a sweep.
    """
    scheduler = plan.scheduler if plan.spec.scheduler.own is None else None
    num_trials, seeds = plan.spec.search.num_trials, plan.spec.search.seeds
    maximum = plan.max_epochs * seeds
    if isinstance(scheduler, BudgetedAsha):
        return scheduler.schedule.budget + maximum
    if isinstance(scheduler, Asha) and plan.spec.scheduler.rung_unit == "epochs":
        costs = [
            expected_cost(weights(bracket, seeds), scheduler.reduction_factor, maximum)
            for bracket in scheduler.brackets
        ]
        return len(costs) * num_trials / sum(1 / cost for cost in costs)
    return float(num_trials * maximum)


def _scaled(simulated: Forecast, num_trials: int) -> Forecast:
    """Scale a forecast to more trials."""
    factor = num_trials / simulated.num_trials
    return replace(
        simulated,
        num_trials=num_trials,
        reached={level: trials.scaled(factor) for level, trials in simulated.reached.items()},
        epochs=simulated.epochs.scaled(factor),
        gradient_evaluations=simulated.gradient_evaluations.scaled(factor),
        seconds=simulated.seconds.scaled(factor),
    )


@dataclass(frozen=True, slots=True)
class _Sampled:
    """Trial of an imagined sweep: its configuration, its epochs, and the passes of each."""

    config: dict[str, Any]
    epochs: int
    passes: int


def _passes(spec: SweepSpec, max_epochs: int, seed: int) -> list[_Sampled]:
    """Return the trials of a sweep of random points."""
    first = [point for _, point in first_points(spec)]
    sampled = spec.space.sample_many(max(0, spec.search.num_trials - len(first)), seed=seed)
    points = [*first, *sampled][: spec.search.num_trials]
    configs = [{**spec.trial, **point} for point in points]
    return [_Sampled(config, int(config.get("epochs", max_epochs)), passes_per_epoch(config)) for config in configs]


def _curves(spec: SweepSpec, scheduler: Scheduler, sampled: Sequence[_Sampled], seed: int) -> dict[str, LearningCurve]:
    rng = random.Random(seed)  # noqa: S311  a forecast, not a secret
    is_priced = isinstance(scheduler, BudgetedAsha) and scheduler.schedule.is_priced
    brackets = brackets_for(scheduler, len(sampled), max_epochs_of(spec))
    return {
        f"{index:06d}": LearningCurve(
            values=[(rng.random(),)] * trial.epochs,
            seconds=[factor * trial.passes for factor in _seeds_per_epoch(spec, scheduler, trial.epochs)],
            bracket=bracket,
            stratum=stratum(trial.config, spec),
            exempt=index == 0,
            cost=trial.passes if is_priced else 1,
        )
        for index, (trial, bracket) in enumerate(zip(sampled, brackets, strict=True))
    }


def _seeds_per_epoch(spec: SweepSpec, scheduler: Scheduler, epochs: int) -> list[float]:
    """Return the epochs that a configuration trains for each epoch of its way, its seeds one after the other."""
    if spec.search.seeds == 1:
        return [1.0] * epochs
    rungs = scheduler.rungs or ()
    levels = (0, *rungs, epochs)
    used = (0, *weights(rungs, spec.search.seeds), epochs * spec.search.seeds)
    return [
        (after - before) / (end - start)
        for start, end, before, after in zip(levels, levels[1:], used, used[1:], strict=False)
        for _ in range(end - start)
    ]


def _reached(outcome: Outcome, levels: Sequence[int]) -> Counter[int]:
    return Counter(level for view in outcome.views.values() for level in levels if view.level >= level)


@dataclass(frozen=True, slots=True)
class Probe:
    """Measured cost of one trial of a spec: the baseline, for two epochs, in this process.

    ``seconds`` and ``metrics`` are of an ordinary epoch, ``metrics_at_rung`` of one at a rung, which measures more.
    """

    seconds: float
    checkpoint_bytes: int
    metrics_at_rung: int
    metrics: int


def probe(spec: SweepSpec) -> Probe:
    """Train the baseline for two epochs, or one if it has only one, and save it.

    Raises:
        TrainableError: it cannot be trained.
    """
    import torch  # noqa: PLC0415  slow to import

    from orchestrator.execution.local_trial import config_of  # noqa: PLC0415

    task = task_of(spec.trial)
    at_rung = {"evaluation.epochs": [1]} if "evaluation.epochs" in task.parameter_names else {}
    config = task.from_point({**config_of(spec).to_point(), **at_rung})
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    try:
        run = task.start(config)
        first = run.run_epoch()
        last = first if run.finished else run.run_epoch()
        with tempfile.TemporaryDirectory() as folder:
            run.save(folder)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    finally:
        torch.set_num_threads(threads)
    return Probe(last.metrics["time/epoch_s"], size, len(first.metrics), len(last.metrics))
