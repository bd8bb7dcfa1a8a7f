"""State that decisions rest on: trial views and the used budget, a fold over events next to the sweep state."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.budget import BudgetUse
from orchestrator.planning.changes.extension import extended
from orchestrator.planning.seeds import configuration_in, configuration_of
from orchestrator.scheduling.asha import Asha
from orchestrator.scheduling.rung_decision import RungDecision
from orchestrator.scheduling.rungs import brackets_of, expected_cost, fill_bracket
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.state.events import CheckpointSaved, CheckpointsDropped, OfSweep, OrderAccepted
from orchestrator.state.ranking import measured
from orchestrator.state.sweep_state import OVER, SweepState
from search_spaces import Choice, Fixed, ZeroOr
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.configurations import Configuration
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.scheduling.trial_views import State
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.events import Event, RungDecided
    from orchestrator.state.ranking import Measured
    from orchestrator.state.sweep_state import Trial
    from search_spaces import SearchSpace

UNBOUNDED = 2**53
"""Maximum of a resource that is not known beforehand."""


class DecisionState:
    """Fold of events that decisions rest on; apply each event after the sweep state has.

    An event changes the view of one trial, so it costs as much as that trial has rungs, however large the sweep is. An
    order that extends the plan makes all views once more.

    With ``search.seeds`` above 1 the views are those of configurations, and ``searched`` has each of them as one trial.

    Args:
        plan: Plan in force at the state.
        state: State of the sweep.
    """

    def __init__(self, plan: SweepPlan, state: SweepState) -> None:
        self.state = state
        self._begin(plan)

    def _begin(self, plan: SweepPlan) -> None:
        state, self.plan = self.state, plan
        self.views = TrialViews()
        self.budget = BudgetUse(plan, state)
        self._bracket_costs = bracket_costs(plan.scheduler, plan.max_epochs)
        self._bracket_counts = [0] * len(self._bracket_costs)
        self.is_seeded = plan.spec.search.seeds > 1
        self.configurations: dict[str, Configuration] = {}
        self.searched = SweepState() if self.is_seeded else state
        """Trials as a sampler sees them."""
        self._advancing: set[str] = set()
        self._is_priced = plan.rung_schedule is not None and plan.rung_schedule.is_priced
        for trial in state.trials.values():
            self._update(trial)

    def apply(self, event: Event) -> None:
        """Take one event in."""
        self.budget.apply(event)
        if isinstance(event, OrderAccepted) and event.action == "extend":
            self._begin(extended(self.plan, event))
        elif not isinstance(event, OfSweep | CheckpointSaved | CheckpointsDropped):
            self._update(self.state.trials[event.trial])

    def advancing(self) -> list[Configuration]:
        """Return the configurations that have a seed to start or to promote, the one furthest on its way first."""
        some = (self.configurations[name] for name in self._advancing)
        return sorted(some, key=lambda configuration: (-(configuration.target or 0), configuration.id))

    def _update_configuration(self, name: str) -> None:
        configuration = configuration_in(self.plan, self.state, name)
        trial = configuration.as_trial()
        if name not in self.configurations:
            self.searched.num_given += trial.origin != "search"
        self.configurations[name], self.searched.trials[name] = configuration, trial
        self.searched.changes.append(name)
        (self._advancing.discard if configuration.next_seed() is None else self._advancing.add)(name)
        stratum, cost = _stratum(trial.config, self.plan.spec), self._cost(trial)
        self.views.put(configuration.view(stratum=stratum, cost=cost))

    def _update(self, trial: Trial) -> None:
        if self.is_seeded:
            self._update_configuration(configuration_of(trial.id))
            return
        if trial.id in self.views:
            bracket = self.views[trial.id].bracket
        else:
            bracket = fill_bracket(self._bracket_counts, self._bracket_costs)
        self.views.put(_view(trial, self.plan, bracket=bracket, cost=self._cost(trial)))

    def _cost(self, trial: Trial) -> int:
        """Return the passes of an epoch, where the budget counts them; else 1."""
        if not self._is_priced:
            return 1
        view = self.views.get(trial.id)
        return passes_per_epoch(trial.config) if view is None else view.cost

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles whatever holds this into a file that is never read; the log is the state."""
        return {}


def trial_views_of(state: SweepState, plan: SweepPlan) -> TrialViews:
    """Return every trial as the plan's scheduler sees it; a function of the state alone."""
    return DecisionState(plan, state).views


def brackets_for(scheduler: Scheduler, count: int, maximum: int) -> list[int]:
    """Return the bracket of each of the first ``count`` trials under a scheduler."""
    return brackets_of(count, bracket_costs(scheduler, maximum))


def bracket_costs(scheduler: Scheduler, maximum: int) -> list[float]:
    """Return the expected cost of a trial in each bracket of a scheduler."""
    if not isinstance(scheduler, Asha):
        return [0.0]
    return [expected_cost(bracket, scheduler.reduction_factor, maximum) for bracket in scheduler.brackets]


