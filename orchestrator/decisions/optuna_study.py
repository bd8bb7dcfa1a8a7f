"""Optuna study of a running sweep: what a sampler learns from the sweep state.

TPE with one objective learns from every trial: one that was stopped early or is paused at a rung is PRUNED with every
value it reported, a diverged or failed one FAIL, one that still runs RUNNING, so that the constant liar keeps TPE from
proposing it twice. The other samplers, and TPE with several objectives, learn from complete trials alone. To them a
trial is complete with what it measured at one level, the same for all trials: the highest that enough trials reached
(the rule of BOHB, Falkner et al. 2018, arXiv 1807.01774). A trial that was stopped below it is PRUNED without a value,
which ranks last.

A user's own sampler of Optuna is one of these by its class; a class that is not known is asked as CMA-ES and NSGA are,
with its notes rebuilt at each ask, so that it is a function of the log too.

The study holds nothing that the event log does not. It is brought up to date before each ask with the trials that
changed since the last one; after a restart, with all of them. The sampler is made for each ask, with a seed of its own.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, final

from orchestrator.errors import quoted
from search_spaces import SpaceError
from search_spaces.adapters.optuna import suggest, to_optuna

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import optuna

    from orchestrator.decisions.trial_storage import TrialStorage
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.spec.own_code import OwnCode
    from orchestrator.state.sweep_state import SweepState, Trial
    from search_spaces import SearchSpace

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = MappingProxyType({"max": "maximize", "min": "minimize"})

STATEFUL = frozenset({"cmaes", "nsga2", "nsga3"})
"""Samplers that write notes on trials (a generation, a distribution). Notes depend on the seed of the ask and on all
trials before, whose values may still change. So each ask starts with one for every trial: the cost of an ask grows with
the sweep, for these samplers alone."""

ENOUGH = 10
"""Trials that must have reached a level before samplers learn from it alone: as many as TPE samples at random."""

MOST_ASKS = 20
"""Asks before a point is sampled without the sampler. TPE, which learns what breaks a constraint, satisfies most
constraints at the first few asks; this many cost it a tenth of a second."""


def random_point(space: SearchSpace, seed: int) -> Point | None:
    """Return a point of Optuna's random sampler, which learns from no trial; see `SweepStudy.ask`."""
    import optuna  # noqa: PLC0415  costs a second: only a driver pays it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return _asked(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)), space)


@dataclass(frozen=True, slots=True)
class OwnSampler:
    """A user's sampler: its ``code``, and the function that makes one with a seed."""

    code: OwnCode
    make: Callable[..., object]


