"""Speed of sampling `catalog.regularizers()` against Optuna, Ray Tune and ConfigSpace, and of an ask in a sweep.

Each samples the same three switched methods with their conditional parameters, from the same description of the space,
one after the other, in one run and on one core; ConfigSpace samples in batches, its fastest way. The unit is seconds
for a million points.

Prediction: a point of ours is twenty uniform samples, twenty look-ups and a few logarithms, 20 microseconds: 20 s for
a million. Optuna's random sampler makes a trial object for each point and locks its storage for each parameter:
a hundred times as much. Tune copies and resolves the whole space for each point: ten times. ConfigSpace samples columns
of numpy and then checks each point's conditions in Python: five times.
Result on one core of two, alongside other work: 10 s for a million; Optuna 38x, Tune 126x, ConfigSpace 4x.

    python benchmarks/sampling.py

With `--asks`, CPU time of one proposal in a sweep of 64, 256 and 1,000 trials, paused at rungs: of `sampler: auto` when
it screens, and of `tpe`, through the proposer of a live sweep. One trial reports between two asks. Prediction: auto
5 ms, 15 ms and 20 ms, as its model has at most 200 trials; TPE 5 ms, 15 ms and 50 ms, as it looks at all trials.
Result on two busy cores: auto 10, 25 and 28 ms; TPE 12, 21 and 56 ms.

    python benchmarks/sampling.py --asks
"""

import argparse
import random
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.decisions.propose import Proposer
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.seeds import trial_id
from orchestrator.state.events import AttemptStarted, EpochReported, TrialCreated, TrialEnded
from orchestrator.state.sweep_state import SweepState
from search_spaces import SearchSpace, catalog

MILLION = 1_000_000


def ours(space: SearchSpace, n: int) -> None:
    """Sample with `sample_many`."""
    space.sample_many(n, seed=0)


def optuna(space: SearchSpace, n: int) -> None:
    """Sample with Optuna: define-by-run, random sampler, in memory."""
    import optuna  # noqa: PLC0415 - imported only to compare

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(n):
        space.suggest(study.ask())


def tune(space: SearchSpace, n: int) -> None:
    """Sample with Tune's own random search."""
    from ray.tune.search.variant_generator import generate_variants  # noqa: PLC0415 - imported only to compare

    param_space = {"config": space.to_tune()}
    for _ in range(n):
        for _resolved, _spec in generate_variants(param_space, random_state=0):
            pass


def configspace(space: SearchSpace, n: int) -> None:
    """ConfigSpace's batches, through the example that translates a space."""
    sys.path.append(str(Path(__file__).parents[1] / "examples" / "configspace"))
    from configspace_adapter import to_configspace  # noqa: PLC0415 - one of those compared

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to_configspace(space, seed=0).sample_configuration(n)


def seconds_per_million(sample: Callable[[SearchSpace, int], None], space: SearchSpace, n: int) -> float:
    """Sample n points once and scale the time."""
    started = time.perf_counter()
    sample(space, n)
    return (time.perf_counter() - started) * MILLION / n


SPEC = """
name: asks
trial: {epochs: 27}
space: {use: [optimizer, snnl, mixup, adversarial]}
search: {sampler: SAMPLER, num_trials: 1100}
"""


def ms_per_ask(sampler: str, trials: int, *, asks: int) -> float:
    """Return the CPU time in ms of a proposal that rests on so many trials: the 70th percentile of ``asks``."""
    spec = parse_spec(SPEC.replace("SAMPLER", sampler))
    state, rng = SweepState(), random.Random(0)
    for index, point in enumerate(spec.space.sample_many(trials)):
        _add(state, trial_id(index, digits=4), point, rungs=(4, 8, 16)[: rng.choice((1, 1, 1, 2, 3))], rng=rng)
    proposer, times = Proposer(spec, state), []
    for index, point in enumerate(spec.space.sample_many(asks, seed=1)):
        _add(state, trial_id(trials + index, digits=4), point, rungs=(4,), rng=rng)
        started = time.process_time()
        proposer.propose()
        times.append(1000 * (time.process_time() - started))
    return sorted(times[1:])[int(0.7 * len(times[1:]))]  # a fifth of auto's points are random and cost nothing


def _add(state: SweepState, name: str, point: dict[str, Any], *, rungs: Sequence[int], rng: random.Random) -> None:
    config = {**point, "epochs": 27}
    state.apply(
        TrialCreated(time=0.0, trial=name, origin="search" if state.trials else "baseline", point=point, config=config)
    )
    state.apply(AttemptStarted(time=0.0, trial=name, attempt=1))
    for epoch in range(1, rungs[-1] + 1):
        metrics = {"val/accuracy": rng.random()}
        state.apply(EpochReported(time=0.0, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics))
    state.apply(TrialEnded(time=0.0, trial=name, status="paused", rung=rungs[-1]))


def main() -> None:
    """Print one line for each library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--points", type=int, default=MILLION, help="number of points for Ravel; the other libraries sample fewer"
    )
    parser.add_argument("--asks", action="store_true", help="measure proposals of a sweep instead")
    arguments = parser.parse_args()
    if arguments.asks:
        print("CPU time of a proposal in ms   trials |    auto     tpe")
        for trials in (64, 256, 1000):
            auto, tpe = (ms_per_ask(sampler, trials, asks=15) for sampler in ("auto", "tpe"))
            print(f"{trials:37,} | {auto:7.1f} {tpe:7.1f}", flush=True)
        return
    points = arguments.points
    space = catalog.regularizers()
    base = seconds_per_million(ours, space, points)
    print(f"ours          {base:8.1f} s for a million points ({len(space.names)} parameters)")
    for name, sample, n in (("optuna", optuna, 2_000), ("ray tune", tune, 2_000), ("configspace", configspace, 20_000)):
        taken = seconds_per_million(sample, space, n)
        print(f"{name:12s}  {taken:8.1f} s, {taken / base:.0f}x")


if __name__ == "__main__":
    main()
