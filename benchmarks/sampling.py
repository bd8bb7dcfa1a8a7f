"""Points of `catalog.regularizers()` against what a user would draw them with: Optuna, Ray Tune, ConfigSpace.

Each draws the same three switched methods with their conditional parameters, by the same description of the space,
in turn, in one run and on one core; ConfigSpace draws in batches, as it likes it. The unit is seconds for a million
points.

Prediction: a point of ours is twenty uniform draws, twenty look-ups and a few logarithms, 20 microseconds: 20 s for
a million. Optuna's random sampler makes a trial object for each point and locks its storage for each parameter:
a hundred times as much. Tune copies and resolves the whole space for each point: ten times. ConfigSpace draws columns
of numpy and then checks each point's conditions in Python: five times.
Result on one core of two, beside other work: 10 s for a million; Optuna 38x, Tune 126x, ConfigSpace 4x.

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
    """`sample_many`."""
    space.sample_many(n, seed=0)


def optuna(space: SearchSpace, n: int) -> None:
    """Define-by-run, random sampler, in memory."""
    import optuna  # noqa: PLC0415 - one of those compared

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(n):
        space.suggest(study.ask())


def tune(space: SearchSpace, n: int) -> None:
    """Tune's own random search."""
    from ray.tune.search.variant_generator import generate_variants  # noqa: PLC0415 - one of those compared

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


def seconds_per_million(draw: Callable[[SearchSpace, int], None], space: SearchSpace, n: int) -> float:
    """Draw n points once and scale the time."""
    started = time.perf_counter()
    draw(space, n)
    return (time.perf_counter() - started) * MILLION / n


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=MILLION, help="drawn by ours; the others draw fewer")
    points = parser.parse_args().points
    space = catalog.regularizers()
    base = seconds_per_million(ours, space, points)
    print(f"ours          {base:8.1f} s for a million points ({len(space.names)} parameters)")
    for name, draw, n in (("optuna", optuna, 2_000), ("ray tune", tune, 2_000), ("configspace", configspace, 20_000)):
        taken = seconds_per_million(draw, space, n)
        print(f"{name:12s}  {taken:8.1f} s, {taken / base:.0f}x")


if __name__ == "__main__":
    main()
