"""The Optuna study that a state amounts to, built anew for each ask: nothing but the event log is the state.

TPE with one objective learns from every trial: one stopped early or waiting at a rung is PRUNED with every value it
reported, a diverged or failed one FAIL, one still running RUNNING, so that its constant liar keeps it from being
proposed twice. The other samplers, and TPE with several objectives, learn from complete trials alone. To them a trial
is complete with what it measured at one level, the same for all: the highest that enough trials reached (the rule of
BOHB, Falkner et al. 2018, arXiv 1807.01774); one that was stopped below it is PRUNED without a value, which ranks last.
"""

from __future__ import annotations

import contextlib
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from search_spaces.adapters.optuna import suggest, to_optuna

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.sweep_state import SweepState, Trial
    from search_spaces import SearchSpace

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = MappingProxyType({"max": "maximize", "min": "minimize"})

STATEFUL = frozenset({"cmaes", "nsga2", "nsga3"})
"""Samplers that keep notes in the study (a generation): for these each trial is asked again."""

ENOUGH = 10
"""Trials that must have reached a level before samplers learn from it alone: as many as TPE draws at random."""

# How often the sampler is asked before a point is drawn without it. TPE that is told what breaks a constraint keeps
# most constraints at the first few asks; this many cost it a tenth of a second.
MOST_ASKS = 20


def ask(state: SweepState, spec: SweepSpec, *, seed: int) -> Point | None:
    """What the sampler proposes next, with this ask's seed; None where all that it proposes breaks a constraint."""
    return _asked(study_of(state, spec, seed=seed), spec.space)


def study_of(state: SweepState, spec: SweepSpec, *, seed: int) -> optuna.Study:
    """The study; trials outside the space (a baseline may be, where a method cannot be off) are left out."""
    import optuna  # noqa: PLC0415  costs a second: only a driver pays it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=_sampler(spec, seed), directions=[DIRECTIONS[mode] for mode in spec.objective.modes]
    )
    level = None if _learns_from_pruned(spec) else common_level(state, spec)
    trials = [
        _told(trial, point, spec, level)
        for trial, point in ((trial, _searched(trial, spec)) for trial in state.trials.values())
        if spec.space.contains(point)
    ]
    if spec.search.sampler in STATEFUL:
        _ask_again(study, spec, trials)
    else:
        study.add_trials(trials)
    return study


def common_level(state: SweepState, spec: SweepSpec) -> int | None:
    """The highest epoch at which enough trials measured every objective; the lowest, while there is none.

    None before anything was measured.
    """
    counts: dict[int, int] = {}
    for trial in state.trials.values():
        for epoch, metrics in trial.epochs.items():
            if all(metrics.get(metric) is not None for metric in spec.objective.metrics):
                counts[epoch] = counts.get(epoch, 0) + 1
    return max((epoch for epoch, count in counts.items() if count >= ENOUGH), default=min(counts, default=None))


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
    """Five generations or more, of 4 to 50 trials: Optuna's 50 would be random search to a sweep of 32."""
    return max(4, min(50, spec.search.num_trials // 5))


def _learns_from_pruned(spec: SweepSpec) -> bool:
    return spec.search.sampler in {"tpe", "random"} and not spec.objective.others


def _searched(trial: Trial, spec: SweepSpec) -> Point:
    """The searched part of its point: a baseline also says that methods are off which the sweep never turns on."""
    return {name: value for name, value in trial.point.items() if name in spec.space.parameters}


def _told(trial: Trial, point: Point, spec: SweepSpec, level: int | None) -> optuna.trial.FrozenTrial:
    """The trial as the study has it; ``level`` where trials are complete with what they measured there."""
    import optuna  # noqa: PLC0415

    states, params_and_distributions = optuna.trial.TrialState, to_optuna(spec.space, point)
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
        params=params_and_distributions[0],
        distributions=params_and_distributions[1],
        intermediate_values=trial.values(spec.objective.metric) if _learns_from_pruned(spec) else None,
        user_attrs={"trial": trial.id},
    )


def _scores(trial: Trial, spec: SweepSpec, level: int | None) -> list[float] | None:
    """Every objective, at a level or at the last epoch that measured it; None where one is missing."""
    metrics = spec.objective.metrics
    found = [trial.last(metric) if level is None else trial.values(metric).get(level) for metric in metrics]
    scores = [score for score in found if score is not None]
    return scores if len(scores) == len(metrics) else None


def _ask_again(study: optuna.Study, spec: SweepSpec, trials: list[optuna.trial.FrozenTrial]) -> None:
    """Have the sampler propose every trial once more, in order, and be given the params that it had then."""
    import optuna  # noqa: PLC0415

    for told in trials:
        study.enqueue_trial(told.params)
        trial = study.ask()
        _ = trial.relative_params  # asked for, not used: it is then that samplers write their notes
        with contextlib.suppress(optuna.TrialPruned):  # a given point may break a constraint
            suggest(trial, spec.space)
        if told.state != optuna.trial.TrialState.RUNNING:
            study.tell(trial, told.values, state=told.state)


def _asked(study: optuna.Study, space: SearchSpace) -> Point | None:
    import optuna  # noqa: PLC0415

    for _ in range(MOST_ASKS if space.constraints else 1):
        trial = study.ask()
        try:
            return suggest(trial, space)
        except optuna.TrialPruned:
            # PRUNED without a value ranks last, so that TPE models what to keep away from; it takes no note of FAIL.
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return None
