"""Cluster as a sweep sees it: the room for its trials, which changes while nodes join, leave, drain and fill."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.execution.cluster.capacity import Capacity, Node, host_of
from orchestrator.execution.ray_cluster import growth

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from orchestrator.spec.model import Resources

logger = logging.getLogger(__name__)
INTERVAL_S = 3.0
LEAVE_S = 1.0
NAMED = 3
NAME = "ravel/{sweep}/{unique}"
"""Name of a placement group: what a trial reserves."""


@dataclass(frozen=True)
class ClusterView:
    """Cluster at one moment."""

    capacity: Capacity
    """Living nodes, without those that are drained: they take no trials."""
    free: Capacity
    """Resources that no one has reserved on each of them."""
    held: int = 0
    """Trials of this sweep that have their place: they run, or their workers start."""
    draining: frozenset[str] = frozenset()
    """Ray's ids of the nodes that are drained."""
    hosts: frozenset[str] = frozenset()
    """Names of the nodes that take trials, with their addresses."""


class Slots(NamedTuple):
    """Size of the cluster for a sweep; a change of it is worth a line."""

    nodes: int
    draining: int
    slots: int


def slots_of(view: ClusterView, resources: Resources, gpus: float) -> Slots:
    """Return the size of the cluster for a sweep; unlike ``Capacity.slots``, none at all is a size."""
    fits = view.capacity.fits(resources, gpus)
    return Slots(len(view.capacity.nodes), len(view.draining), min(fits, resources.max_concurrent or fits))


def trials_at_most(view: ClusterView, resources: Resources, gpus: float) -> int:
    """Return the number of trials to hand to Tune: those with a place, those that find one now, and one ahead.

    Tune keeps an idle actor for reuse only while a trial waits for it. More than one would be proposed too early, and
    would wait in a full cluster. Where a waiting trial makes the cluster grow, as many wait as have a place, so that it
    doubles.

    Example:
        >>> from orchestrator.spec.model import Resources
        >>> two = Capacity((Node(cpus=2, gpus=0),))
        >>> trials_at_most(ClusterView(capacity=two, free=two), Resources(cpus=1), 0.0)
        3
        >>> trials_at_most(ClusterView(capacity=two, free=Capacity(()), held=1), Resources(cpus=1), 0.0)
        2
        >>> trials_at_most(ClusterView(capacity=two, free=two, held=2), Resources(cpus=1), 0.0)  # Ray's news are late
        3
    """
    placed = min(view.held + view.free.fits(resources, gpus), max(view.held, view.capacity.fits(resources, gpus)))
    most = placed + (max(1, view.held) if view.capacity.growth else 1)
    return min(most, resources.max_concurrent or most)


def change_line(before: Slots, now: Slots, *, joined: Collection[str] = (), left: Collection[str] = ()) -> str | None:
    """Return the line for a change of the cluster; None if there is none that a sweep notices.

    One node in the place of another is such a change too.

    >>> change_line(Slots(2, 0, 4), Slots(3, 0, 6), joined=["gpu-3 (10.0.0.7)"])
    'cluster: 3 nodes, 6 slots (was 4); joined: gpu-3 (10.0.0.7)'
    >>> change_line(Slots(2, 0, 4), Slots(1, 1, 2), left=["gpu-2 (10.0.0.6)"])
    'cluster: 1 node, 1 more is drained, 2 slots (was 4); left: gpu-2 (10.0.0.6)'
    >>> change_line(Slots(2, 0, 4), Slots(2, 0, 4), joined=["gpu-3 (10.0.0.7)"], left=["gpu-2 (10.0.0.6)"])
    'cluster: 2 nodes, 4 slots; joined: gpu-3 (10.0.0.7); left: gpu-2 (10.0.0.6)'
    >>> change_line(Slots(2, 0, 4), Slots(3, 0, 4))
    """
    if (before.draining, before.slots) == (now.draining, now.slots) and not (joined and left):
        return None
    nodes = f"{now.nodes} node{'' if now.nodes == 1 else 's'}"
    drained = f", {now.draining} more {'is' if now.draining == 1 else 'are'} drained" if now.draining else ""
    slots = f"{now.slots} slot{'' if now.slots == 1 else 's'}"
    was = f" (was {before.slots})" if before.slots != now.slots else ""
    return f"cluster: {nodes}{drained}, {slots}{was}{_named('joined', joined)}{_named('left', left)}"


