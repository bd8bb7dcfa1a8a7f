"""Placement: what Tune reserves for a trial, and the nodes that it avoids."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from orchestrator.decisions.hosts import HostCounts, excluded_hosts, hosts_that_lost, unreliable_hosts
from orchestrator.execution.cluster.capacity import countable, host_of
from orchestrator.execution.trials.trial_queue import EXCLUDED_NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ray.tune.experiment import Trial as TuneTrial

    from orchestrator.spec.model import Resources
    from orchestrator.state.event_store import EventStore

logger = logging.getLogger(__name__)
NODE_LABEL = "ray.io/node-id"
ANSWER_S = 5.0
EXCLUDED = "it gets no more trials of this sweep for up to an hour"
LAST = "it still gets trials, as no other host is left; see the reasons with `ravel logs`"


class Placement:
    """Nodes that the next trial must not run on, and a line for each change of them.

    Nodes that are drained are not among them: Ray itself places nothing there.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        cpus: float,
        gpus: float,
        custom: Mapping[str, float] | None = None,
        drained: Callable[[], Collection[str]] = frozenset,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._clock, self._drained = store, clock, drained
        self._demand = {"CPU": cpus, "GPU": gpus, **(custom or {})}
        self._said: dict[str, bool] = {}

    def excluded_nodes(self, trial: str) -> list[str]:
        """Return Ray's ids of the nodes of excluded hosts, and of those that lost a worker of this trial."""
        now, histories = self._clock(), self._store.state.hosts
        unreliable, lost = unreliable_hosts(histories, now=now), hosts_that_lost(histories, trial, now=now)
        if not unreliable and not lost and not self._said:
            return []
        nodes = usable_hosts(self._demand, drained=self._drained())
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


class TrialNodes:
    """Nodes that trials run on with all their workers, and those trials that have to leave one of theirs.

    Args of note: ``drained`` returns Ray's ids of the nodes that are drained.
    """

    def __init__(self, drained: Callable[[], Collection[str]]) -> None:
        self._drained = drained
        self._hosts: dict[str, dict[str, str]] = {}

    def host_of(self, trial: TuneTrial) -> str | None:
        """Return the host of a trial's actor; None if it does not answer: that must not cost the attempt."""
        self._hosts.pop(trial_name(trial), None)
        try:
            own, *others = ray.get(trial.temporary_state.ray_actor.node_ids.remote(), timeout=ANSWER_S)
            hosts = {node["NodeID"]: host_of(node) for node in ray.nodes()}
        except Exception as error:  # noqa: BLE001  the actor may be lost, which Tune reports later
            logger.info("host of %s unavailable (%s)", trial, type(error).__name__)
            return None
        self._hosts[trial_name(trial)] = {node_id: hosts[node_id] for node_id in (own, *others) if node_id in hosts}
        return hosts.get(own)

    def leaving(self, trial: TuneTrial) -> str | None:
        """Return the reason if a trial has to leave the node of one of its workers."""
        drained = self._drained()
        hosts = self._hosts.get(trial_name(trial), {})
        return next((f"{host} is drained" for node_id, host in hosts.items() if node_id in drained), None)


def resource_request(config: Mapping[str, Any], *, resources: Resources, gpus: float) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial: the resources of each worker, on nodes that are not excluded.

    Args of note: ``gpus`` are those of one worker.
    """
    nodes, workers = config.get(EXCLUDED_NODES) or [], range(resources.workers)
    demand = {"CPU": resources.cpus, "GPU": gpus, **resources.custom}
    bundles = [{name: countable(amount) for name, amount in demand.items()} for _ in workers]
    strategy = resources.strategy.upper()
    if not nodes:
        return tune.PlacementGroupFactory(bundles, strategy=strategy)
    selectors = [{NODE_LABEL: f"!in({','.join(nodes)})"} for _ in workers]
    return tune.PlacementGroupFactory(bundles, strategy=strategy, bundle_label_selector=selectors)


def usable_hosts(demand: Mapping[str, float], *, drained: Collection[str] = ()) -> dict[str, list[str]]:
    """Return Ray's ids of the living nodes that are large enough for a trial, by host."""
    hosts: dict[str, list[str]] = {}
    for node in ray.nodes():
        is_usable = node["Alive"] and node["NodeID"] not in drained
        if is_usable and all(node["Resources"].get(name, 0.0) >= amount for name, amount in demand.items()):
            hosts.setdefault(host_of(node), []).append(node["NodeID"])
    return hosts


def trial_name(trial: TuneTrial) -> str:
    """Return the id of a trial in the sweep, which its configuration carries."""
    return str(trial.config["ravel.trial"])
