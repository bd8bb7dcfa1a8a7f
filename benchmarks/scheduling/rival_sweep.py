"""Sweep of a rival in virtual time: free workers, epochs, and a budget of gradient evaluations that ends it."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.planning.seeds import derive_seed, trial_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.simulation.objective_value import Value
    from orchestrator.simulation.surrogate import Surrogate, TrialCurve


@dataclass
class Running:
    """One trial of a rival. Training goes on to ``target``; then it waits, or is over."""

    number: int
    point: Mapping[str, Any]
    curve: TrialCurve
    target: int
    epoch: int = 0
    memory: dict[str, Any] = field(default_factory=dict)


class Rival(Protocol):
    """A search policy: which trial a free worker takes, and what becomes of one after an epoch."""

    def next(self) -> Running | None:
        """Return the trial that a free worker takes, a new one or one that waits; None if all wait for others."""

    def report(self, trial: Running, value: float) -> bool:
        """Take in the value of an epoch before the last, higher is better; return True if the trial continues."""

    def over(self, trial: Running, value: float | None) -> None:
        """Take in the last value of a trial that was trained to its end; None if it diverged."""


@dataclass(frozen=True)
class Result:
    """One simulated sweep: regret in units of the objective, gradient evaluations and epochs spent, trials started."""

    regret: float
    passes: int
    epochs: int
    trials: int
    found_at_s: float


class Trials:
    """New trials: their curves follow from the point and from a training seed, as in a sweep of the project."""

    def __init__(self, surrogate: Surrogate, seed: int) -> None:
        self.surrogate, self.seed, self.space = surrogate, seed, surrogate.table.space
        self.epochs = surrogate.table.epochs
        self._count = 0

    def new(self, point: Mapping[str, Any], target: int | None = None) -> Running:
        """Return a new trial that trains to an epoch, by default the last."""
        number, self._count = self._count, self._count + 1
        training_seed = derive_seed(self.seed, "trial", trial_id(number))
        return Running(number, point, self.surrogate.curve(point, training_seed), target or self.epochs)

    def random_point(self) -> Mapping[str, Any]:
        """Return a random point for the next trial."""
        return self.space.sample(derive_seed(self.seed, "ask", trial_id(self._count)))


def sweep(rival: Rival, trials: Trials, value: Value, *, workers: int, limit: float) -> Result:
    """Run a rival on so many workers until ``limit`` gradient evaluations are spent.

    An epoch that the limit does not pay for is not begun; those that were begun end.
    """
    running: list[tuple[float, int, Running]] = []
    count, idle, spent, epochs, now, is_spent = itertools.count(), workers, 0, 0, 0.0, False
    finals: list[tuple[float, float, Running]] = []
    lasts: dict[int, tuple[int, float, Running]] = {}

    def push(trial: Running) -> bool:
        nonlocal spent, epochs, is_spent
        if spent + trial.curve.passes > limit:
            is_spent = True
            return False
        spent, epochs = spent + trial.curve.passes, epochs + 1
        heapq.heappush(running, (now + trial.curve.seconds, next(count), trial))
        return True

    while True:
        while idle and not is_spent and (taken := rival.next()) is not None:
            idle -= push(taken)
        if not running:
            return _result(finals, lasts, trials, value, spent=spent, epochs=epochs)
        now, _, trial = heapq.heappop(running)
        trial.epoch += 1
        if trial.epoch > trial.curve.epochs:
            rival.over(trial, None)
            idle += 1
            continue
        measured = value.sign * value.final({part: trial.curve.measured[part][trial.epoch - 1] for part in value.parts})
        lasts[trial.number] = (trial.epoch, measured, trial)
        continues = rival.report(trial, measured) if trial.epoch < trial.target else False
        if trial.epoch == trial.target:
            rival.over(trial, measured)
            finals.append((measured, now, trial))
        idle += not (continues and push(trial))


def _result(
    finals: list[tuple[float, float, Running]],
    lasts: dict[int, tuple[int, float, Running]],
    trials: Trials,
    value: Value,
    *,
    spent: int,
    epochs: int,
) -> Result:
    """Return the result: of the trials that were trained to their end the best, else the best of all."""
    ended = [(measured, -trial.number, at, trial) for measured, at, trial in finals]
    others = [(measured, -trial.number, math.inf, trial) for _, measured, trial in lasts.values()]
    _, _, found_at, best = max(ended or others, key=lambda item: item[:2])
    true = value.final(trials.surrogate.true_final(best.point))
    regret = value.sign * (trials.surrogate.optimum(value) - true)
    return Result(regret, spent, epochs, len(lasts), found_at)
