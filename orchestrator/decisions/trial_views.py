"""The views of a sweep: what the rules see of its state."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from orchestrator.scheduling.asha import Asha
from orchestrator.scheduling.protocol import RungDecision, TrialView, TrialViews
from orchestrator.scheduling.rungs import brackets_of, expected_cost
from orchestrator.state.ranking import measured
from orchestrator.state.sweep_state import OVER
from search_spaces import Choice, Fixed, ZeroOr
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.protocol import Scheduler, State
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.events import RungDecided
    from orchestrator.state.ranking import Measured
    from orchestrator.state.sweep_state import SweepState, Trial
    from search_spaces import SearchSpace

UNBOUNDED = 2**53
"""The maximum of a resource that nobody knows beforehand."""


def trial_views_of(state: SweepState, plan: SweepPlan) -> TrialViews:
    """Every trial as the plan's rule sees it; a function of the state alone."""
    brackets = brackets_for(plan.rule, len(state.trials), plan.max_epochs)
    trials = zip(state.trials.values(), brackets, strict=True)
    return TrialViews({trial.id: _view(trial, plan, bracket=bracket) for trial, bracket in trials})


def brackets_for(rule: Scheduler, count: int, maximum: int) -> list[int]:
    """The bracket of each of the first ``count`` trials under a rule."""
    if not isinstance(rule, Asha) or len(rule.brackets) == 1:
        return [0] * count
    return brackets_of(count, [expected_cost(each, rule.reduction_factor, maximum) for each in rule.brackets])


def levels_after(trial: Trial, epoch: int, plan: SweepPlan) -> list[int]:
    """The levels a trial is to be judged at after an epoch, lowest first: the epoch itself, or rungs its cost crossed.

    An epoch may cross several. Whoever waited at the first of them is judged at the others after the next epoch.
    """
    if plan.spec.scheduler.resource == "epochs":
        return [epoch]
    return [rung for rung, at in _crossings(trial, plan) if at <= epoch and rung not in trial.rungs]


def values_at(trial: Trial, epoch: int, spec: SweepSpec) -> Measured:
    """The objectives as an epoch measured them, ready to be ranked."""
    objective = spec.objective
    return measured([trial.epochs[epoch].get(metric) for metric in objective.metrics], objective.modes)


def passes_per_epoch(config: dict[str, Any]) -> int:
    """What an epoch of a trial costs in epochs of plain training.

    >>> passes_per_epoch({"epochs": 3}), passes_per_epoch({"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm_rs"})
    (1, 2)
    """
    return task_of(config).passes_per_epoch(config)


def stratum(config: dict[str, Any], spec: SweepSpec) -> tuple[object, ...]:
    """The group a trial is compared in: of each parameter of ``scheduler.strata`` its value, or its half of the range.

    What is zero or absent is a group of its own: a method that is off.
    """
    return tuple(_part(config.get(name), name, spec.space) for name in spec.scheduler.strata)


def _part(value: Any, name: str, space: SearchSpace) -> object:
    domain = space.parameters[name]
    if not value or isinstance(value, bool | str) or isinstance(domain, Choice | Fixed):
        return value or None
    if isinstance(domain, ZeroOr):
        domain = domain.domain
    return "high" if domain.to_unit(value) >= domain.to_unit(domain.from_unit(0.5)) else "low"


def _view(trial: Trial, plan: SweepPlan, *, bracket: int) -> TrialView:
    spec = plan.spec
    by_epochs = spec.scheduler.resource == "epochs"
    values = _values(trial, plan)
    waits_at = trial.rejected_at if plan.pauses else None
    return TrialView(
        trial.id,
        maximum=trial.budget if by_epochs else UNBOUNDED,
        bracket=bracket,
        stratum=stratum(trial.config, spec) if spec.scheduler.strata else (),
        exempt=trial.origin == "baseline",
        level=waits_at or (trial.epoch if by_epochs else max(values, default=0)),
        values=values,
        decisions={each.rung: _decision(each) for each in trial.rungs.values()},
        promoted=frozenset(trial.promoted_from),
        state=_state(trial.status) if waits_at is None or trial.status in OVER else "paused",
        blind_from=trial.blind_from,
    )


def _state(status: str) -> State:
    if status == "completed":
        return "completed"
    return "over" if status in OVER else "running"


def _decision(decided: RungDecided) -> RungDecision:
    """What a rule reads of an earlier decision: its cutoff was for people."""
    return RungDecision(decided.rung, decided.kept, competitors=decided.competitors, rungs=decided.rungs)


def _values(trial: Trial, plan: SweepPlan) -> dict[int, Measured]:
    """What the trial measured at each level that a rule may look at."""
    rungs = plan.rule.rungs
    if plan.spec.scheduler.resource == "epochs":
        at = {epoch: epoch for epoch in trial.epochs if rungs is None or epoch in rungs}
    else:
        at = dict(_crossings(trial, plan))
    return {level: values_at(trial, epoch, plan.spec) for level, epoch in at.items()}


def _crossings(trial: Trial, plan: SweepPlan) -> Iterator[tuple[int, int]]:
    """(rung, epoch) for each rung that the cost of the trial has crossed, lowest first."""
    epochs = sorted(trial.epochs)
    if plan.spec.scheduler.resource == "gpu_seconds":
        each = [trial.epochs[epoch].get("cost/gpu_s") or 0.0 for epoch in epochs]
    else:
        each = [float(passes_per_epoch(trial.config))] * len(epochs)
    spent = list(accumulate(each))
    for rung in plan.rule.rungs or ():
        crossing = next((epoch for epoch, used in zip(epochs, spent, strict=True) if used >= rung), None)
        if crossing is not None:
            yield rung, crossing
