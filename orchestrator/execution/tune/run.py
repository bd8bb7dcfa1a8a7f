"""Run a sweep on Ray Tune: Tune places actors, our searcher proposes trials, our scheduler stops them."""

from __future__ import annotations

import functools
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.error import TuneError

from orchestrator.errors import OrchestratorError
from orchestrator.execution.trainable import SweepTrainable
from orchestrator.execution.trials.starting_point import attempt_folder, latest_checkpoint, parent_checkpoint
from orchestrator.execution.trials.sweep_training import LEAVING
from orchestrator.execution.tune.actors import lost_workers, named_reservations, released_from, starting_workers_kept
from orchestrator.execution.tune.callback import TrialRecorder
from orchestrator.execution.tune.cluster import ClusterWatch, view_now
from orchestrator.execution.tune.ended_trials import NoProgress, forgotten, state_saved_at_the_end
from orchestrator.execution.tune.placement import Placement, TrialNodes, resource_request, trial_name
from orchestrator.execution.tune.scheduler import LogScheduler
from orchestrator.execution.tune.searcher import LogSearcher
from orchestrator.execution.tune.step_callback import StepCallback
from orchestrator.execution.tune.storage import forgiving_storage, once_reachable
from orchestrator.execution.tune.workers import TuneWorkers
from orchestrator.state.trial import CHECKPOINTS_KEPT
from orchestrator.storage import s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.orders.acts import Workers
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder


def fit(
    decisions: DecisionState,
    store: EventStore,
    folder: SweepFolder,
    capacity: Capacity,
    *,
    before_step: Callable[[], None],
    orders: Callable[[Workers], None] = lambda _: None,
) -> None:
    """Run every trial that is not over; return when all are over, or raise what ``before_step`` raises.

    Args of note: ``orders`` is called at each step with the workers that it may stop.
    """
    resources = decisions.plan.spec.resources
    gpus = capacity.gpus_per_trial(resources)
    sweep, custom = decisions.plan.sweep, resources.custom
    capacity.slots(resources, gpus)  # refuses a resume where no trial fits
    watch = ClusterWatch(lambda: decisions.plan.spec.resources, gpus, functools.partial(view_now, sweep))
    nodes = TrialNodes(lambda: watch.drained)
    request = functools.partial(resource_request, resources=resources, gpus=gpus)
    placement = Placement(store, cpus=resources.cpus, gpus=gpus, custom=custom, drained=lambda: watch.drained)

    searcher = LogSearcher(
        decisions,
        store,
        limit=lambda: watch.limit,
        device=None if gpus else "cpu",
        storage=None if folder.remote is None else asdict(folder.remote.settings),
        checkpoint_of=functools.partial(latest_checkpoint, folder),
        parent_of=functools.partial(parent_checkpoint, folder, store.state),
        excluded_nodes=placement.excluded_nodes,
        wait=before_step,
    )
    filesystem, storage_path = _storage(folder)
    recorder = TrialRecorder(
        decisions, store, searcher, storage_path=storage_path, host_of=nodes.host_of, leaving=nodes.leaving
    )
    scheduler = LogScheduler(decisions, store, recorder)
    workers = TuneWorkers(searcher, controller_of=lambda: scheduler.controller)

    def begin_step() -> None:
        before_step()
        orders(workers)

    make_tuner = functools.partial(
        tune.Tuner,
        tune.with_resources(SweepTrainable, request),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
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
            checkpoint_config=tune.CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT, checkpoint_at_end=False),
            callbacks=[recorder, StepCallback(begin_step), NoProgress()],
            verbose=0,
        ),
    )
    with ExitStack() as stack:
        for change in (
            lost_workers(),
            released_from(lambda trial: nodes.leaving(trial) is not None or LEAVING in (trial.last_result or {})),
            starting_workers_kept(),
            named_reservations(sweep),
            forgotten(),
            state_saved_at_the_end(),
            forgiving_storage(),
            _quiet_about_retries(),
            _own_errors(),
            watch.watching(),
        ):
            stack.enter_context(change)
        once_reachable(make_tuner, before_try=before_step).fit()


@contextmanager
def _quiet_about_retries() -> Iterator[None]:
    """Leave out Tune's last line about attempts that failed: each was logged, and its trial was retried or ended."""
    tune_logger = logging.getLogger("ray.tune.tune")

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Trials did not complete")

    tune_logger.addFilter(is_news)
    try:
        yield
    finally:
        tune_logger.removeFilter(is_news)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise the error of a decision itself, where Tune raises its own with a traceback as text."""
    try:
        yield
    except TuneError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OrchestratorError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from None


def _storage(folder: SweepFolder) -> tuple[Any, str]:
    """Return the file system for Tune's checkpoints (None: this machine's) and the path of the sweep on it."""
    if folder.remote is None:
        return None, str(folder.path.resolve())
    return s3.filesystem(folder.remote.location, folder.remote.settings)


def _folder_name(trial: TuneTrial) -> str:
    return attempt_folder(trial.config)
