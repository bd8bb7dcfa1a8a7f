"""Next steps of a sweep with several seeds for each configuration: start, promote or drop a seed; decide at a rung.

Seeds of a configuration go on one after the other: the next starts, or is promoted, when none of it runs. Only where
nothing else is left to start do they run at the same time. So racing can drop a seed before it has cost anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.decisions.population import created
from orchestrator.decisions.steps import Descendant, FurtherSeed, Promotion, SeedDrop
from orchestrator.planning.seeds import configuration_of, seed_index_of, seed_trial_id
from orchestrator.planning.trial_configs import trial_config
from orchestrator.scheduling.racing import out_of_race
from orchestrator.state.events import SeedsDropped, TrialCreated, TrialPromoted

if TYPE_CHECKING:
    from orchestrator.decisions.steps import Step
    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.scheduling.configurations import Configuration
    from orchestrator.state.ranking import Measured


def next_seed_step(decisions: DecisionState, *, now: float) -> Step | None:
    """Choose what comes before a new configuration: a seed of one that advances, or one that is promoted; or None.

    Configurations on their way to the highest level come first, of these the one that was created first.
    """
    plan, views, budget = decisions.plan, decisions.views, decisions.budget
    if budget.is_spent(now=now):
        return None
    advancing = decisions.advancing()
    for configuration in advancing:
        if not configuration.is_active:
            return _step(decisions, configuration)
    unstarted = budget.unstarted(now=now)
    name = plan.scheduler.promote(views, unstarted=unstarted) if plan.pauses else None
    if name is not None:
        return Promotion(name, views[name].level)
    return next((_step(decisions, configuration) for configuration in advancing), None) if not unstarted else None


def _step(decisions: DecisionState, configuration: Configuration) -> Step:
    level, number = configuration.target, configuration.next_seed()
    assert level is not None, "it advances"  # noqa: S101  our own bookkeeping
    assert number is not None, "it advances"  # noqa: S101
    scheduler, views = decisions.plan.scheduler, decisions.views
    reason = out_of_race(decisions.configurations, views, scheduler, configuration.id)
    if reason is not None:
        return SeedDrop(configuration.id, level, configuration.missing(level), reason)
    if number == len(configuration.trials):
        return FurtherSeed(seed_trial_id(configuration.id, number))
    trial = configuration.trials[number]
    rung = trial.stopping_rung
    assert rung is not None, "a paused trial has a rung"  # noqa: S101
    return Promotion(trial.id, rung)


def step_event(decisions: DecisionState, step: Step, *, now: float) -> TrialPromoted | TrialCreated | SeedsDropped:
    """Return the event that records a step."""
    match step:
        case Promotion():
            return TrialPromoted(time=now, trial=step.trial, rung=step.rung, audited=step.audited)
        case Descendant():
            return created(decisions, step, now=now)
        case FurtherSeed():
            first = decisions.state.trials[configuration_of(step.trial)]
            config = trial_config(decisions.plan, step.trial, first.point)
            return TrialCreated(time=now, trial=step.trial, origin=first.origin, point=first.point, config=config)
        case SeedDrop():
            return SeedsDropped(
                time=now, trial=step.configuration, rung=step.level, seeds=step.seeds, reason=step.reason
            )


def decide_seed(decisions: DecisionState, trial: str, level: int) -> dict[str, Any] | None:
    """Return the fields of ``RungDecided`` for a trial of a configuration; None if nothing is decided.

    At a level that its configuration is on its way to, the trial waits for the other seeds; with the last of them the
    scheduler decides about the mean. A trial of a configuration that is over stops after any epoch.
    """
    configuration = decisions.configurations[configuration_of(trial)]
    fields = {"trial": trial, "rung": level, "value": _own_value(decisions, configuration, trial, level)}
    if (reason := configuration.over_because) is not None:
        return {**fields, **_rejected("out", reason)}
    if level not in configuration.levels or configuration.has_advanced(level):
        return None
    if level in configuration.decisions:
        return {**fields, **_rejected("waits", f"{configuration.id} is paused at rung {level}")}
    if missing := configuration.missing(level):
        return {**fields, **_rejected("waits", _waits(configuration, missing))}
    decision = decisions.plan.scheduler.decide(decisions.views, configuration.id, level)
    if decision is None:
        return None
    return {
        **fields,
        "cutoff": _shown(decisions, decision.cutoff),
        "competitors": decision.competitors,
        "kept": decision.kept,
        "rungs": decision.rungs,
        "audited": False,
        "outcome": "mean",
        "mean": _shown(decisions, configuration.means[level]),
        "reason": None,
    }


def is_out(decisions: DecisionState, trial: str) -> bool:
    """Return True if nothing that a trial measures from now on matters, since its configuration is over."""
    return decisions.is_seeded and decisions.configurations[configuration_of(trial)].over_because is not None


def _rejected(outcome: str, reason: str) -> dict[str, Any]:
    without: dict[str, Any] = {"cutoff": None, "competitors": 1, "kept": False, "rungs": (), "audited": False}
    return {**without, "outcome": outcome, "mean": None, "reason": reason}


def _waits(configuration: Configuration, missing: tuple[int, ...]) -> str:
    names = ", ".join(seed_trial_id(configuration.id, number) for number in missing)
    return f"{configuration.id} is compared by the mean of its seeds here: waits for {names}"


def _own_value(decisions: DecisionState, configuration: Configuration, trial: str, level: int) -> float | None:
    return configuration.trials[seed_index_of(trial)].epochs[level].get(decisions.plan.spec.objective.metric)


def _shown(decisions: DecisionState, value: Measured | None) -> float | None:
    """Return the first objective of a value, as people read it."""
    sign = 1 if decisions.plan.spec.objective.mode == "max" else -1
    return None if value is None else sign * value[0]
