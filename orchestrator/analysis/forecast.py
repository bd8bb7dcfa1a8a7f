"""What a sweep will cost, before it starts: its scheduler run on curves drawn at random, and one trial tried out."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.decisions.trial_views import brackets_for, passes_per_epoch, stratum
from orchestrator.errors import PreflightError
from orchestrator.planning.points import first_points, max_epochs_of
from orchestrator.scheduling.asha import Asha
from orchestrator.scheduling.budgeted import BudgetedAsha
from orchestrator.scheduling.registry import scheduler_of
from orchestrator.scheduling.rungs import expected_cost
from orchestrator.scheduling.simulator import LearningCurve, simulate
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.scheduling.simulator import Outcome
    from orchestrator.spec.model import SweepSpec

FEWEST_DRAWS, MOST_DRAWS = 5, 40
MOST_TRIALS = 400
"""Larger sweeps are drawn with so many, and what comes of them is scaled: a simulation grows with the square."""


@dataclass(frozen=True, slots=True)
class Range:
    """A mean, and what nine in ten draws lie between."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """The range of some draws.

        >>> Range.of([1.0, 2.0, 3.0])
        Range(mean=2.0, low=1.0, high=3.0)
        """
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(fmean(values), ordered[round(0.05 * last)], ordered[round(0.95 * last)])

    def scaled(self, by: float) -> Range:
        """In another unit."""
        return Range(self.mean * by, self.low * by, self.high * by)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A sweep on ``slots`` slots. ``seconds`` are those of a worker in which a plain epoch takes one second.

    ``reached`` counts the trials that reach each rung, and with the last entry, ``max_epochs``, their end.
    """

    slots: int
    pauses: bool
    num_trials: int
    max_epochs: int
    reached: dict[int, Range]
    epochs: Range
    seconds: Range

    @property
    def share(self) -> float:
        """Of the epochs of a sweep that stops nobody."""
        return self.epochs.mean / (self.num_trials * self.max_epochs)


def forecast(spec: SweepSpec, *, slots: int, pauses: bool) -> Forecast:
    """The expectation over random rankings that stay the same from epoch to epoch, and random points of the space.

    Raises:
        PreflightError: the scheduler counts in another unit than epochs, which nobody knows beforehand.
    """
    if spec.scheduler.resource != "epochs":
        told = f"scheduler.resource: {spec.scheduler.resource} are known only when they are used; plan with epochs"
        raise PreflightError([told])
    max_epochs, num_trials = max_epochs_of(spec), spec.search.num_trials
    if num_trials > MOST_TRIALS:
        fewer = spec.search.model_copy(update={"num_trials": MOST_TRIALS})
        return _scaled(forecast(spec.model_copy(update={"search": fewer}), slots=slots, pauses=pauses), num_trials)
    scheduler = scheduler_of(spec, pauses=pauses, max_epochs=max_epochs)
    draws = max(FEWEST_DRAWS, min(MOST_DRAWS, MOST_DRAWS * MOST_DRAWS // num_trials))
    outcomes = [
        simulate(_curves(spec, scheduler, max_epochs, seed), scheduler, workers=slots, leaps=True)
        for seed in range(draws)
    ]
    levels = (*(scheduler.rungs or ()), max_epochs)
    reached = [_reached(outcome, levels) for outcome in outcomes]
    return Forecast(
        slots=slots,
        pauses=pauses,
        num_trials=num_trials,
        max_epochs=max_epochs,
        reached={level: Range.of([counts[level] for counts in reached]) for level in levels if level <= max_epochs},
        epochs=Range.of([float(outcome.spent) for outcome in outcomes]),
        seconds=Range.of([outcome.ended_at for outcome in outcomes]),
    )


def expected_epochs(plan: SweepPlan) -> float:
    """The epochs of a whole sweep, roughly and at once: what its progress is measured against."""
    scheduler, num_trials, maximum = plan.scheduler, plan.spec.search.num_trials, plan.max_epochs
    if isinstance(scheduler, BudgetedAsha):
        return scheduler.schedule.budget + maximum
    if isinstance(scheduler, Asha) and plan.spec.scheduler.resource == "epochs":
        costs = [expected_cost(bracket, scheduler.reduction_factor, maximum) for bracket in scheduler.brackets]
        return len(costs) * num_trials / sum(1 / cost for cost in costs)
    return float(num_trials * maximum)


def _scaled(found: Forecast, num_trials: int) -> Forecast:
    """The same for more trials."""
    by = num_trials / found.num_trials
    return replace(
        found,
        num_trials=num_trials,
        reached={level: trials.scaled(by) for level, trials in found.reached.items()},
        epochs=found.epochs.scaled(by),
        seconds=found.seconds.scaled(by),
    )


def _curves(spec: SweepSpec, scheduler: Scheduler, max_epochs: int, seed: int) -> dict[str, LearningCurve]:
    chance = random.Random(seed)  # noqa: S311  a forecast, not a secret
    first = [point for _, point in first_points(spec)]
    drawn = spec.space.sample_many(max(0, spec.search.num_trials - len(first)), seed=seed)
    points = [*first, *drawn][: spec.search.num_trials]
    curves = {}
    trials = zip(points, brackets_for(scheduler, len(points), max_epochs), strict=True)
    for index, (point, bracket) in enumerate(trials):
        config = {**spec.trial, **point}
        epochs = int(config.get("epochs", max_epochs))
        curves[f"{index:06d}"] = LearningCurve(
            values=[(chance.random(),)] * epochs,
            seconds=[float(passes_per_epoch(config))] * epochs,
            bracket=bracket,
            stratum=stratum(config, spec),
            exempt=index == 0,
        )
    return curves


def _reached(outcome: Outcome, levels: Sequence[int]) -> Counter[int]:
    return Counter(level for each in outcome.views.values() for level in levels if each.level >= level)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one trial of a spec was seen to take: the baseline, for two epochs, in this process.

    ``seconds`` of an ordinary epoch; the metrics of one at a rung, which measures more, and of an ordinary one.
    """

    seconds: float
    checkpoint_bytes: int
    metrics_at_rung: int
    metrics: int


def probe(spec: SweepSpec) -> Probe:
    """Train the baseline for two epochs, or as long as it is, and save it.

    Raises:
        TrainableError: it cannot be trained.
    """
    import torch  # noqa: PLC0415  only who asks for hours pays it

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
