"""Capacity of a cluster: the trials that its nodes have room for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from orchestrator.spec.model import Resources

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
    """CPUs and GPUs of a cluster by node: a worker runs on one node, so two half-free nodes make no slot."""

    nodes: tuple[Node, ...]
    growth: Mapping[str, float] = field(default_factory=dict)
    """All resources that the cluster's autoscaler may bring it to; none if it does not grow."""

    def __str__(self) -> str:
        cpus, gpus = sum(node.cpus for node in self.nodes), sum(node.gpus for node in self.nodes)
        counts = (len(self.nodes), "node"), (cpus, "CPU"), (gpus, "GPU")
        return ", ".join(f"{count:g} {unit}{'' if count == 1 else 's'}" for count, unit in counts)

    def slots(self, resources: Resources, gpus_per_worker: float) -> int:
        """Return the number of trials that run at once; one if a node for it is still to come.

        Raises:
            PreflightError: no node is large enough for a worker, or there is no room for all workers of a trial, and
                the cluster does not grow so far.
        """
        fits = self.fits(resources, gpus_per_worker)
        if fits == 0 and self._grows_to(_demand(resources, gpus_per_worker)):
            fits = resources.max_concurrent or 1
        if fits == 0:
            raise PreflightError([self._too_small(resources, gpus_per_worker)])
        return min(fits, resources.max_concurrent or fits)

    def fits(self, resources: Resources, gpus_per_worker: float) -> int:
        """Return the number of trials that fit at once with all their workers; none if no node is large enough."""
        return self._workers(resources, gpus_per_worker) // resources.workers

    def gpus_per_trial(self, resources: Resources) -> float:
        """Return the GPUs of one worker of a trial; ``auto`` is one if the cluster has GPUs, else none."""
        if resources.gpus == "auto":
            return 1.0 if any(node.gpus for node in self.nodes) or self.growth.get("GPU") else 0.0
        return resources.gpus

    def _workers(self, resources: Resources, gpus_per_worker: float) -> int:
        return sum(_fitting(node, _demand(resources, gpus_per_worker)) for node in self.nodes)

    def _grows_to(self, demand: Mapping[str, float]) -> bool:
        return bool(self.growth) and all(self.growth.get(name, 0.0) >= amount for name, amount in demand.items())

    def _too_small(self, resources: Resources, gpus_per_worker: float) -> str:
        required = " and ".join([f"{resources.cpus:g} CPUs", f"{gpus_per_worker:g} GPUs", *_named(resources.custom)])
        present = ", ".join(
            " and ".join([f"{node.cpus:g}", f"{node.gpus:g}", *_named(node.custom, only=resources.custom)])
            for node in self.nodes
        )
        workers = self._workers(resources, gpus_per_worker)
        if workers == 0:
            takes = "one trial takes" if resources.workers == 1 else "each worker takes"
            return f"resources: {takes} {required}, the nodes have {present}; ask for less, or add a larger node"
        requirement = f"must be <= {workers}, as each worker takes {required} and the nodes have {present}"
        return f"resources.workers: {requirement}, got {resources.workers}; ask for fewer"


def host_of(node: Mapping[str, Any]) -> str:
    """Name the machine of one of Ray's nodes for people; the address tells machines of one name apart.

    >>> host_of({"NodeManagerHostname": "gpu-2", "NodeManagerAddress": "10.0.0.6"})
    'gpu-2 (10.0.0.6)'
    """
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def countable(amount: float) -> float:
    """Return an amount as Ray counts it, rounded down: as many shares fit as the amount says.

    >>> countable(1 / 6), countable(0.3), countable(2)
    (0.1666, 0.3, 2.0)
    """
    return _units(amount) / UNIT


def _demand(resources: Resources, gpus: float) -> dict[str, float]:
    return {"CPU": resources.cpus, "GPU": gpus, **resources.custom}


def _fitting(node: Node, demand: Mapping[str, float]) -> int:
    """Return the number of workers that fit on a node, in the units in which Ray counts."""
    present = {"CPU": node.cpus, "GPU": node.gpus, **node.custom}
    return min(_units(present.get(name, 0.0)) // max(1, _units(amount)) for name, amount in demand.items() if amount)


def _units(amount: float) -> int:
    return math.floor(amount * UNIT + 1e-6)


def _named(amounts: Mapping[str, float], *, only: Collection[str] | None = None) -> list[str]:
    names = sorted(amounts if only is None else only)
    return [f"{amounts.get(name, 0.0):g} {name}" for name in names]
