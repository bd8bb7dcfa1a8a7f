"""Ray: a private one on this machine, or a running cluster."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError
from orchestrator.execution.cores import cores_here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import Resources

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

MAX_TEMPORARY_PATH = 24
PROBE_S = 5.0
OBJECT_STORE_BYTES = 200_000_000  # trials exchange a few numbers; the default would take a third of the memory


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one machine of a cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of a cluster by node: a trial runs on one node, so two half-free nodes make no slot."""

    nodes: tuple[Node, ...]

    def slots(self, resources: Resources, gpus_per_trial: float) -> int:
        """Return the number of trials that run at once.

        Raises:
            PreflightError: no node is large enough for one trial.
        """
        fits = sum(_fitting(node, resources.cpus, gpus_per_trial) for node in self.nodes)
        if fits == 0:
            required = f"{resources.cpus:g} CPUs and {gpus_per_trial:g} GPUs"
            present = ", ".join(f"{node.cpus:g} and {node.gpus:g}" for node in self.nodes)
            raise PreflightError(
                [f"resources: one trial takes {required}, the nodes have {present}; ask for less, or add a larger node"]
            )
        return min(fits, resources.max_concurrent or fits)

    def gpus_per_trial(self, resources: Resources) -> float:
        """Return the GPUs of one trial; ``auto`` is one if the cluster has GPUs, else none."""
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

    Raises:
        PreflightError: Ray cannot be started, or there is no cluster at that address.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray  # noqa: PLC0415  reads the settings above when imported

    with ExitStack() as stack:
        stack.callback(ray.shutdown)
        try:
            if address == "local":
                _start(stack)
            else:
                _join(address)
        except (RuntimeError, OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            raise PreflightError([f"--address {address}: cannot connect to Ray ({reason})"]) from error
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Capacity(tuple(Node(cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0)) for node in alive))


def _start(stack: ExitStack) -> None:
    import ray  # noqa: PLC0415

    # The folder holds Ray's sockets, and the path of a socket may have 107 characters.
    parent = "/tmp" if len(tempfile.gettempdir()) > MAX_TEMPORARY_PATH else None  # noqa: S108
    folder = tempfile.mkdtemp(prefix="ravel-ray-", dir=parent)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    # With a token and no RAY_AUTH_MODE, ray.init enables token authentication for itself and all its processes. The
    # mode itself would come too late here for a process that has imported Ray already.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    ray.init(address="local", num_cpus=cores_here(), _temp_dir=folder, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    stack.push(lambda *_: ray.shutdown())  # before its folder is removed


def _join(address: str) -> None:
    import ray  # noqa: PLC0415

    if "://" in address:
        raise ValueError("must be HOST:PORT of the cluster's head; Ray Jobs addresses are not supported")
    host, colon, port = address.rpartition(":")
    if colon:  # fail at once: Ray would retry for a minute
        with socket.create_connection((host, int(port)), timeout=PROBE_S):
            pass
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")


def cluster_now() -> tuple[Capacity, Node]:
    """Return the living nodes of the cluster that this process is connected to, and what is free in all of them."""
    import ray  # noqa: PLC0415

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    free = ray.available_resources()
    nodes = tuple(Node(cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0)) for node in alive)
    return Capacity(nodes), Node(cpus=free.get("CPU", 0.0), gpus=free.get("GPU", 0.0))
