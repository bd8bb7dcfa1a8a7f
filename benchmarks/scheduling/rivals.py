"""Rivals of this project's defaults, as their users would have them, on the surrogates of ``ravel simulate``.

    python benchmarks/scheduling/rivals.py --table digits --objective val/accuracy --budget 0.3 --workers 8 --seeds 5

Samplers and pruners are the real objects of Optuna and Ray Tune, asked as they ask to be asked, on a virtual clock with
W workers. A rival that cannot be told a budget starts trials until the budget is spent. BOHB (Falkner et al. 2018) is
written here by its paper, with Optuna's TPE in the place of its own estimator of densities: its package has had no
release since 2020 and does not fit the versions of this project.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import statistics
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.planning.seeds import derive_seed, trial_id
from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.tables import load_table
from orchestrator.simulation.whole_search import search, spec_for
from search_spaces.adapters.optuna import suggest, to_optuna

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import optuna

    from orchestrator.simulation.surrogate import TrialCurve

TABLES = Path(__file__).parent / "tables"
MANY = 4000
"""Trials of a rival that has no number of trials: the budget ends it."""


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
        """Take in the value of an epoch (higher is better); return True if the trial continues at once."""

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


class RandomTune:
    """Random points under Ray Tune's ``AsyncHyperBandScheduler``, called as Tune calls it."""

    def __init__(self, trials: Trials, *, grace_period: int = 1, reduction_factor: float = 4) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler  # noqa: PLC0415  only this rival needs Ray

        self._trials = trials
        self._tune = AsyncHyperBandScheduler(
            time_attr="epoch", metric="value", mode="max", max_t=trials.epochs, grace_period=grace_period,
            reduction_factor=reduction_factor,
        )  # fmt: skip

    def next(self) -> Running:
        """Start a random point."""
        trial = self._trials.new(self._trials.random_point())
        trial.memory["tune"] = SimpleNamespace(trial_id=str(trial.number), stopped=False)
        self._tune.on_trial_add(None, trial.memory["tune"])
        return trial

    def report(self, trial: Running, value: float) -> bool:
        """Ask Tune."""
        result = {"epoch": trial.epoch, "value": value}
        return bool(self._tune.on_trial_result(None, trial.memory["tune"], result) == self._tune.CONTINUE)

    def over(self, trial: Running, value: float | None) -> None:
        """Tell Tune."""
        self._tune.on_trial_remove(None, trial.memory["tune"]) if value is None else self._tune.on_trial_complete(
            None, trial.memory["tune"], {"epoch": trial.epoch, "value": value}
        )


class OptunaStudy:
    """Optuna's TPE and one of its pruners: ``study.ask``, ``trial.report``, ``trial.should_prune``, ``study.tell``.

    Default settings, but for what their documentation tells a user to set: the epochs of a full run, and
    ``constant_liar`` where several workers ask.
    """

    def __init__(self, trials: Trials, pruner: Callable[[int], optuna.pruners.BasePruner], *, workers: int) -> None:
        import optuna  # noqa: PLC0415

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._trials, self._states = trials, optuna.trial.TrialState
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=trials.seed, constant_liar=workers > 1)
        # A pruner of Hyperband takes the brackets of trials from the study's name.
        self._study = optuna.create_study(
            study_name=f"rival-{trials.seed}", direction="maximize", sampler=sampler, pruner=pruner(trials.epochs)
        )

    def next(self) -> Running:
        """Ask the study."""
        asked = self._study.ask()
        trial = self._trials.new(suggest(asked, self._trials.space))
        trial.memory["optuna"] = asked
        return trial

    def report(self, trial: Running, value: float) -> bool:
        """Report a value, and ask the pruner."""
        asked = trial.memory["optuna"]
        asked.report(value, trial.epoch)
        if trial.epoch < trial.target and asked.should_prune():
            self._study.tell(asked, state=self._states.PRUNED)
            return False
        return True

    def over(self, trial: Running, value: float | None) -> None:
        """Tell the study."""
        if value is None:
            self._study.tell(trial.memory["optuna"], state=self._states.FAIL)
        else:
            self._study.tell(trial.memory["optuna"], value)


