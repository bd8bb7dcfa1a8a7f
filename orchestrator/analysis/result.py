"""What a sweep found: a function of its plan and its event log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.analysis.audit import Audit, audit
from orchestrator.errors import OrchestratorError, SweepNotFound
from orchestrator.planning.plan import SweepPlan
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
    """One trial of a sweep: its configuration, its last score, its model."""

    trial: Trial
    score: float
    folder: SweepFolder

    @property
    def config(self) -> dict[str, Any]:
        """The whole flat configuration: ``task_of(config).from_point(config)`` is the trial again."""
        return dict(self.trial.config)

    @property
    def metrics(self) -> dict[str, float | None]:
        """What the last epoch measured."""
        return dict(self.trial.epochs[self.trial.epoch])

    @property
    def name(self) -> str:
        """The trial as MLflow's tags name it: its sweep and its id."""
        return f"{self.folder.sweep}/{self.trial.id}"

    def require_classifier(self) -> None:
        """Return if the trial trained a classifier: only that is loaded, evaluated, registered and served.

        Raises:
            OrchestratorError: it trained something else; says what reads it.
        """
        task = task_of(self.trial.config)
        if task is not CLASSIFIER:
            told = f"it trained a {task.name}, and only a {CLASSIFIER.name} is loaded, evaluated, registered or served"
            raise OrchestratorError(
                f"{self.name}: {told}; its generator: trainables.tasks.gan.load_generator(CHECKPOINT)"
            )

    def checkpoint(self) -> Path:
        """The folder of the checkpoint of the trial's last epoch, fetched if the sweep is kept in S3.

        Raises:
            OrchestratorError: it is gone, or was never completed.
            StorageError: S3 refused or could not be reached.
        """
        final = (saved.path for saved in reversed(self.trial.checkpoints) if saved.epoch == self.trial.epoch)
        path = next(final, None)
        checkpoint = None if path is None else fetch(self.folder, path)
        if checkpoint is None or not checkpoint.is_dir():
            raise OrchestratorError(
                f"{self.name}: no checkpoint of epoch {self.trial.epoch} is there, so no model; "
                "choose another trial, or run this one again (an imported sweep has no models)"
            )
        return checkpoint.resolve()

    def load_model(self) -> torch.nn.Module:
        """The trained model, in eval mode, from the trial's last checkpoint.

        Raises:
            OrchestratorError, StorageError: as ``checkpoint``.
        """
        from trainables.models.loading import load_model  # noqa: PLC0415  imports torch

        self.require_classifier()
        return load_model(self.checkpoint())


@dataclass(frozen=True)
class SweepResult:
    """A sweep as its log tells it."""

    plan: SweepPlan
    state: SweepState
    folder: SweepFolder

    @classmethod
    def read(cls, folder: SweepFolder) -> SweepResult:
        """The result of a sweep that ran, runs, or was interrupted."""
        return cls(SweepPlan.load(folder), SweepState.read(folder.events), folder)

    @property
    def sweep(self) -> str:
        """The sweep's id."""
        return self.folder.sweep

    def best(self) -> TrialResult:
        """The best trial that ran its full budget, judged by its last epoch on the validation split.

        Raises:
            OrchestratorError: no trial has measured the objective yet.
        """
        trial = self.state.best(self.plan.spec.objective)
        score = trial.score(self.plan.spec.objective) if trial is not None else None
        if trial is None or score is None:
            metric = self.plan.spec.objective.metric
            raise OrchestratorError(f"{self.sweep}: no trial has measured {metric} yet; see `ravel logs {self.sweep}`")
        return TrialResult(trial, score, self.folder)

    def named(self, trial: str) -> TrialResult:
        """One trial.

        Raises:
            SweepNotFound: there is none of that name.
            OrchestratorError: it has not measured the objective.
        """
        found, objective = self.state.trials.get(trial), self.plan.spec.objective
        if found is None:
            raise SweepNotFound(f"{self.sweep}: no trial {trial!r}; see `ravel status {reference(self.folder)}`")
        score = found.score(objective)
        if score is None:
            raise OrchestratorError(
                f"{self.sweep}/{trial}: it has not measured {objective.metric}; choose another trial"
            )
        return TrialResult(found, score, self.folder)

    def scored_points(self) -> tuple[list[Point], list[float]]:
        """The points of the ended trials that lie in the space, and their scores: what ``refine`` and ``adopt`` take.

        A trial stopped early counts with the last value it reported, one that diverged or failed with nan.
        """
        ended = [
            trial
            for trial in self.state.with_status("completed", "stopped", "diverged", "failed")
            if self.plan.spec.space.contains(trial.point)
        ]
        objective = self.plan.spec.objective
        good = ("completed", "stopped")
        scores = [trial.score(objective) if trial.status in good else None for trial in ended]
        return [dict(trial.point) for trial in ended], [math.nan if score is None else score for score in scores]

    def front(self) -> list[TrialResult]:
        """The completed trials that no other beats in every objective, the best in the first one first."""
        objective = self.plan.spec.objective
        found = ((trial, trial.score(objective)) for trial in self.state.front(objective))
        return [TrialResult(trial, score, self.folder) for trial, score in found if score is not None]

    def audit(self) -> Audit:
        """What early stopping cost, by the trials of ``scheduler.audit``."""
        return audit(self.plan, self.state)

    def dataframe(self) -> pd.DataFrame:
        """One row for each trial: id, origin, status, epoch, rung, its point, and what its last epoch measured."""
        import pandas as pd  # noqa: PLC0415

        rows = [
            {
                "trial": trial.id,
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
