"""Placement: what Tune reserves for a trial, and the nodes that it avoids."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from orchestrator.decisions.hosts import HostCounts, excluded_hosts, hosts_that_lost, unreliable_hosts
from orchestrator.execution.tune.searcher import EXCLUDED_NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.state.event_store import EventStore

logger = logging.getLogger(__name__)
NODE_LABEL = "ray.io/node-id"
ANSWER_S = 5.0
EXCLUDED = "it gets no more trials of this sweep for up to an hour"
LAST = "it still gets trials, as no other host is left; see the reasons with `ravel logs`"


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


def resource_request(
    config: Mapping[str, Any], *, cpus: float, gpus: float, workers: int = 1
) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial: CPUs and GPUs of each worker, on nodes that are not excluded.

    The workers of a trial are on one node where that has room for all.
    """
    nodes = config.get(EXCLUDED_NODES) or []
    bundles = [{"CPU": cpus, "GPU": gpus} for _ in range(workers)]
    if not nodes:
        return tune.PlacementGroupFactory(bundles)
    selectors = [{NODE_LABEL: f"!in({','.join(nodes)})"} for _ in range(workers)]
    return tune.PlacementGroupFactory(bundles, bundle_label_selector=selectors)


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
