"""Counts of a sweep's trials, kept in step with its state: what its progress rests on.

Each update reads only the trials that changed since the last one. So a line for each trial that ends costs the same
in a sweep of 20,000 trials as in one of 20.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Self, TypeAlias

from orchestrator.planning.seeds import configuration_in, configuration_of
from orchestrator.state.sweep_state import OVER

if TYPE_CHECKING:
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.configurations import Configuration
    from orchestrator.state.sweep_state import SweepState, Trial

Part: TypeAlias = "dict[tuple[str, object], float]"
"""Part that one trial or configuration has in the counts."""
ENDED, ACTIVE = OVER | {"paused"}, ("running", "waiting", "interrupted")
GPU_S = "cost/gpu_s"


class SweepCounts:
    """Counts of the trials of a sweep; those of a sweep with several seeds are of its configurations.

    Args:
        plan: Plan in force at the state.
        state: State of the sweep; ``updated`` follows its changes.
    """

    def __init__(self, plan: SweepPlan, state: SweepState) -> None:
        self._state = state
        self._num_read = 0
        self._begin(plan)

    def updated(self, plan: SweepPlan) -> Self:
        """Read the trials that changed; all of them after an order, which may change what every trial has to do."""
        if plan is not self._plan or len(self._state.orders) != self._num_orders:
            self._begin(plan)
            return self
        changed = dict.fromkeys(self._state.changes[self._num_read :])
        self._num_read = len(self._state.changes)
        self._read(changed)
        return self

    @property
    def by_status(self) -> dict[str, int]:
        """Number of trials in each status; of configurations, in a sweep with several seeds."""
        return {str(status): count for status, count in self._by("status").items()}

    @property
    def paused_by_rung(self) -> dict[int, int]:
        """Number of paused trials by rung, lowest first."""
        return self._rungs("paused")

    @property
    def stopped_by_rung(self) -> dict[int, int]:
        """Number of stopped trials by rung, lowest first, without those that are out of the race."""
        return self._rungs("stopped")

    @property
    def num_descendants(self) -> int:
        """Number of trials that continue another one."""
        return int(self._counts["descendants", None])

    @property
    def num_out_of_race(self) -> int:
        """Number of configurations that racing dropped on the way to their end."""
        return int(self._counts["out", None])

    @property
    def epochs_run(self) -> int:
        """Number of distinct epochs that all trials reported."""
        return int(self._counts["epochs", None])

    @property
    def epochs_saved(self) -> int:
        """Epochs of full training that configurations out of the race will not run."""
        return int(self._counts["epochs saved", None])

    @property
    def num_unfinished(self) -> int:
        """Number of trials, each seed counted, that run or wait for a worker."""
        statuses = self._by("trial status")
        return sum(statuses.get(status, 0) for status in ACTIVE)

    @property
    def mean_epochs_of_ended(self) -> float:
        """Mean number of epochs of the trials that are over or paused; 0 before one is."""
        statuses = self._by("trial status")
        ended = sum(statuses.get(status, 0) for status in ENDED)
        return self._counts["epochs of ended", None] / ended if ended else 0.0

    @property
    def gpu_s(self) -> float:
        """GPU seconds of all epochs; 0 where the budget does not count them."""
        return float(self._counts["gpu_s", None])

    def _by(self, kind: str) -> dict[object, int]:
        """Return the counts of a kind that has several, without those that are zero."""
        return {key: int(count) for (of, key), count in self._counts.items() if of == kind and count}

    def _rungs(self, kind: str) -> dict[int, int]:
        return dict(sorted((rung, count) for rung, count in self._by(kind).items() if isinstance(rung, int)))

    def _begin(self, plan: SweepPlan) -> None:
        self._plan, self._num_orders = plan, len(self._state.orders)
        self._is_seeded, self._counts_gpus = plan.spec.search.seeds > 1, plan.spec.budget.gpu_s is not None
        self._counts: defaultdict[tuple[str, object], float] = defaultdict(int)
        self._parts: dict[tuple[str, str], Part] = {}
        self._num_read = len(self._state.changes)
        self._read(dict.fromkeys(self._state.trials))

    def _read(self, names: dict[str, None]) -> None:
        trials = self._state.trials
        for name in names:
            gpu_s = (
                sum(metrics.get(GPU_S) or 0.0 for metrics in trials[name].epochs.values()) if self._counts_gpus else 0
            )
            self._put("trial", name, _of_trial(trials[name]) | {("gpu_s", None): gpu_s})
        if not self._is_seeded:
            for name in names:
                self._put("searched", name, _of_searched(trials[name]))
            return
        full = self._plan.max_epochs * self._plan.spec.search.seeds
        for name in dict.fromkeys(map(configuration_of, names)):
            configuration = configuration_in(self._plan, self._state, name)
            searched = _of_searched(configuration.as_trial())
            self._put("searched", name, searched | _of_configuration(configuration, full=full))

    def _put(self, kind: str, name: str, part: Part) -> None:
        """Count a part, in the place of the one before it."""
        before = self._parts.get((kind, name))
        if before == part:
            return
        for of, sign in ((before or {}, -1), (part, 1)):
            for key, count in of.items():
                self._counts[key] += sign * count
        self._parts[kind, name] = part


def _of_trial(trial: Trial) -> Part:
    status = trial.status
    part: Part = {("trial status", status): 1, ("epochs", None): len(trial.epochs)}
    return part | ({("epochs of ended", None): trial.epoch} if status in ENDED else {})


def _of_searched(trial: Trial) -> Part:
    status, rung = trial.status, trial.stopping_rung
    is_out = trial.is_out_of_race
    part: Part = {("status", status): 1, ("descendants", None): int(trial.descent is not None), ("out", None): is_out}
    if rung is not None and (status == "paused" or (status == "stopped" and not is_out)):
        part[status, rung] = 1
    return part


def _of_configuration(configuration: Configuration, *, full: int) -> Part:
    """Return the epochs of full training that a configuration out of the race will not run."""
    if configuration.over_because is None:
        return {}
    return {("epochs saved", None): full - sum(trial.epoch for trial in configuration.trials)}