def _named(change: str, hosts: Collection[str]) -> str:
    """Return the hosts of a change, the first few of many.

    >>> _named("left", ["d", "c", "b", "a"]), _named("left", [])
    ('; left: a, b, c and 1 more', '')
    """
    first, more = sorted(hosts)[:NAMED], len(hosts) - NAMED
    return f"; {change}: {', '.join(first)}{f' and {more} more' if more > 0 else ''}" if hosts else ""


def view_now(sweep: str) -> ClusterView:
    """Look at the cluster that this process is connected to."""
    import ray  # noqa: PLC0415  heavy
    from ray._private.state import state  # noqa: PLC0415

    draining = frozenset(state.get_draining_nodes())
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    used = {name: node["Resources"] for name, node in alive.items() if name not in draining}
    free = state.available_resources_per_node()
    return ClusterView(
        capacity=Capacity(tuple(Node.of(resources) for resources in used.values()), growth=growth()),
        free=Capacity(tuple(Node.of(free.get(name, {})) for name in used)),
        held=num_held(ray.util.placement_group_table(), sweep),
        draining=draining & alive.keys(),
        hosts=frozenset(host_of(alive[name]) for name in used),
    )


def num_held(table: Mapping[str, Mapping[str, object]], sweep: str) -> int:
    """Count the placement groups of a sweep that have their resources.

    >>> num_held({"1": {"name": "ravel/a-1/f0", "state": "CREATED"}, "2": {"name": "", "state": "CREATED"}}, "a-1")
    1
    """
    prefix = NAME.format(sweep=sweep, unique="")
    return sum(group["state"] == "CREATED" and str(group["name"]).startswith(prefix) for group in table.values())


class ClusterWatch:
    """Watch over the room of a cluster, in a thread: Tune's loop reads what the last look has seen.

    Args of note: ``resources`` returns those of the plan in force, which an order may change; ``look`` returns the
    cluster now; ``gpus`` are those of one worker.
    """

    def __init__(self, resources: Callable[[], Resources], gpus: float, look: Callable[[], ClusterView]) -> None:
        self._resources, self._gpus, self._look = resources, gpus, look
        self._drained = frozenset[str]()
        self._ended = threading.Event()
        self.view = look()
        self._slots = slots_of(self.view, resources(), gpus)
        self._note_drained()

    @property
    def limit(self) -> int:
        """Number of trials to hand to Tune, at most."""
        return trials_at_most(self.view, self._resources(), self._gpus)

    @property
    def drained(self) -> frozenset[str]:
        """Ray's ids of the nodes that are drained, or were until they left the cluster."""
        return self._drained

    def look(self) -> None:
        """Look once, and log a change."""
        hosts, self.view = self.view.hosts, self._look()
        self._note_drained()
        before, self._slots = self._slots, slots_of(self.view, self._resources(), self._gpus)
        line = change_line(before, self._slots, joined=self.view.hosts - hosts, left=hosts - self.view.hosts)
        if line is not None:
            logger.warning(line)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look every few seconds during the work; a cluster that does not answer delays nothing."""
        thread = threading.Thread(target=self._keep_looking, name="ravel-cluster", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(LEAVE_S)

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles what its searcher holds into a file that is never read."""
        return {}

    def _note_drained(self) -> None:
        self._drained |= self.view.draining

    def _keep_looking(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            try:
                self.look()
            except Exception:
                logger.debug("cannot look at the cluster", exc_info=True)