@final
class SweepStudy:
    """Optuna's view of a sweep, kept from ask to ask.

    Trials outside the space (a baseline may be one, where a method is never off) are left out.
    """

    def __init__(self, spec: SweepSpec, state: SweepState, own: OwnSampler | None = None) -> None:
        self._spec, self._state = spec, state
        self._sampler_of = partial(_sampler, spec) if own is None else partial(_own_sampler, own)
        learns, self._takes_notes = _traits(spec) if own is None else _own_traits(own, spec)
        # Trials of a user's sampler may be asked for once more at each ask, with all that it has to say about them.
        self._verbosity = logging.WARNING if own is None else logging.ERROR
        self._num_read = 0
        self._rows: dict[str, _Row] = {}
        self._levels = None if learns else Levels(spec.objective.metrics)
        self.level: int | None = None
        """Epoch at which trials are complete to a sampler that learns from complete trials alone."""

    def ask(self, seed: int) -> Point | None:
        """Return the sampler's next proposal under this seed, or None where all its proposals break a constraint."""
        return _asked(self.study(seed), self._spec.space)

    def study(self, seed: int) -> optuna.Study:
        """Return the study of the sweep as it is now, with a sampler of this seed; valid until the next call."""
        import optuna  # noqa: PLC0415  costs a second: only a driver pays it

        optuna.logging.set_verbosity(self._verbosity)
        self._update()
        spec, sampler = self._spec, self._sampler_of(seed)
        if not self._takes_notes:
            return optuna.load_study(study_name=None, storage=self._storage, sampler=sampler)
        study = optuna.create_study(sampler=sampler, directions=_directions(spec))
        _ask_for_all(study, spec.space, self._storage.trials)
        return study

    @cached_property
    def _storage(self) -> TrialStorage:
        from orchestrator.decisions.trial_storage import TrialStorage  # noqa: PLC0415  imports Optuna

        return TrialStorage(_directions(self._spec))

    def _update(self) -> None:
        """Drop what the last ask added, and rebuild the trials that changed since, or all if the level did."""
        self._storage.keep(len(self._rows))
        changed = list(dict.fromkeys(self._state.changes[self._num_read :]))
        self._num_read = len(self._state.changes)
        for name in changed:
            self._add(self._state.trials[name])
        level = self._levels.common if self._levels is not None else None
        if level != self.level:
            self.level, changed = level, list(self._rows)
        for name in changed:
            if (row := self._rows.get(name)) is not None:
                frozen = _frozen(self._state.trials[name], row, self._spec, level, learns=self._levels is None)
                self._storage.put(row.number, frozen)

    def _add(self, trial: Trial) -> None:
        """Give a new trial its number, if the space contains it, and count the levels it measured."""
        if self._levels is not None:
            self._levels.add(trial)
        if trial.id not in self._rows:
            with contextlib.suppress(SpaceError):
                params, distributions = to_optuna(self._spec.space, _searched(trial, self._spec))
                self._rows[trial.id] = _Row(len(self._rows), params, distributions)


@dataclass(frozen=True, slots=True)
class _Row:
    """Constant part of a trial in the study."""

    number: int
    params: dict[str, Any]
    distributions: dict[str, optuna.distributions.BaseDistribution]


