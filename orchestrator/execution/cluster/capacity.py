"""Capacity of a cluster: what its nodes have, and how many trials fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError

if TYPE_CHECKING:
    from orchestrator.spec.model import Resources


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one machine of a cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of a cluster by node: a worker runs on one node, so two half-free nodes make no slot.

    >>> str(Capacity((Node(cpus=8, gpus=1), Node(cpus=4, gpus=0))))
    '2 nodes, 12 CPUs, 1 GPU'
    """

    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        cpus, gpus = sum(node.cpus for node in self.nodes), sum(node.gpus for node in self.nodes)
        counts = (len(self.nodes), "node"), (cpus, "CPU"), (gpus, "GPU")
        return ", ".join(f"{count:g} {unit}{'' if count == 1 else 's'}" for count, unit in counts)

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
