"""Run a sweep on Ray Tune: Tune places actors, our searcher proposes trials, our scheduler stops them."""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray import tune
from ray._private import auto_init_hook
from ray.tune import Callback

from orchestrator.execution.trainable import TRAINABLES
from orchestrator.execution.tune_callback import TrialRecorder, trial_name
from orchestrator.execution.tune_scheduler import LogScheduler
from orchestrator.execution.tune_searcher import LogSearcher
from orchestrator.state.event_store import SweepOver
from orchestrator.storage import s3
from trainables.engine import checkpoint
from trainables.errors import CheckpointError
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.ray_cluster import Capacity
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial

logger = logging.getLogger(__name__)


class StopTune(Exception):
    """Raised between two events of Tune, so that it leaves its loop and releases its actors."""


class StepCallback(Callback):
    """Callback that runs before each step of Tune's loop, at least ten times a second; it may raise to leave the loop.

    Tune releases its actors if it leaves by an ``Exception``, and leaves at once by any other ``BaseException``.
    """

    def __init__(self, before_step: Callable[[], None]) -> None:
        self._before_step = before_step

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:  # noqa: ARG002
        """Run it."""
        self._before_step()

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles its callbacks into a file that is never read."""
        return {}


def fit(
    decisions: DecisionState,
    store: EventStore,
    folder: SweepFolder,
    capacity: Capacity,
    *,
    before_step: Callable[[], None],
) -> None:
    """Run every trial that is not over; return when all are over, or raise what ``before_step`` raises."""
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
            callbacks=[recorder, StepCallback(before_step)],
            verbose=0,
        ),
    ).fit()


class FitThread(threading.Thread):
    """Thread of a ``fit``, which its driver can leave.

    Calls into Ray do not return while the GCS is dead or stopped, and take no signal outside the main thread. So the
    driver waits for this thread, or for a reason to leave it.

    Args:
        fit: Called with the ``before_step`` that it must pass on.
        on_end: Called with None or the error when ``fit`` has ended by itself.
    """

    def __init__(
        self, fit: Callable[[Callable[[], None]], None], *, on_end: Callable[[BaseException | None], None]
    ) -> None:
        super().__init__(name="ravel-tune", daemon=True)
        self._fit, self._on_end = fit, on_end
        self._leaving: BaseException | None = None
        self._has_left = threading.Event()

    def leave(self, *, releasing_actors: bool, timeout_s: float) -> None:
        """Have Tune leave its loop between two events; return when it has, or after the timeout."""
        self._leaving = StopTune() if releasing_actors else SweepOver()
        self._has_left.wait(timeout_s)

    def abandon(self) -> None:
        """Give up a thread that does not end; its next call must not start another Ray, as Ray's calls do."""
        auto_init_hook.enable_auto_connect = False

    def run(self) -> None:
        """Run ``fit``."""
        error: BaseException | None = None
        try:
            self._fit(self._before_step)
        except (StopTune, SweepOver):
            return
        except BaseException as raised:  # noqa: BLE001  the driver raises it
            error = raised
        finally:
            self._has_left.set()
        self._on_end(error)

    def _before_step(self) -> None:
        if self._leaving is not None:
            self._has_left.set()
            raise self._leaving


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