@final
class Levels:
    """Number of trials that measured every objective at each epoch."""

    def __init__(self, metrics: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._counts: dict[int, int] = {}
        self._num_read: dict[str, int] = {}

    def add(self, trial: Trial) -> None:
        """Count the epochs that the trial reported since it was added last."""
        for epoch, metrics in islice(trial.epochs.items(), self._num_read.get(trial.id, 0), None):
            if all(metrics.get(metric) is not None for metric in self._metrics):
                self._counts[epoch] = self._counts.get(epoch, 0) + 1
        self._num_read[trial.id] = len(trial.epochs)

    @property
    def common(self) -> int | None:
        """The highest epoch that enough trials measured, else the lowest that any did; None before the first."""
        enough = (epoch for epoch, count in self._counts.items() if count >= ENOUGH)
        return max(enough, default=min(self._counts, default=None))


def _directions(spec: SweepSpec) -> list[Literal["maximize", "minimize"]]:
    return [DIRECTIONS[mode] for mode in spec.objective.modes]


def _sampler(spec: SweepSpec, seed: int) -> optuna.samplers.BaseSampler:
    import optuna  # noqa: PLC0415

    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec.search.sampler:
            case "tpe":
                return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
            case "gp":
                return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
            case "nsga2":
                return samplers.NSGAIISampler(seed=seed, population_size=_population(spec))
            case "nsga3":
                return samplers.NSGAIIISampler(seed=seed, population_size=_population(spec))
            case _:
                return samplers.RandomSampler(seed=seed)


def _population(spec: SweepSpec) -> int:
    """Return a population of 4 to 50 trials, so that a sweep has five generations or more.

    With Optuna's own 50, a sweep of 32 trials would be random search.
    """
    return max(4, min(50, spec.search.num_trials // 5))


def _traits(spec: SweepSpec) -> tuple[bool, bool]:
    """Return True if the sampler of a spec learns from pruned trials, and True if it writes notes on trials."""
    learns = spec.search.sampler in {"tpe", "random"} and not spec.objective.others
    return learns, spec.search.sampler in STATEFUL


def _own_sampler(own: OwnSampler, seed: int) -> optuna.samplers.BaseSampler:
    """Return a user's sampler of this seed.

    Raises:
        SpecError: what the user's code makes is no sampler of Optuna.
    """
    import optuna  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = own.make(seed=seed)
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        made = f"{own.code.name} made {quoted(sampler)}"
        raise own.code.wrong(f"must propose points, or make a sampler of Optuna (optuna.samplers.BaseSampler); {made}")
    return sampler


def _own_traits(own: OwnSampler, spec: SweepSpec) -> tuple[bool, bool]:
    """Return the same of a user's sampler; one that is not known to write no notes is taken for one that does."""
    from optuna import samplers  # noqa: PLC0415

    with own.code.running("when it was made"):
        sampler = _own_sampler(own, seed=0)
    learns = isinstance(sampler, samplers.TPESampler | samplers.RandomSampler) and not spec.objective.others
    kinds = samplers.TPESampler, samplers.RandomSampler, samplers.GPSampler, samplers.BruteForceSampler
    return learns, not isinstance(sampler, kinds)


def _searched(trial: Trial, spec: SweepSpec) -> Point:
    """Return the searched part of a trial's point: a baseline also has the methods that the sweep never switches on."""
    return {name: value for name, value in trial.point.items() if name in spec.space.parameters}


def _frozen(trial: Trial, row: _Row, spec: SweepSpec, level: int | None, *, learns: bool) -> optuna.trial.FrozenTrial:
    """Return the trial as the study has it; with a ``level``, trials are complete with what they measured at it.

    A sampler that ``learns`` from pruned trials sees all values that they reported.
    """
    import optuna  # noqa: PLC0415

    states = optuna.trial.TrialState
    ended = {
        "completed": states.COMPLETE,
        "stopped": states.PRUNED,
        "paused": states.PRUNED,
        "diverged": states.FAIL,
        "failed": states.FAIL,
    }
    state = ended.get(trial.status, states.RUNNING)
    values = _scores(trial, spec, level)
    if values is not None and (state == states.COMPLETE or (level is not None and state != states.FAIL)):
        state = states.COMPLETE
    elif state == states.COMPLETE:  # a full run that measured no objective, or ended below the level
        state = states.FAIL if level is None else states.PRUNED
    return optuna.trial.create_trial(
        state=state,
        values=values if state == states.COMPLETE else None,
        params=row.params,
        distributions=row.distributions,
        intermediate_values=trial.values(spec.objective.metric) if learns else None,
        user_attrs={"trial": trial.id},
    )


def _scores(trial: Trial, spec: SweepSpec, level: int | None) -> list[float] | None:
    """Return every objective, at a level or at the last epoch that measured it; None where one is missing."""
    metrics = spec.objective.metrics
    values = [trial.last(metric) if level is None else trial.values(metric).get(level) for metric in metrics]
    scores = [value for value in values if value is not None]
    return scores if len(scores) == len(metrics) else None


def _ask_for_all(study: optuna.Study, space: SearchSpace, trials: Iterable[optuna.trial.FrozenTrial]) -> None:
    """Have the sampler propose every trial once more, in order, and give the trial the params that it has."""
    import optuna  # noqa: PLC0415

    for recorded in trials:
        study.enqueue_trial(recorded.params)
        trial = study.ask()
        _ = trial.relative_params  # read, not used: samplers write their notes now
        with contextlib.suppress(optuna.TrialPruned):  # a given point may break a constraint
            suggest(trial, space)
        if recorded.state != optuna.trial.TrialState.RUNNING:
            study.tell(trial, recorded.values, state=recorded.state)


def _asked(study: optuna.Study, space: SearchSpace) -> Point | None:
    import optuna  # noqa: PLC0415

    for _ in range(MOST_ASKS if space.constraints else 1):
        trial = study.ask()
        try:
            return suggest(trial, space)
        except optuna.TrialPruned:
            # PRUNED without a value ranks last, so that TPE models what to avoid; it takes no note of FAIL.
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return None
