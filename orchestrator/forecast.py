"""What a sweep will cost, before it starts: its scheduler run on curves drawn at random, and one trial tried out."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.plan import first_points, max_epochs_of
from orchestrator.scheduling.choosing import rule_of
from orchestrator.scheduling.simulator import Curve, simulate
from orchestrator.scheduling.standings import brackets_for, passes_per_epoch
from trainables.config import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.scheduling.board import Rule
    from orchestrator.scheduling.simulator import Outcome
    from orchestrator.spec import SweepSpec

DRAWS = 40


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
    """The expectation over random rankings that stay the same from epoch to epoch, and random points of the space."""
    max_epochs = max_epochs_of(spec)
    rule = rule_of(spec, pauses=pauses, max_epochs=max_epochs)
    outcomes = [simulate(_curves(spec, rule, max_epochs, seed), rule, workers=slots) for seed in range(DRAWS)]
    levels = (*(rule.rungs or ()), max_epochs)
    reached = [_reached(outcome, levels) for outcome in outcomes]
    return Forecast(
        slots=slots,
        pauses=pauses,
        num_trials=spec.search.num_trials,
        max_epochs=max_epochs,
        reached={level: Range.of([counts[level] for counts in reached]) for level in levels if level <= max_epochs},
        epochs=Range.of([float(outcome.spent) for outcome in outcomes]),
        seconds=Range.of([outcome.ended_at for outcome in outcomes]),
    )


def _curves(spec: SweepSpec, rule: Rule, max_epochs: int, seed: int) -> dict[str, Curve]:
    chance = random.Random(seed)  # noqa: S311  a forecast, not a secret
    first = [point for _, point in first_points(spec)]
    drawn = spec.space.sample_many(max(0, spec.search.num_trials - len(first)), seed=seed)
    points = [*first, *drawn][: spec.search.num_trials]
    curves = {}
    for index, (point, bracket) in enumerate(zip(points, brackets_for(rule, len(points), max_epochs), strict=True)):
        passes = passes_per_epoch({**spec.trial, **point})
        curves[f"{index:06d}"] = Curve(
            values=[(chance.random(),) * len(spec.objective.all)] * max_epochs,
            seconds=[float(passes)] * max_epochs,
            bracket=bracket,
            exempt=index == 0,
        )
    return curves


def _reached(outcome: Outcome, levels: Sequence[int]) -> Counter[int]:
    return Counter(level for each in outcome.board.standings.values() for level in levels if each.level >= level)


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

    from orchestrator.single import config_of  # noqa: PLC0415
    from trainables.run import Run  # noqa: PLC0415

    config = TrialConfig.from_point({**config_of(spec).to_point(), "evaluation.epochs": [1]})
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    try:
        run = Run(config)
        first = run.run_epoch()
        last = first if run.finished else run.run_epoch()
        with tempfile.TemporaryDirectory() as folder:
            run.save(folder)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    finally:
        torch.set_num_threads(threads)
    return Probe(last.metrics["time/epoch_s"], size, len(first.metrics), len(last.metrics))
