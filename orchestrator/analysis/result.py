"""Result of a sweep: a function of its plan and its event log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.audit import Audit, audit
from orchestrator.errors import OrchestratorError, SweepNotFound, quoted
from orchestrator.planning.changes.extension import in_force
from orchestrator.planning.plan import SweepPlan
from orchestrator.planning.provenance import find_code, uses_own_code
from orchestrator.planning.seeds import configuration_of, searched_state, seed_index_of
from orchestrator.state.s3_mirror import fetch
from orchestrator.state.sweep_folder import reference
from orchestrator.state.sweep_state import SweepState
from trainables.tasks.registry import CLASSIFIER, task_of

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import torch

    from orchestrator.spec.model import Point
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial: its configuration, its last score, its model."""

    trial: Trial
    score: float
    folder: SweepFolder

    @property
    def config(self) -> dict[str, Any]:
        """Whole flat configuration; ``task_of(config).from_point(config)`` restores the trial."""
        return dict(self.trial.config)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metrics of the last epoch."""
        return dict(self.trial.epochs[self.trial.epoch])

    @property
    def name(self) -> str:
        """Name as in MLflow's tags: sweep and trial id."""
        return f"{self.folder.sweep}/{self.trial.id}"

    def require_classifier(self) -> None:
        """Refuse a trial of another task: only classifiers are loaded, evaluated, registered and served.

        Raises:
            OrchestratorError: the trial is of another task; names the function that reads its checkpoint.
        """
        task = task_of(self.trial.config)
        if task is not CLASSIFIER:
            reason = (
                f"it trained a {task.name}, and only a {CLASSIFIER.name} is loaded, evaluated, registered or served"
            )
            raise OrchestratorError(f"{self.name}: {reason}; read its checkpoint with {task.reader}")

    def checkpoint(self) -> Path:
        """Return the folder of the last epoch's checkpoint, downloaded if the sweep is in S3.

        Raises:
            OrchestratorError: it was removed, dropped, or never completed.
            StorageError: S3 refused or could not be reached.
        """
        self._refuse_dropped()
        final = (saved.path for saved in reversed(self.trial.checkpoints) if saved.epoch == self.trial.epoch)
        path = next(final, None)
        checkpoint = None if path is None else fetch(self.folder, path)
        if checkpoint is None or not checkpoint.is_dir():
            raise OrchestratorError(
                f"{self.name}: the checkpoint of epoch {self.trial.epoch} is missing, so it has no model; "
                "choose another trial, or retrain this one (an imported sweep has no models)"
            )
        return checkpoint.resolve()

    def _refuse_dropped(self) -> None:
        drop = self.trial.drop
        if drop is None or self.trial.checkpoints:
            return
        by = "storage.keep_best" if drop.author is None else f"ravel purge of {drop.author}, to keep the best"
        reason = f"its checkpoints were dropped ({by}: {drop.keep_best}), so it has no model"
        remedy = f"choose one of the best trials, or train its point once more: ravel extend {reference(self.folder)}"
        raise OrchestratorError(f"{self.name}: {reason}; {remedy} --add-point FILE")

    def load_model(self) -> torch.nn.Module:
        """Load the trained model, in eval mode, from the trial's last checkpoint.

        Raises:
            OrchestratorError, StorageError: as ``checkpoint``.
        """
        from trainables.models.loading import load_model  # noqa: PLC0415  imports torch

        self.require_classifier()
        plan = SweepPlan.load(self.folder)
        if uses_own_code(plan.spec):
            find_code(plan.working_directory)
        return load_model(self.checkpoint())


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep, read from its log."""

    plan: SweepPlan
    state: SweepState
    folder: SweepFolder

    @classmethod
    def read(cls, folder: SweepFolder) -> SweepResult:
        """Read the result of a sweep that ended, runs, or was interrupted; its plan is the one in force."""
        plan, state = SweepPlan.load(folder), SweepState.read(folder.events)
        return cls(in_force(plan, state), state, folder)

    @property
    def sweep(self) -> str:
        """Id of the sweep."""
        return self.folder.sweep

    def best(self) -> TrialResult:
        """Return the best trial with a full budget, by its last epoch on the validation split.

        Before any trial has run its full budget it is the best of all that measured the objective, so it may run, be
        paused or have been stopped: `.trial.status` is `completed` after a full budget alone.

        With several seeds it is the first trial of the configuration with the best mean, and the score is that mean:
        the luckiest of its seeds would be no better model.

        Raises:
            OrchestratorError: no trial has measured the objective yet.
        """
        trial = searched_state(self.plan, self.state).best(self.plan.spec.objective)
        score = trial.score(self.plan.spec.objective) if trial is not None else None
        if trial is None or score is None:
            metric = self.plan.spec.objective.metric
            raise OrchestratorError(f"{self.sweep}: no trial has measured {metric} yet; see `ravel logs {self.sweep}`")
        return TrialResult(self.state.trials[trial.id], score, self.folder)

    def named(self, trial: str) -> TrialResult:
        """Return the result of one trial.

        Raises:
            SweepNotFound: the sweep has no trial of that name.
            OrchestratorError: it has not measured the objective.
        """
        named, objective = self.state.trials.get(trial), self.plan.spec.objective
        if named is None:
            raise SweepNotFound(f"{self.sweep}: no trial {quoted(trial)}; see `ravel status {reference(self.folder)}`")
        score = named.score(objective)
        if score is None:
            raise OrchestratorError(
                f"{self.sweep}/{trial}: it has not measured {objective.metric}; choose another trial"
            )
        return TrialResult(named, score, self.folder)

    def scored_points(self) -> tuple[list[Point], list[float]]:
        """Return points and scores of the ended trials inside the space, for ``refine`` and ``adopt``.

        The score of a trial stopped early is its last reported value, that of a diverged or failed one is nan.
        """
        ended = [
            trial
            for trial in searched_state(self.plan, self.state).with_status("completed", "stopped", "diverged", "failed")
            if self.plan.spec.space.contains(trial.point)
        ]
        objective = self.plan.spec.objective
        scored = ("completed", "stopped")
        scores = [trial.score(objective) if trial.status in scored else None for trial in ended]
        return [dict(trial.point) for trial in ended], [math.nan if score is None else score for score in scores]

    def front(self) -> list[TrialResult]:
        """Return the Pareto front of the completed trials, the best in the first objective first."""
        objective = self.plan.spec.objective
        scored = ((trial, trial.score(objective)) for trial in self.state.front(objective))
        return [TrialResult(trial, score, self.folder) for trial, score in scored if score is not None]

    def audit(self) -> Audit:
        """Estimate the cost of early stopping from the trials of ``scheduler.audit``."""
        return audit(self.plan, self.state)

    def dataframe(self) -> pd.DataFrame:
        """Return one row for each trial: id, origin, status, epoch, rung, parameters, metrics of its last epoch.

        With several seeds a row also has the id of its configuration, and the number of its seed.
        """
        import pandas as pd  # noqa: PLC0415

        rows = [
            {
                "trial": trial.id,
                **self._seed_columns(trial.id),
                "origin": trial.origin,
                "status": trial.status,
                "epoch": trial.epoch,
                "stopping_rung": trial.stopping_rung,
                **trial.config,
                **trial.epochs.get(trial.epoch, {}),
            }
            for trial in self.state.trials.values()
        ]
        return pd.DataFrame(rows)

    def _seed_columns(self, trial: str) -> dict[str, object]:
        if self.plan.spec.search.seeds == 1:
            return {}
        return {"configuration": configuration_of(trial), "seed_index": seed_index_of(trial)}
