"""Any scheduler on recorded or synthetic learning curves, in virtual time: its cost and the best trial it keeps.

    python benchmarks/simulate.py                                   every scheduler on the digits table
    python benchmarks/simulate.py --table crossing --workers 64 --objective accuracy

``ravel simulate TABLE --given-points`` does the same for the project's own schedulers, as they run in a live sweep;
here are also those of others, and synthetic curves.

Prints, for each scheduler, the share of all epochs it spent, its regret (by how many points its best trial falls short
of the best of the table), and how much faster than the recorded training the simulation ran. The tables were recorded
by ``benchmarks/scheduling/record.py``; ``crossing`` is sampled at random: a stronger regulariser learns more slowly and
ends better.

Prediction, written before the first run: > 1,000 times faster than training, as a decision costs some microseconds and
an epoch of the smallest model 0.1 s. Result on two cores (digits, 8 workers): 2,600 to 9,000 times.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.trial_views import passes_per_epoch
from orchestrator.scheduling.asha import Asha, NoStopping
from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.median import Median
from orchestrator.scheduling.pasha import Pasha
from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.rungs import brackets, rungs
from orchestrator.scheduling.simulator import LearningCurve, Outcome, simulate
from orchestrator.simulation.tables import load_table
from orchestrator.state.ranking import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.scheduling.trial_views import TrialViews

TABLES = Path(__file__).parent / "scheduling" / "tables"
OBJECTIVES = ("accuracy", "robust accuracy", "their mean")
EPOCHS = 27
SHARE_OF_POINTS = 0.75
DEFAULT_TRIALS = 64


@dataclass(frozen=True)
class Recorded:
    """One trial of a table: its point, and the metrics of each epoch."""

    point: Mapping[str, Any]
    accuracy: tuple[float, ...]
    robust_accuracy: tuple[float, ...]

    @cached_property
    def curves(self) -> dict[str, list[tuple[float]]]:
        """Curve of each objective; a trial that diverged ends with -inf."""
        pairs = list(zip(self.accuracy, self.robust_accuracy, strict=True))
        lost = [(-math.inf,)] if len(pairs) < EPOCHS else []
        accuracy, robust = [(a,) for a, _ in pairs], [(r,) for _, r in pairs]
        mean = [((a + r) / 2,) for a, r in pairs]
        return dict(zip(OBJECTIVES, (accuracy + lost, robust + lost, mean + lost), strict=True))

    @cached_property
    def passes(self) -> int:
        """Cost of an epoch, in epochs without attacks."""
        return passes_per_epoch(dict(self.point))


@dataclass(frozen=True)
class Table:
    """Recorded trials, and the seconds that one epoch without attacks took."""

    name: str
    trials: tuple[Recorded, ...]
    epoch_s: float

    def draw(self, seed: int) -> list[Recorded]:
        """Draw three quarters of the points in a random order, each under a random one of its training seeds."""
        chance = random.Random(seed)
        chosen = chance.sample(sorted(self.by_point), round(SHARE_OF_POINTS * len(self.by_point)))
        return [chance.choice(self.by_point[point]) for point in chosen]

    @cached_property
    def by_point(self) -> dict[str, list[Recorded]]:
        """Trials of each point."""
        points: dict[str, list[Recorded]] = {}
        for trial in self.trials:
            points.setdefault(json.dumps(trial.point, sort_keys=True), []).append(trial)
        return points


def load(name: str) -> Table:
    """Load a recorded table, or make the synthetic one."""
    if name == "crossing":
        return crossing()
    table = load_table(TABLES / f"{name}.json.gz")
    names = ("val/accuracy", "val/robust_accuracy")
    trials = tuple(Recorded(trial.point, *(trial.curves[metric] for metric in names)) for trial in table.trials)
    return Table(name, trials, table.pass_s)


def crossing(trials: int = DEFAULT_TRIALS) -> Table:
    """Make curves that cross: a stronger regulariser makes a trial learn slower, and up to 0.6 end better."""
    chance = random.Random(0)
    made = []
    for _ in range(trials):
        strength = chance.random()
        best = 0.8 + 0.15 * (1 - (strength - 0.6) ** 2 / 0.36) + chance.gauss(0, 0.005)
        pace = 1 + 8 * strength
        curve = tuple(best * (1 - math.exp(-epoch / pace)) + chance.gauss(0, 0.004) for epoch in range(1, EPOCHS + 1))
        made.append(Recorded({"mixup.alpha": strength, "adversarial.epsilon": 0.0}, curve, curve))
    return Table("crossing", tuple(made), 1.0)


class TuneAsha:
    """Ray Tune's own ``AsyncHyperBandScheduler``, called as Tune calls it."""

    pauses = False

    def __init__(self, grace_period: int, reduction_factor: int) -> None:
        self.rungs = rungs(grace_period, reduction_factor, EPOCHS)  # at other epochs it lets every trial continue
        from ray.tune.schedulers import AsyncHyperBandScheduler  # noqa: PLC0415  only this rival needs Ray

        self._tune = AsyncHyperBandScheduler(
            time_attr="epoch", metric="value", mode="max", max_t=EPOCHS, grace_period=grace_period,
            reduction_factor=reduction_factor,
        )  # fmt: skip
        self._trials: dict[str, SimpleNamespace] = {}

    def decide(self, views: TrialViews, trial: str, level: int) -> RungDecision | None:
        """Decide as Tune does."""
        if trial not in self._trials:
            self._trials[trial] = SimpleNamespace(trial_id=trial, stopped=False)
            self._tune.on_trial_add(None, self._trials[trial])
        result = {"epoch": level, "value": views[trial].values[level][0]}
        kept = self._tune.on_trial_result(None, self._trials[trial], result) == self._tune.CONTINUE
        return None if kept else RungDecision(level, kept=False)

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        """Promote none: Tune's ASHA pauses no trial."""


