"""Run a sweep on Ray Tune: Tune places actors, our searcher proposes trials, our scheduler stops them."""

from __future__ import annotations

import functools
import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray._private import auto_init_hook
from ray.air.execution._internal import actor_manager
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.tune import Callback
from ray.tune.execution import tune_controller

from orchestrator.decisions.hosts import HostCounts, excluded_hosts, hosts_that_lost, unreliable_hosts
from orchestrator.execution.trainable import SweepTrainable
from orchestrator.execution.tune_callback import TrialRecorder, trial_name
from orchestrator.execution.tune_scheduler import LogScheduler
from orchestrator.execution.tune_searcher import EXCLUDED_NODES, LogSearcher
from orchestrator.state.event_store import SweepOver
from orchestrator.storage import s3
from trainables.engine import checkpoint
from trainables.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.ray_cluster import Capacity
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder
    from orchestrator.state.sweep_state import Trial

logger = logging.getLogger(__name__)
NODE_LABEL = "ray.io/node-id"
ANSWER_S = 5.0
EXCLUDED = "it gets no more trials of this sweep for up to an hour"
LAST = "it still gets trials, as no other host is left; see the reasons with `ravel logs`"


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
        excluded_nodes=Placement(store, cpus=resources.cpus, gpus=gpus).excluded_nodes,
    )
    filesystem, storage_path = _storage(folder)
    recorder = TrialRecorder(plan, store, searcher, storage_path=storage_path, host_of=host_of)
    request = functools.partial(resource_request, cpus=resources.cpus, gpus=gpus)
    tuner = tune.Tuner(
        tune.with_resources(SweepTrainable, request),
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
    )
    with lost_workers(), _quiet_about_retries():
        tuner.fit()


class Placement:
    """Nodes that the next trial must not run on, and a line for each change of them."""

    def __init__(self, store: EventStore, *, cpus: float, gpus: float, clock: Callable[[], float] = time.time) -> None:
        self._store, self._cpus, self._gpus, self._clock = store, cpus, gpus, clock
        self._said: dict[str, bool] = {}

    def excluded_nodes(self, trial: str) -> list[str]:
        """Return Ray's ids of the nodes of excluded hosts, and of those that lost a worker of this trial."""
        now, histories = self._clock(), self._store.state.hosts
        unreliable, lost = unreliable_hosts(histories, now=now), hosts_that_lost(histories, trial, now=now)
        if not unreliable and not lost and not self._said:
            return []
        nodes = usable_hosts(self._cpus, self._gpus)
        excluded = excluded_hosts(unreliable, nodes)
        self._say(unreliable, excluded=excluded, usable=frozenset(nodes))
        elsewhere = excluded_hosts(excluded | lost, nodes) or excluded
        return sorted(node for host in elsewhere for node in nodes[host])

    def _say(self, unreliable: Mapping[str, HostCounts], *, excluded: frozenset[str], usable: frozenset[str]) -> None:
        now = {host: host in excluded for host in sorted(frozenset(unreliable) & usable)}
        for host, is_excluded in now.items():
            if self._said.get(host) != is_excluded:
                lost, consequence = unreliable[host].lost, EXCLUDED if is_excluded else LAST
                logger.warning("%s: %d trials lost their workers on it within an hour; %s", host, lost, consequence)
        for host in self._said.keys() - now.keys():
            logger.warning("%s: gets trials of this sweep again", host)
        self._said = now


def resource_request(config: Mapping[str, Any], *, cpus: float, gpus: float) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial: CPUs and GPUs, on any node that its configuration does not exclude."""
    nodes = config.get(EXCLUDED_NODES) or []
    bundles = [{"CPU": cpus, "GPU": gpus}]
    if not nodes:
        return tune.PlacementGroupFactory(bundles)
    return tune.PlacementGroupFactory(bundles, bundle_label_selector=[{NODE_LABEL: f"!in({','.join(nodes)})"}])


def usable_hosts(cpus: float, gpus: float) -> dict[str, list[str]]:
    """Return Ray's ids of the living nodes that are large enough for a trial, by host."""
    hosts: dict[str, list[str]] = {}
    for node in ray.nodes():
        resources = node["Resources"]
        if node["Alive"] and resources.get("CPU", 0.0) >= cpus and resources.get("GPU", 0.0) >= gpus:
            hosts.setdefault(_host(node), []).append(node["NodeID"])
    return hosts


def host_of(trial: TuneTrial) -> str | None:
    """Return the host that the actor of a trial runs on; None if it does not answer: that must not cost the attempt."""
    try:
        node_id = ray.get(trial.temporary_state.ray_actor.node_id.remote(), timeout=ANSWER_S)
        return next((_host(node) for node in ray.nodes() if node["NodeID"] == node_id), None)
    except Exception as error:  # noqa: BLE001  the actor may be lost, which Tune reports later
        logger.info("host of %s unavailable (%s)", trial, type(error).__name__)
        return None


def _host(node: Mapping[str, Any]) -> str:
    """Name a machine for people; the address tells nodes of one host name apart."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


@contextmanager
def lost_workers() -> Iterator[None]:
    """Have Tune treat every worker that Ray ended as lost.

    Tune 2.60 knows the death of an actor alone. A worker killed by Ray's memory monitor, or a result lost with its
    node, ends the whole sweep there with "Caught unexpected exception".
    """
    kinds = (RayActorError, OutOfMemoryError, WorkerCrashedError, NodeDiedError, ObjectLostError)
    modules: tuple[Any, ...] = (actor_manager, tune_controller)
    for module in modules:
        module.RayActorError = kinds
    try:
        yield
    finally:
        for module in modules:
            module.RayActorError = RayActorError


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
