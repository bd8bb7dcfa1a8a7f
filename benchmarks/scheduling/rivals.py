"""Rivals of this project's defaults, as their users would have them, on the surrogates of ``ravel simulate``.

    python benchmarks/scheduling/rivals.py --table digits --objective val/accuracy --budget 0.3 --workers 8 --seeds 5

Samplers and pruners are the real objects of Optuna and Ray Tune, asked as they ask to be asked, on a virtual clock with
W workers. A rival that cannot be told a budget starts trials until the budget is spent. BOHB is written by its paper.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from bohb import Bohb
from rival_sweep import Result, Rival, Running, Trials, sweep

from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.tables import load_table
from orchestrator.simulation.whole_search import search, spec_for
from search_spaces.adapters.optuna import suggest

if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna

TABLES = Path(__file__).parent / "tables"
MANY = 4000
"""Trials of a rival that has no number of trials: the budget ends it."""


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
        if asked.should_prune():
            self._study.tell(asked, state=self._states.PRUNED)
            return False
        return True

    def over(self, trial: Running, value: float | None) -> None:
        """Tell the study."""
        if value is None:
            self._study.tell(trial.memory["optuna"], state=self._states.FAIL)
        else:
            trial.memory["optuna"].report(value, trial.epoch)
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
