"""Ray: a private one on this machine, or a running cluster."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError
from orchestrator.execution.cores import cores_here
from orchestrator.execution.private_ray.failure import in_one_line
from orchestrator.execution.private_ray.folder import clear_leftovers
from orchestrator.execution.private_ray.process import starting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from orchestrator.spec.model import Resources

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
PROBE_S = 5.0
TRIES = 2
UNIT = 10_000
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True)
class Node:
    """CPUs, GPUs and custom resources of one machine of a cluster."""

    cpus: float
    gpus: float
    custom: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> Node:
        """Return the node with Ray's resources.

        >>> Node.of({"CPU": 4.0, "accelerator_type:A100": 1.0})
        Node(cpus=4.0, gpus=0.0, custom={'accelerator_type:A100': 1.0})
        """
        custom = {name: amount for name, amount in resources.items() if name not in {"CPU", "GPU"}}
        return cls(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0), custom=custom)


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of a cluster by node: a trial runs on one node, so two half-free nodes make no slot."""

    nodes: tuple[Node, ...]
    growth: Mapping[str, float] = field(default_factory=dict)
    """All resources that the cluster's autoscaler may bring it to; none if it does not grow."""

    def slots(self, resources: Resources, gpus_per_trial: float) -> int:
        """Return the number of trials that run at once; one if a node for it is still to come.

        Raises:
            PreflightError: no node is large enough for one trial, and the cluster does not grow so far.
        """
        fits = self.fits(resources, gpus_per_trial)
        if fits == 0 and self._grows_to(_demand(resources, gpus_per_trial)):
            fits = resources.max_concurrent or 1
        if fits == 0:
            required = " and ".join([f"{resources.cpus:g} CPUs", f"{gpus_per_trial:g} GPUs", *_named(resources.custom)])
            present = ", ".join(
                " and ".join([f"{node.cpus:g}", f"{node.gpus:g}", *_named(node.custom, only=resources.custom)])
                for node in self.nodes
            )
            raise PreflightError(
                [f"resources: one trial takes {required}, the nodes have {present}; ask for less, or add a larger node"]
            )
        return min(fits, resources.max_concurrent or fits)

    def fits(self, resources: Resources, gpus_per_trial: float) -> int:
        """Return the number of trials that fit at once; none if no node is large enough."""
        return sum(_fitting(node, _demand(resources, gpus_per_trial)) for node in self.nodes)

    def gpus_per_trial(self, resources: Resources) -> float:
        """Return the GPUs of one trial; ``auto`` is one if the cluster has GPUs, else none."""
        if resources.gpus == "auto":
            return 1.0 if any(node.gpus for node in self.nodes) or self.growth.get("GPU") else 0.0
        return resources.gpus

    def _grows_to(self, demand: Mapping[str, float]) -> bool:
        return bool(self.growth) and all(self.growth.get(name, 0.0) >= amount for name, amount in demand.items())


def _demand(resources: Resources, gpus: float) -> dict[str, float]:
    return {"CPU": resources.cpus, "GPU": gpus, **resources.custom}


def _fitting(node: Node, demand: Mapping[str, float]) -> int:
    """Return the number of trials that fit on a node, in the units in which Ray counts."""
    present = {"CPU": node.cpus, "GPU": node.gpus, **node.custom}
    return min(_units(present.get(name, 0.0)) // max(1, _units(amount)) for name, amount in demand.items() if amount)


def _units(amount: float) -> int:
    return math.floor(amount * UNIT + 1e-6)


def countable(amount: float) -> float:
    """Return an amount as Ray counts it, rounded down: as many shares fit as the amount says.

    >>> countable(1 / 6), countable(0.3), countable(2)
    (0.1666, 0.3, 2.0)
    """
    return _units(amount) / UNIT


def _named(amounts: Mapping[str, float], *, only: Collection[str] | None = None) -> list[str]:
    names = sorted(amounts if only is None else only)
    return [f"{amounts.get(name, 0.0):g} {name}" for name in names]


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


def growth() -> dict[str, float]:
    """Return all resources that the connected cluster's autoscaler may bring it to; none if it has no autoscaler."""
    from ray._private.state import state  # noqa: PLC0415  heavy

    return state.get_max_resources_from_cluster_config() or {}