def levels_after(trial: Trial, epoch: int, plan: SweepPlan) -> list[int]:
    """Return the levels to decide at after an epoch, lowest first: the epoch itself, or rungs its cost crossed.

    An epoch may cross several. After a pause at the first of them, the rest follow with the next epoch.
    """
    if plan.spec.scheduler.rung_unit == "epochs":
        return [epoch]
    return [rung for rung, at in _crossings(trial, plan).items() if at <= epoch and rung not in trial.rungs]


def values_at(trial: Trial, epoch: int, spec: SweepSpec) -> Measured:
    """Return the objectives as an epoch measured them, ready to be ranked."""
    objective = spec.objective
    return measured([trial.epochs[epoch].get(metric) for metric in objective.metrics], objective.modes)


def passes_per_epoch(config: dict[str, Any]) -> int:
    """Return the cost of an epoch of a trial in epochs of plain training.

    >>> passes_per_epoch({"epochs": 3}), passes_per_epoch({"adversarial.epsilon": 0.1, "adversarial.attack": "fgsm_rs"})
    (1, 2)
    """
    return task_of(config).passes_per_epoch(config)


def stratum(config: dict[str, Any], spec: SweepSpec) -> tuple[object, ...]:
    """Return the group a trial is compared in: of each parameter in ``scheduler.strata`` its value, or half of range.

    A value that is zero or absent is a group of its own: a method that is off.
    """
    return tuple(_part(config.get(name), name, spec.space) for name in spec.scheduler.strata)


def _stratum(config: dict[str, Any], spec: SweepSpec) -> tuple[object, ...]:
    return stratum(config, spec) if spec.scheduler.strata else ()


def _part(value: Any, name: str, space: SearchSpace) -> object:
    domain = space.parameters[name]
    if not value or isinstance(value, bool | str) or isinstance(domain, Choice | Fixed):
        return value or None
    if isinstance(domain, ZeroOr):
        domain = domain.domain
    return "high" if domain.to_unit(value) >= domain.to_unit(domain.from_unit(0.5)) else "low"


def _view(trial: Trial, plan: SweepPlan, *, bracket: int, cost: int) -> TrialView:
    spec = plan.spec
    by_epochs = spec.scheduler.rung_unit == "epochs"
    values = _values(trial, plan)
    paused_at = trial.rejected_at if plan.pauses else None
    return TrialView(
        trial.id,
        maximum=trial.budget if by_epochs else UNBOUNDED,
        bracket=bracket,
        stratum=_stratum(trial.config, spec),
        exempt=trial.origin == "baseline",
        level=paused_at or (trial.epoch if by_epochs else max(values, default=0)),
        values=values,
        decisions={decided.rung: _decision(decided) for decided in trial.rungs.values()},
        promoted=frozenset(trial.promoted_from),
        state=_state(trial.status) if paused_at is None or trial.status in OVER else "paused",
        blind_from=trial.blind_from,
        cost=cost,
    )


def _state(status: str) -> State:
    if status == "completed":
        return "completed"
    return "over" if status in OVER else "running"


def _decision(decided: RungDecided) -> RungDecision:
    """Return the part of a recorded decision that schedulers read: its cutoff is for people."""
    return RungDecision(decided.rung, decided.kept, competitors=decided.competitors, rungs=decided.rungs)


def _values(trial: Trial, plan: SweepPlan) -> dict[int, Measured]:
    """Return the value of the trial at each level that a scheduler may read."""
    if plan.spec.scheduler.rung_unit != "epochs":
        at = _crossings(trial, plan)
    else:
        levels = trial.epochs if plan.scheduler.rungs is None else plan.scheduler.rungs
        at = {level: level for level in levels if level in trial.epochs}
    end = trial.budget if _ended_before_extension(trial, plan) else math.inf
    return {level: values_at(trial, epoch, plan.spec) for level, epoch in at.items() if epoch < end}


def _ended_before_extension(trial: Trial, plan: SweepPlan) -> bool:
    """Return True for a trial that ended under fewer epochs: its last epoch was its end, and no rung that it faced."""
    return plan.launched.max_epochs < plan.max_epochs and trial.budget < plan.max_epochs


def _crossings(trial: Trial, plan: SweepPlan) -> dict[int, int]:
    """Return the epoch at which the cost of the trial crossed each rung, lowest first."""
    epochs = sorted(trial.epochs)
    if plan.spec.scheduler.rung_unit == "gpu_seconds":
        costs = [trial.epochs[epoch].get("cost/gpu_s") or 0.0 for epoch in epochs]
    else:
        costs = [float(passes_per_epoch(trial.config))] * len(epochs)
    used = iter(zip(epochs, accumulate(costs), strict=True))
    crossings: dict[int, int] = {}
    epoch, cost = 0, 0.0
    for rung in plan.scheduler.rungs or ():
        while cost < rung:
            epoch, cost = next(used, (0, float("inf")))
        if not epoch:
            break
        crossings[rung] = epoch
    return crossings
