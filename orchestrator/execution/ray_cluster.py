"""Ray: a private one on this machine, or a running cluster."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError
from orchestrator.execution.cores import cores_here
from orchestrator.execution.private_ray.failure import in_one_line
from orchestrator.execution.private_ray.folder import clear_leftovers
from orchestrator.execution.private_ray.process import starting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import Resources

logger = logging.getLogger(__name__)

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # trials without a GPU keep the environment's view of them
    "RAY_AIR_NEW_OUTPUT": "0",  # its start-up box is printed even at verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same everywhere
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the event log holds the same at a third of the cost
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver owns its signals
    "TUNE_FORCE_TRIAL_CLEANUP_S": "3",  # an interrupt does not wait for an epoch to end
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's state files are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the event log holds every traceback
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

CHANGED_BY_RAY = ("PYTHONBREAKPOINT", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_CLIENT_MODE")
PROBE_S = 5.0
TRIES = 2


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one machine of a cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of a cluster by node: a worker runs on one node, so two half-free nodes make no slot."""

    nodes: tuple[Node, ...]

    def slots(self, resources: Resources, gpus_per_worker: float) -> int:
        """Return the number of trials that run at once.

        Raises:
            PreflightError: no node is large enough for a worker, or there is no room for all workers of a trial.
        """
        workers = sum(_fitting(node, resources.cpus, gpus_per_worker) for node in self.nodes)
        required = f"{resources.cpus:g} CPUs and {gpus_per_worker:g} GPUs"
        present = ", ".join(f"{node.cpus:g} and {node.gpus:g}" for node in self.nodes)
        if workers == 0:
            takes = "one trial takes" if resources.workers == 1 else "each worker takes"
            raise PreflightError(
                [f"resources: {takes} {required}, the nodes have {present}; ask for less, or add a larger node"]
            )
        if workers < resources.workers:
            requirement = f"must be <= {workers}, as each worker takes {required} and the nodes have {present}"
            raise PreflightError([f"resources.workers: {requirement}, got {resources.workers}; ask for fewer"])
        fits = workers // resources.workers
        return min(fits, resources.max_concurrent or fits)

    def gpus_per_trial(self, resources: Resources) -> float:
        """Return the GPUs of one worker of a trial; ``auto`` is one if the cluster has GPUs, else none."""
        if resources.gpus == "auto":
            return 1.0 if any(node.gpus for node in self.nodes) else 0.0
        return resources.gpus


def _fitting(node: Node, cpus: float, gpus: float) -> int:
    by_cpu = int(node.cpus / cpus + 1e-9)
    return min(by_cpu, int(node.gpus / gpus + 1e-9)) if gpus else by_cpu


@contextmanager
def connect(address: str) -> Iterator[Capacity]:
    """Connect to Ray for the length of a sweep.

    ``local`` starts a private Ray with a temporary folder of its own. Ray listens on every interface whatever its
    settings, so its processes authenticate with a fresh secret token.
    ``auto`` or ``host:port`` joins a running cluster.

    At the end this process is as it was: environment, signal handlers, hooks, log level.

    Raises:
        PreflightError: Ray cannot be started, there is no cluster at that address, or this process is connected to Ray
            already.
    """
    with ExitStack() as stack:
        check_unconnected(address)
        stack.enter_context(_process_restored())
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        stack.enter_context(_private() if address == "local" else _joined(address))
        import ray  # noqa: PLC0415  reads the settings above when imported

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Capacity(tuple(Node(cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0)) for node in alive))


def check_unconnected(address: str) -> None:
    """Refuse to connect a process that the user has connected: the end of a sweep would close that connection.

    Raises:
        PreflightError: says what to do.
    """
    ray = sys.modules.get("ray")  # not imported, not connected
    if ray is not None and ray.is_initialized():
        remedy = "call ray.shutdown() first, or launch from a terminal or another process"
        raise PreflightError([f"--address {address}: this process is connected to Ray (ray.init); {remedy}"])


@contextmanager
def _process_restored() -> Iterator[None]:
    """Undo at the end what connecting to Ray changes in this process."""
    environment = {name: os.environ.get(name) for name in (*QUIET, *CHANGED_BY_RAY)}
    hook, level = sys.excepthook, logging.getLogger("ray").level
    try:
        yield
    finally:
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        sys.excepthook = hook
        logging.getLogger("ray").setLevel(level)
        _reload_authentication()


def _reload_authentication() -> None:
    """Have Ray read the mode and the token from the environment, as it keeps those of an earlier connection."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # noqa: PLC0415

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _private() -> Iterator[None]:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for attempt in range(1, TRIES + 1):
        with ExitStack() as stack:
            private = stack.enter_context(starting(cores_here()))
            import ray  # noqa: PLC0415  while the private one starts

            stack.callback(ray.shutdown)  # before the private one stops
            clear_leftovers()
            _reload_authentication()
            try:
                _init(private.address(), _temp_dir=private.temp_dir)
            except Exception as error:  # Ray raises plain ones
                failure, logs = private.cause(error), private.keep_logs()
                if attempt < TRIES:
                    logger.warning("Ray did not start (%s); one more try", failure)
                    continue
                problem = f"Ray did not start in {TRIES} tries ({failure}); its logs are in {logs}"
                remedy = "free processors and memory and try again, or run `ray start --head` and use --address auto"
                raise PreflightError([f"--address local: {problem}; {remedy}"]) from error
            yield
            return


@contextmanager
def _joined(address: str) -> Iterator[None]:
    import ray  # noqa: PLC0415

    with ExitStack() as stack:
        stack.callback(ray.shutdown)
        try:
            _join(address)
        except Exception as error:  # Ray raises plain ones
            reason = in_one_line(f"{type(error).__name__}: {error}")
            raise PreflightError([f"--address {address}: cannot connect to Ray ({reason})"]) from error
        yield


def _join(address: str) -> None:
    if "://" in address:
        raise ValueError("must be HOST:PORT of the cluster's head; Ray Jobs addresses are not supported")
    host, colon, port = address.rpartition(":")
    if colon:  # fail at once: Ray would retry for a minute
        with socket.create_connection((host, int(port)), timeout=PROBE_S):
            pass
    _init(address)


def _init(address: str, **settings: str) -> None:
    import ray  # noqa: PLC0415

    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **settings)
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own


def cluster_now() -> tuple[Capacity, Node]:
    """Return the living nodes of the cluster that this process is connected to, and what is free in all of them."""
    import ray  # noqa: PLC0415

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    free = ray.available_resources()
    nodes = tuple(Node(cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0)) for node in alive)
    return Capacity(nodes), Node(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0))
