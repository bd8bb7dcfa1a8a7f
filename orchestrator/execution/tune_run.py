"""Run a sweep on Ray Tune: Tune places actors, our searcher proposes trials, our scheduler stops them."""

from __future__ import annotations

import functools
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.execution.trainable import TRAINABLES
from orchestrator.execution.tune_callback import TrialRecorder, trial_name
from orchestrator.execution.tune_scheduler import LogScheduler
from orchestrator.execution.tune_searcher import LogSearcher
from orchestrator.storage import s3
from trainables.engine import checkpoint
from trainables.errors import CheckpointError
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.ray_cluster import Capacity
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial

logger = logging.getLogger(__name__)


def fit(decisions: DecisionState, store: EventStore, folder: SweepFolder, capacity: Capacity) -> None:
    """Run every trial that is not over; return when all are over, or when a SIGUSR1 made Tune leave its loop."""
    plan = decisions.plan
    resources = plan.spec.resources
    gpus = capacity.gpus_per_trial(resources)
    slots = capacity.slots(resources, gpus)
    # One ahead of the free slots: Tune keeps an idle actor for reuse only while a trial waits for it.
    ahead = 0 if slots == resources.max_concurrent else 1
    searcher = LogSearcher(
        decisions,
        store,
        limit=slots + ahead,
        device=None if gpus else "cpu",
        storage=None if folder.remote is None else asdict(folder.remote.settings),
        checkpoint_of=functools.partial(latest_checkpoint, folder),
    )
    filesystem, storage_path = _storage(folder)
    recorder = TrialRecorder(plan, store, searcher, storage_path=storage_path)
    tune.Tuner(
        tune.with_resources(TRAINABLES[task_of(plan.spec.trial).name], {"cpu": resources.cpus, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=LogScheduler(decisions, store, recorder),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=trial_name,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=folder.tune.name,
            storage_path=storage_path,
            storage_filesystem=filesystem,
            failure_config=tune.FailureConfig(max_failures=0),  # retries are ours: counted in the log, over all drivers
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_at_end=False),
            callbacks=[recorder],
            verbose=0,
        ),
    ).fit()


def _storage(folder: SweepFolder) -> tuple[Any, str]:
    """Return the file system for Tune's checkpoints (None: this machine's) and the path of the sweep on it."""
    if folder.remote is None:
        return None, str(folder.path.resolve())
    return s3.filesystem(folder.remote.location, folder.remote.settings)


def latest_checkpoint(folder: SweepFolder, trial: Trial) -> str | list[str] | None:
    """Return the absolute path of a trial's newest readable checkpoint; None if it has none.

    For a sweep in S3, return the addresses of all checkpoints, newest first: the worker tries them in that order.
    """
    if folder.remote is not None:
        return [folder.remote.uri(saved.path) for saved in reversed(trial.checkpoints)] or None
    for saved in reversed(trial.checkpoints):
        path = (folder.path / saved.path).resolve()
        try:
            checkpoint.load(path)
        except CheckpointError as error:
            if path.exists():
                logger.warning("%s: %s; an older one is used", trial.id, error)
        else:
            return str(path)
    return None


def _folder_name(trial: TuneTrial) -> str:
    """Name one folder for each attempt of each driver, so that a resumed trial overwrites no older checkpoint."""
    return f"{trial.config['ravel.trial']}-{trial.config['ravel.attempt']}-g{trial.config['ravel.generation']}"
