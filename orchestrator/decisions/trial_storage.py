"""Optuna storage of one study whose trials may be replaced.

Optuna's own storages never change an ended trial. In a sweep a paused trial, which is PRUNED, runs on when it is
promoted, and the level that samplers learn from may rise. Optuna has no public call for that: `TrialStorage` sets
private fields of `optuna.storages.InMemoryStorage` (Optuna 5), which the tests compare with a study built from zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.trial import FrozenTrial


@final
class TrialStorage(InMemoryStorage):
    """Trials of one study in memory, their number being their id; ``directions`` are 'maximize' or 'minimize'."""

    def __init__(self, directions: Iterable[str]) -> None:
        super().__init__()
        self._study = self.create_new_study([StudyDirection[name.upper()] for name in directions], "sweep")

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials by number."""
        return self.get_all_trials(self._study, deepcopy=False)

    def put(self, number: int, trial: FrozenTrial) -> None:
        """Store a trial under its number: replace the one that has it, or append."""
        trial.number = trial._trial_id = number  # noqa: SLF001  given by the storage, as in `create_new_trial`
        trials = self._studies[self._study].trials
        trials[number : number + 1] = [trial]
        self._trial_id_to_study_id_and_number[number] = (self._study, number)
        self._max_trial_id = len(trials) - 1

    def keep(self, count: int) -> None:
        """Remove all trials after the first ``count``."""
        del self._studies[self._study].trials[count:]
        self._max_trial_id = count - 1
        self._prev_waiting_trial_number[self._study] = count
