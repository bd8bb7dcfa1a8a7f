"""Ray: a private one on this machine, or a running cluster."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.errors import PreflightError
from orchestrator.execution import ray_watch
from orchestrator.execution.cluster import authentication, gcs, messages
from orchestrator.execution.cluster.capacity import Capacity, Node
from orchestrator.execution.cluster.sent_code import runtime_environment
from orchestrator.execution.cores import cores_here
from orchestrator.execution.private_ray.failure import in_one_line
from orchestrator.execution.private_ray.folder import clear_leftovers
from orchestrator.execution.private_ray.process import starting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


logger = logging.getLogger(__name__)

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # trials without a GPU keep the environment's view of them
    "RAY_AIR_NEW_OUTPUT": "0",  # its start-up box is printed even at verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same everywhere
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # retries are ours: those of a drained node too
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the event log holds the same at a third of the cost
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver owns its signals
    "TUNE_FORCE_TRIAL_CLEANUP_S": "3",  # an interrupt does not wait for an epoch to end
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's state files are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the searcher hands out no more trials than find a place
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the event log holds every traceback
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # the display says what a sweep waits for
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

CHANGED_BY_RAY = ("PYTHONBREAKPOINT", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_CLIENT_MODE")
TRIES = 2
NO_NODE = "run `ray start --address=HOST:PORT` here, or submit the sweep with --address http://HEAD:8265"


@contextmanager
def connect(address: str, *, code: Mapping[str, Path] | None = None) -> Iterator[Capacity]:
    """Connect to Ray for the length of a sweep.

    ``local`` starts a private Ray with a temporary folder of its own. Ray listens on every interface whatever its
    settings, so its processes authenticate with a fresh secret token.
    ``auto`` or ``host:port`` joins a running cluster.

    At the end this process is as it was: environment, signal handlers, hooks, log level.

    Args:
        address: ``local``, ``auto`` or ``host:port``.
        code: files that the workers of a running cluster are sent, by their path below the folder of imports.

    Raises:
        PreflightError: Ray cannot be started, there is no cluster at that address that can be joined, or this process
            is connected to Ray already.
    """
    with ExitStack() as stack:
        check_unconnected(address)
        stack.enter_context(_process_restored())
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        stack.enter_context(_private() if address == "local" else _joined(address, code or {}))
        import ray  # noqa: PLC0415  reads the settings above when imported

        nodes = tuple(Node.of(node["Resources"]) for node in ray.nodes() if node["Alive"])
        yield Capacity(nodes, growth=growth())


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
        authentication.refresh()


@contextmanager
def _private() -> Iterator[None]:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for attempt in range(1, TRIES + 1):
        with ExitStack() as stack:
            private = stack.enter_context(starting(cores_here()))
            import ray  # noqa: PLC0415  while the private one starts

            stack.enter_context(messages.logged())
            stack.callback(ray.shutdown)  # before the private one stops
            clear_leftovers()
            authentication.refresh()
            stack.enter_context(_on_loopback())
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
            servers = ray_watch.servers(private=True)
            yield
            if (loss := ray_watch.refusing(servers)) is not None:
                last, logs = private.complaint() or "none", private.keep_logs()
                logger.warning("%s; its last complaint: %s; its logs are in %s", loss, last, logs)
            return


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have Ray take this machine for the loopback, where all of a private Ray listens."""
    from ray._private import ray_constants  # noqa: PLC0415

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _joined(address: str, code: Mapping[str, Path]) -> Iterator[None]:
    cluster = gcs.probe(gcs.resolved(address))
    authentication.enter_mode()
    import ray  # noqa: PLC0415

    with ExitStack() as stack:
        stack.enter_context(messages.logged())
        stack.callback(ray.shutdown)
        try:
            with runtime_environment(code) as settings:
                _init(cluster.address, **settings, **({"_node_ip_address": ip} if (ip := cluster.node_ip) else {}))
        except Exception as error:  # Ray raises plain ones
            reason = in_one_line(f"{type(error).__name__}: {error}")
            hint = "" if cluster.node_ip else f"; this machine seems to be no node of it: {NO_NODE}"
            raise PreflightError([f"--address {address}: cannot connect to Ray ({reason}){hint}"]) from error
        yield


def _init(address: str, **settings: Any) -> None:
    import ray  # noqa: PLC0415

    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **settings)
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own


def forbid_auto_connect() -> None:
    """Have Ray's calls in this process start no Ray of their own from here on."""
    from ray._private import auto_init_hook  # noqa: PLC0415  imported by now

    auto_init_hook.enable_auto_connect = False


def growth() -> dict[str, float]:
    """Return all resources that the connected cluster's autoscaler may bring it to; none if it has no autoscaler."""
    from ray._private.state import state  # noqa: PLC0415  heavy

    return state.get_max_resources_from_cluster_config() or {}
