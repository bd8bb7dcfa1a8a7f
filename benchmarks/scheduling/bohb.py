"""BOHB (Falkner et al. 2018, arXiv 1807.01774), by its paper: Hyperband whose points a model proposes.

Optuna's multivariate TPE takes the place of the paper's own estimator of densities, which knows no inactive parameters.
Its package, HpBandSter, is no longer maintained, and is not used here.
"""

from __future__ import annotations

import math
import random
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.planning.seeds import derive_seed
from search_spaces.adapters.optuna import suggest, to_optuna

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna
    from rival_sweep import Running, Trials


@dataclass
class Bracket:
    """One synchronous successive halving of Hyperband: budgets, number of trials at each, and those that wait."""

    budgets: list[int]
    counts: list[int]
    stage: int = 0
    started: int = 0
    running: int = 0
    results: list[tuple[float, Running]] = field(default_factory=list)
    ready: list[Running] = field(default_factory=list)

    def advance(self) -> None:
        """Promote the best once all trials of a stage have ended."""
        is_full = self.started == self.counts[self.stage] if self.stage == 0 else not self.ready
        if self.running or not is_full or self.stage + 1 >= len(self.budgets):
            return
        self.stage += 1
        ranked = sorted(self.results, key=lambda result: (-result[0], result[1].number))
        self.ready = [trial for _, trial in ranked[: self.counts[self.stage]]]
        self.results = []


class Bohb:
    """BOHB: synchronous Hyperband whose points are TPE's on the highest budget with enough of them, a third at random.

    A worker that has nothing to do in a bracket begins the next one.
    """

    ETA, RANDOM = 3, 1 / 3

    def __init__(self, trials: Trials) -> None:
        import optuna  # noqa: PLC0415

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._trials = trials
        most = int(math.log(trials.epochs, self.ETA) + 1e-9)
        self._budgets = [round(trials.epochs / self.ETA**power) for power in range(most, -1, -1)]
        self._brackets: list[Bracket] = []
        self._observed: dict[int, list[tuple[float, Running]]] = {budget: [] for budget in self._budgets}
        self._model: tuple[int, int, optuna.Study] | None = None
        self._least = len(trials.space.parameters) + 2

    def next(self) -> Running:
        """Return a promoted trial, or a new one of the first bracket that has room."""
        for bracket in self._brackets:
            if (trial := self._from(bracket)) is not None:
                return trial
        self._brackets.append(self._bracket(len(self._brackets)))
        trial = self._from(self._brackets[-1])
        assert trial is not None  # noqa: S101  a new bracket has room
        return trial

    def report(self, trial: Running, value: float) -> bool:
        """Pause at the budget of the bracket's stage."""
        bracket: Bracket = trial.memory["bracket"]
        if trial.epoch < bracket.budgets[bracket.stage]:
            return True
        self._observed[trial.epoch].append((value, trial))
        bracket.running -= 1
        bracket.results.append((value, trial))
        bracket.advance()
        return False

    def over(self, trial: Running, value: float | None) -> None:
        """Take in the end of a trial; one that diverged ranks last."""
        bracket: Bracket = trial.memory["bracket"]
        bracket.running -= 1
        if value is not None:
            self._observed[trial.epoch].append((value, trial))
        bracket.advance()

    def _from(self, bracket: Bracket) -> Running | None:
        if bracket.stage == 0 and bracket.started < bracket.counts[0]:
            bracket.started, bracket.running = bracket.started + 1, bracket.running + 1
            trial = self._trials.new(self._point())
            trial.memory["bracket"] = bracket
            return trial
        if bracket.ready:
            bracket.running += 1
            return bracket.ready.pop(0)
        return None

    def _bracket(self, number: int) -> Bracket:
        """Return the next bracket of Hyperband, which begin at each budget in turn."""
        most = len(self._budgets) - 1
        power = most - number % (most + 1)
        first = math.ceil((most + 1) / (power + 1) * self.ETA**power)
        counts = [max(1, first // self.ETA**stage) for stage in range(power + 1)]
        return Bracket(self._budgets[most - power :], counts)

    def _point(self) -> Mapping[str, Any]:
        number = derive_seed(self._trials.seed, "bohb", str(sum(bracket.started for bracket in self._brackets)))
        enough = [budget for budget, seen in self._observed.items() if len(seen) >= self._least]
        if not enough or random.Random(number).random() < self.RANDOM:
            return self._trials.random_point()
        return suggest(self._study_at(max(enough)).ask(), self._trials.space)

    def _study_at(self, budget: int) -> optuna.Study:
        """Return a study of what was measured at a budget."""
        import optuna  # noqa: PLC0415

        if self._model is None or self._model[0] != budget:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = optuna.samplers.TPESampler(
                    seed=derive_seed(self._trials.seed, "tpe", str(budget)), multivariate=True, group=True,
                    n_startup_trials=0,
                )  # fmt: skip
            self._model = budget, 0, optuna.create_study(direction="maximize", sampler=sampler)
        _, known, study = self._model
        seen = self._observed[budget]
        for value, trial in seen[known:]:
            params, distributions = to_optuna(self._trials.space, trial.point)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        self._model = budget, len(seen), study
        return study
