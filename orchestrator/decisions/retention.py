"""Retention of checkpoints: which trials that are over keep theirs, a function of the sweep state alone.

A trial keeps all of its checkpoints or none. Trials that run, wait for a retry or are paused at a rung keep theirs, as
do those that an order is about to reopen, and those whose training a trial that is not over continues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.state.ranking import for_people, is_finite, measured
from orchestrator.state.sweep_state import OVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.spec.objective import Objective
    from orchestrator.state.sweep_state import SweepState, Trial


def best_first(trials: Iterable[Trial], objective: Objective) -> list[str]:
    """Rank trials that are over by their models: those with a full budget first, then those that were stopped.

    Within both the order is that of the leaderboard. Trials that diverged or failed have no model worth keeping, and
    those without a score have no rank.
    """
    ranked: list[str] = []
    trials = list(trials)
    for status in ("completed", "stopped"):
        last = {
            trial.id: measured([trial.last(target.metric) for target in objective.all], objective.modes)
            for trial in trials
            if trial.status == status
        }
        ranked += for_people({name: values for name, values in last.items() if is_finite(values)})
    return ranked


def droppable(trials: Iterable[Trial], objective: Objective, *, keep_best: int) -> list[str]:
    """Return the trials whose checkpoints go, in the order in which they ended.

    The best are chosen among the trials that are over and still have checkpoints, so that there are ``keep_best`` of
    them whatever was dropped before.

    Example:
        >>> from orchestrator.spec.objective import Objective
        >>> from orchestrator.state.events import CheckpointSaved, EpochReported, TrialCreated, TrialEnded
        >>> from orchestrator.state.sweep_state import SweepState
        >>> state = SweepState()
        >>> for name, accuracy in (("t000", 0.8), ("t001", 0.9)):
        ...     state.apply(TrialCreated(time=1.0, trial=name, origin="search", point={}, config={"epochs": 1}))
        ...     measured = {"val/accuracy": accuracy}
        ...     head = {"time": 1.0, "trial": name, "epoch": 1}
        ...     state.apply(EpochReported(**head, attempt=1, since_restore=1, metrics=measured))
        ...     state.apply(CheckpointSaved(**head, path=f"tune/{name}-1-g1/checkpoint_000000"))
        ...     state.apply(TrialEnded(time=1.0, trial=name, status="completed"))
        >>> droppable(state.trials.values(), Objective(), keep_best=1)
        ['t000']
    """
    over = [trial for trial in trials if trial.status in OVER and trial.checkpoints]
    kept = set(best_first(over, objective)[:keep_best])
    return [trial.id for trial in sorted(over, key=lambda trial: trial.ended_at) if trial.id not in kept]


class RetentionIndex:
    """Trials that are over and have checkpoints, kept in step with the sweep state, however many trials it has."""

    def __init__(self, state: SweepState) -> None:
        self._state, self._num_read = state, 0
        self._over: dict[str, Trial] = {}
        self._parents: dict[str, str] = {}
        """Parents of the descendants that are not over, which may have to begin once more."""

    def droppable(self, objective: Objective, *, keep_best: int) -> list[str]:
        """Return the trials whose checkpoints go now; not of those that an order reopens or a descendant needs."""
        changed = self._state.changes[self._num_read :]
        self._num_read += len(changed)
        for name in dict.fromkeys(changed):
            trial = self._state.trials[name]
            if trial.status in OVER and trial.checkpoints:
                self._over[name] = trial
            else:
                self._over.pop(name, None)
            if trial.descent is not None and trial.status not in OVER:
                self._parents[name] = trial.descent.parent
            else:
                self._parents.pop(name, None)
        needed = {*self._state.to_reopen, *self._parents.values()}
        trials = (trial for name, trial in self._over.items() if name not in needed)
        return droppable(trials, objective, keep_best=keep_best)


def num_stored(num_trials: int, *, keep_best: int | None) -> int:
    """Return how many trials of a sweep have checkpoints at its end."""
    return num_trials if keep_best is None else min(num_trials, keep_best)


def most_stored(num_trials: int, *, keep_best: int | None, pauses: bool, live: int) -> int:
    """Return how many trials have checkpoints at the same time, at most: paused trials wait with theirs.

    >>> most_stored(1000, keep_best=5, pauses=False, live=8), most_stored(1000, keep_best=5, pauses=True, live=8)
    (14, 1000)
    """
    if keep_best is None or pauses:
        return num_trials
    return min(num_trials, keep_best + live + 1)
