"""Speed of sampling `catalog.regularizers()` against Optuna, Ray Tune and ConfigSpace.

Each samples the same three switched methods with their conditional parameters, from the same description of the space,
one after the other, in one run and on one core; ConfigSpace samples in batches, its fastest way. The unit is seconds
for a million points.

Prediction: a point of ours is twenty uniform samples, twenty look-ups and a few logarithms, 20 microseconds: 20 s for
a million. Optuna's random sampler makes a trial object for each point and locks its storage for each parameter:
a hundred times as much. Tune copies and resolves the whole space for each point: ten times. ConfigSpace samples columns
of numpy and then checks each point's conditions in Python: five times.
Result on one core of two, alongside other work: 10 s for a million; Optuna 38x, Tune 126x, ConfigSpace 4x.

    python benchmarks/sampling.py
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

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


def main() -> None:
    """Print one line for each library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--points", type=int, default=MILLION, help="number of points for Ravel; the other libraries sample fewer"
    )
    points = parser.parse_args().points
    space = catalog.regularizers()
    base = seconds_per_million(ours, space, points)
    print(f"ours          {base:8.1f} s for a million points ({len(space.names)} parameters)")
    for name, sample, n in (("optuna", optuna, 2_000), ("ray tune", tune, 2_000), ("configspace", configspace, 20_000)):
        taken = seconds_per_million(sample, space, n)
        print(f"{name:12s}  {taken:8.1f} s, {taken / base:.0f}x")


if __name__ == "__main__":
    main()