def family(trial: Recorded) -> tuple[bool, ...]:
    """Return the methods that are on."""
    return tuple(bool(trial.point.get(name)) for name in ("snnl.weight", "mixup.alpha", "adversarial.epsilon"))


def by_epsilon(trial: Recorded) -> tuple[str, ...]:
    """Return the group of a trial: no attack, a weak one, or a strong one."""
    epsilon = trial.point.get("adversarial.epsilon", 0.0)
    return ("off" if not epsilon else "low" if epsilon < math.sqrt(0.01 * 0.3) else "high",)


@dataclass(frozen=True)
class Contender:
    """A scheduler by name; ``make`` takes the number of trials, ``stratum`` puts a trial into its group.

    With ``smoothed`` it sees the mean of so many epochs, but for the last.
    """

    name: str
    make: Callable[[int], Scheduler]
    stratum: Callable[[Recorded], tuple[object, ...]] = lambda _: ()
    smoothed: int = 1


@dataclass(frozen=True)
class Score:
    """One simulated sweep: share of epochs spent, regret in points, virtual seconds in all and until its best ended."""

    spent: float
    regret: float
    seconds: float
    best_at: float


def asha(grace: int, factor: int, *, pauses: bool) -> Callable[[int], Scheduler]:
    """Return our ASHA, of either kind."""
    return lambda _: Asha((rungs(grace, factor, EPOCHS),), factor, pauses)


def budgeted(budget: float) -> Callable[[int], Scheduler]:
    """Return budgeted ASHA, whose schedule follows from a budget."""
    return lambda trials: BudgetedAsha(RungSchedule.within(budget, num_trials=trials, maximum=EPOCHS))


def contenders() -> Iterator[Contender]:
    """Yield some of each kind; ``frontier.py`` has the grids."""
    yield Contender("none", lambda _: NoStopping())
    yield Contender("Tune's ASHA, its defaults (1, 4)", lambda _: TuneAsha(1, 4))
    for grace in (1, 3):
        yield Contender(f"Tune's ASHA ({grace}, 3)", lambda _, grace=grace: TuneAsha(grace, 3))
        yield Contender(f"stopping ({grace}, 3)", asha(grace, 3, pauses=False))
        yield Contender(f"promotion ({grace}, 3)", asha(grace, 3, pauses=True))
    yield Contender("PASHA (1, 3)", lambda _: Pasha(rungs(1, 3, EPOCHS), 3))
    yield Contender("Hyperband (1, 3)", lambda _: Asha(brackets(1, 3, EPOCHS, 4), 3))
    yield Contender("median", lambda _: Median(3))
    for budget in (0.2, 0.3, 0.4):
        yield Contender(f"auto, budget {budget}", budgeted(budget))


def run(trials: list[Recorded], contender: Contender, *, objective: str, workers: int, epoch_s: float) -> Score:
    """Run one sweep over these trials in their order."""
    curves = {
        f"{index:04d}": LearningCurve(
            values=smooth(trial.curves[objective], contender.smoothed),
            seconds=[epoch_s * trial.passes] * EPOCHS,
            stratum=contender.stratum(trial),
        )
        for index, trial in enumerate(trials)
    }
    outcome = simulate(curves, contender.make(len(trials)), workers=workers, leaps=True)
    return score(curves, outcome)


def smooth(curve: Sequence[tuple[float]], epochs: int) -> Sequence[tuple[float]]:
    """Return each value but the last as the mean of the last so many."""
    if epochs == 1:
        return curve
    means = [(statistics.fmean(value for (value,) in curve[max(0, at - epochs) : at]),) for at in range(1, len(curve))]
    return [*means, curve[-1]]


def score(curves: Mapping[str, LearningCurve], outcome: Outcome) -> Score:
    """Return the score of a sweep; regret is about the values at full budget, by which the best trial is chosen too."""
    finals = {trial: curve.values[-1] for trial, curve in curves.items() if len(curve.values) == EPOCHS}
    best = finals[order(finals)[0]][0]
    completed = {trial: finals[trial] for trial in outcome.completed_at}
    winner = order(completed)[0] if completed else None
    regret = 100 * (best - (completed[winner][0] if winner else 0.0))
    spent = outcome.spent / (len(curves) * EPOCHS)
    return Score(spent, regret, outcome.ended_at, outcome.completed_at[winner] if winner else math.inf)


def main() -> None:
    """Run every contender and print its mean scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="digits")
    parser.add_argument("--objective", choices=OBJECTIVES, default=OBJECTIVES[2])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--orders", type=int, default=20)
    arguments = parser.parse_args()
    table = load(arguments.table)
    print(f"{table.name}: {arguments.objective}, {arguments.workers} workers, {arguments.orders} orders")
    print(f"{'scheduler':34} {'spent':>6} {'regret':>7} {'faster than life':>17}")
    for contender in contenders():
        started = time.perf_counter()
        scores = [
            run(table.draw(seed), contender, objective=arguments.objective, workers=arguments.workers,
                epoch_s=table.epoch_s)
            for seed in range(arguments.orders)
        ]  # fmt: skip
        elapsed = time.perf_counter() - started
        spent, regret, virtual = (
            statistics.fmean(getattr(sweep, name) for sweep in scores) for name in ("spent", "regret", "seconds")
        )
        print(f"{contender.name:34} {spent:6.3f} {regret:7.3f} {virtual * len(scores) / elapsed:16,.0f}x")


if __name__ == "__main__":
    main()
