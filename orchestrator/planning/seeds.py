"""Trial ids, independent seeds derived from one, and the configurations of a sweep with several seeds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from orchestrator.scheduling.configurations import Configuration
from orchestrator.state.sweep_state import SweepState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.planning.plan import SweepPlan

DIGITS = 3


def trial_id(index: int, *, digits: int = DIGITS) -> str:
    """Return the id of the ``index``-th trial of a sweep; 0 is the baseline.

    >>> trial_id(7), trial_id(7, digits=4)
    ('t007', 't0007')
    """
    return f"t{index:0{digits}d}"


def trial_ids(num_trials: int) -> list[str]:
    """Return the ids of a sweep, all of one length: as text they sort by their numbers.

    >>> trial_ids(1001)[-2:]
    ['t0999', 't1000']
    """
    return [trial_id(index, digits=_digits_of(num_trials)) for index in range(num_trials)]


def next_trial_id(existing: Iterable[str], *, count: int, num_trials: int) -> str:
    """Return the id of the next trial of a sweep, as long as those of its ``count`` trials so far.

    Earlier versions gave sweeps of more than 1,000 trials ids of two lengths; such a sweep continues with them.

    >>> next_trial_id(["t0000"], count=1, num_trials=2000), next_trial_id(["t000"], count=1, num_trials=2000)
    ('t0001', 't001')
    """
    first = next(iter(existing), None)
    return trial_id(count, digits=_digits_of(num_trials) if first is None else len(first) - 1)


def _digits_of(num_trials: int) -> int:
    return max(DIGITS, len(str(num_trials - 1)))


def seed_trial_id(configuration: str, seed: int) -> str:
    """Return the id of the trial of a configuration with its ``seed``-th seed; that of seed 0 has the same id.

    >>> seed_trial_id("t007", 0), seed_trial_id("t007", 2)
    ('t007', 't007s2')
    """
    return f"{configuration}s{seed}" if seed else configuration


def configuration_of(trial: str) -> str:
    """Return the configuration of a trial, in a sweep with several seeds.

    >>> configuration_of("t007"), configuration_of("t007s2")
    ('t007', 't007')
    """
    return trial.partition("s")[0]


def seed_index_of(trial: str) -> int:
    """Return the number of a trial's seed, in a sweep with several seeds.

    >>> seed_index_of("t007"), seed_index_of("t007s2")
    (0, 2)
    """
    return int(trial.partition("s")[2] or 0)


def trial_seed(seed: int, trial: str, *, seeds: int) -> int:
    """Return the seed of a trial; with several ``seeds``, those of one number are the same for all configurations.

    >>> trial_seed(0, "t007s1", seeds=2) == trial_seed(0, "t008s1", seeds=2) != trial_seed(0, "t008", seeds=2)
    True
    """
    if seeds == 1:
        return derive_seed(seed, "trial", trial)
    return derive_seed(seed, "seed", str(seed_index_of(trial)))


def derive_seed(seed: int, *path: str) -> int:
    """Return a 31-bit seed for one purpose, independent of every other one and of the order of calls.

    >>> derive_seed(0, "trial", "t001") == derive_seed(0, "trial", "t001") != derive_seed(0, "trial", "t002")
    True
    """
    digest = hashlib.sha256("/".join((str(seed), *path)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def configuration_in(plan: SweepPlan, state: SweepState, name: str) -> Configuration:
    """Return a configuration of a sweep with several seeds, as far as its trials were created."""
    seeds = plan.spec.search.seeds
    names = (seed_trial_id(name, number) for number in range(seeds))
    trials = tuple(state.trials[trial] for trial in names if trial in state.trials)
    return Configuration(trials, plan.rungs, seeds, plan.spec.objective)


def configurations_of(plan: SweepPlan, state: SweepState) -> dict[str, Configuration]:
    """Return the configurations of a sweep with several seeds, by id; those of a sweep with one seed are its trials."""
    if plan.spec.search.seeds == 1:
        return {}
    return {name: configuration_in(plan, state, name) for name in dict.fromkeys(map(configuration_of, state.trials))}


def searched_state(plan: SweepPlan, state: SweepState) -> SweepState:
    """Return a state whose trials are the configurations of a sweep, with means over their seeds.

    It is for reading: ranks, scores and counts. Of a sweep with one seed it is the state itself.
    """
    if plan.spec.search.seeds == 1:
        return state
    searched = SweepState()
    configurations = configurations_of(plan, state)
    searched.trials = {name: configuration.as_trial() for name, configuration in configurations.items()}
    searched.num_events, searched.ended, searched.last_time = state.num_events, state.ended, state.last_time
    return searched
