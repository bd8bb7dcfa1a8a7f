"""One order of all trials of a sweep, best first, from values that were measured at different epochs.

Values of different epochs are never compared. Trials are ordered by the epoch that all of them measured; then those
that went further are reordered, by the value at the next epoch at which one of them ended, among the places that they
held. So a trial that was promoted keeps a good place for having been the better one below, and loses it to no trial
that has measured less, while a leader that falls back on the way loses its place to these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from orchestrator.state.ranking import is_finite, measured, order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.spec.model import SweepSpec
    from orchestrator.spec.objective import Objective
    from orchestrator.state.ranking import Measured
    from orchestrator.state.sweep_state import SweepState, Trial

LOST = frozenset({"diverged", "failed"})
RUNS = frozenset({"waiting", "running", "interrupted"})


@final
class TrialOrder:
    """Order of the trials of a sweep; the values of those that changed since the last call are re-read."""

    def __init__(self, spec: SweepSpec, state: SweepState) -> None:
        self._objective, self._state = spec.objective, state
        self._values: dict[str, dict[int, Measured]] = {}
        self._num_read = 0

    def ranked(self) -> list[str]:
        """Return the trials that are comparable, best first, and last those that were lost.

        A trial that runs is left out until it measured as much as one that waits at a rung or is over.
        """
        changed, self._num_read = dict.fromkeys(self._state.changes[self._num_read :]), len(self._state.changes)
        self._values |= {name: _values(self._state.trials[name], self._objective) for name in changed}
        status = {name: trial.status for name, trial in self._state.trials.items()}
        lost = sorted(name for name in status if status[name] in LOST)
        last = {name: max(of) for name, of in self._values.items() if of and status[name] not in LOST}
        least = min((epoch for name, epoch in last.items() if status[name] not in RUNS), default=None)
        if least is None:
            return lost
        return [*reordered({name: self._values[name] for name in last if last[name] >= least}, least), *lost]


def reordered(values: Mapping[str, Mapping[int, Measured]], least: int) -> list[str]:
    """Return the trials in the order of an epoch that all have reached, reordered by each later one at which one ended.

    >>> reordered({"a": {1: (0.9,), 3: (0.7,)}, "b": {1: (0.8,)}, "c": {1: (0.6,), 3: (0.8,)}, "d": {1: (0.5,)}}, 1)
    ['c', 'b', 'a', 'd']
    """
    last = {name: max(of) for name, of in values.items()}
    names = order({name: _at(of, least) for name, of in values.items()})
    for epoch in sorted(set(last.values()) - {least}):
        better = iter(order({name: _at(values[name], epoch) for name in names if last[name] >= epoch}))
        names = [next(better) if last[name] >= epoch else name for name in names]
    return names


def _at(values: Mapping[int, Measured], epoch: int) -> Measured:
    """Return the value at an epoch; where it was not measured at that, the last one before, or else the first."""
    return values[epoch] if epoch in values else values[max((at for at in values if at < epoch), default=min(values))]


def _values(trial: Trial, objective: Objective) -> dict[int, Measured]:
    """Return the objectives of a trial at the epochs that measured all of them."""
    values = (
        (epoch, measured([metrics.get(metric) for metric in objective.metrics], objective.modes))
        for epoch, metrics in trial.epochs.items()
    )
    return {epoch: value for epoch, value in values if is_finite(value)}