def hyperband(epochs: int) -> optuna.pruners.BasePruner:
    """Return Optuna's Hyperband."""
    import optuna  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)


def successive_halving(_: int) -> optuna.pruners.BasePruner:
    """Return Optuna's successive halving."""
    import optuna  # noqa: PLC0415

    return optuna.pruners.SuccessiveHalvingPruner()


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
        import random  # noqa: PLC0415

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


def sweep(rival: Rival, trials: Trials, value: Value, *, workers: int, limit: float) -> Result:
    """Run a rival on so many workers until ``limit`` gradient evaluations are spent.

    An epoch that the limit does not pay for is not begun; those that were, end.
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
            if not isinstance(rival, Bohb | RandomTune):
                rival.report(trial, measured)
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


GRACES, FACTORS = (1, 2, 4, 8), (2, 4)


def _with(make: Callable[..., Rival], **settings: Any) -> Callable[..., Result]:
    def run(surrogate: Surrogate, value: Value, *, workers: int, seed: int, limit: float) -> Result:
        trials = Trials(surrogate, seed)
        extra = {"workers": workers} if make is OptunaStudy else {}
        return sweep(make(trials, **settings, **extra), trials, value, workers=workers, limit=limit)

    return run


def _promotion(
    surrogate: Surrogate, value: Value, *, workers: int, seed: int, limit: float, grace_period: int, factor: int
) -> Result:
    """Run random points under plain asynchronous promotion, this project's, until the budget is spent."""
    scheduler = {"grace_period": grace_period, "reduction_factor": factor, "kind": "promotion"}
    spec = spec_for(
        surrogate.table, str(value), search={"sampler": "random", "num_trials": MANY, "seed": seed}, scheduler=scheduler
    )
    found = search(spec, surrogate, objective=str(value), workers=workers, limit=limit)
    return Result(found.regret, found.passes, found.epochs, len(found.state.trials), found.found_at_s)


def rivals(*, grid: bool = True) -> dict[str, Callable[..., Result]]:
    """Return the rivals by name; those of ``grid`` are random search under plain ASHA with every setting."""
    named = {
        "Tune's defaults": _with(RandomTune),
        "Optuna TPE + Hyperband": _with(OptunaStudy, pruner=hyperband),
        "Optuna TPE + SuccessiveHalving": _with(OptunaStudy, pruner=successive_halving),
        "BOHB": _with(Bohb),
    }
    if grid:
        for grace, factor in itertools.product(GRACES, FACTORS):
            named[f"random + stopping {grace} {factor}"] = _with(
                RandomTune, grace_period=grace, reduction_factor=factor
            )
            named[f"random + promotion {grace} {factor}"] = partial(_promotion, grace_period=grace, factor=factor)
    return named


def main() -> None:
    """Run every rival on one table, and print its mean regret and cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="digits")
    parser.add_argument("--objective", default="val/accuracy")
    parser.add_argument("--budget", type=float, default=0.3)
    parser.add_argument("--trials", type=int, default=64, help="whose full training the budget is a share of")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--grid", action="store_true", help="every setting of plain ASHA too")
    arguments = parser.parse_args()
    surrogate, value = Surrogate(load_table(TABLES / f"{arguments.table}.json.gz")), Value.of(arguments.objective)
    limit = arguments.budget * arguments.trials * surrogate.table.epochs * surrogate.mean_passes
    print(f"{'rival':32} {'regret':>8} {'spent':>6} {'trials':>6} {'CPU s':>6}")
    for name, run in rivals(grid=arguments.grid).items():
        started = time.process_time()
        results = [
            run(surrogate, value, workers=arguments.workers, seed=seed, limit=limit) for seed in range(arguments.seeds)
        ]
        seconds = (time.process_time() - started) / len(results)
        regret, passes, trials = (
            statistics.fmean(getattr(result, name) for result in results) for name in ("regret", "passes", "trials")
        )
        print(f"{name:32} {regret:8.4f} {passes / limit:6.3f} {trials:6.0f} {seconds:6.2f}", flush=True)


if __name__ == "__main__":
    main()
