"""Wait for a cluster that others use too: what a sweep waits for, when no worker is free."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from orchestrator.errors import PreflightError
from orchestrator.execution.ray_cluster import cluster_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.execution.cluster.capacity import Capacity, Node
    from orchestrator.spec.model import Resources
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import SweepState

logger = logging.getLogger(__name__)
FIRST_S = 15.0
POLL_S = 3.0
LEAVE_S = 1.0


def waiting_line(state: SweepState, resources: Resources, capacity: Capacity, free: Node) -> str | None:
    """Return what the sweep waits for and how much of it is in use; None if it has its workers, or room for one."""
    gpus = capacity.gpus_per_trial(resources)
    workers = resources.workers
    needed = " and ".join(_counts(resources.cpus * workers, gpus * workers))
    try:
        slots = capacity.slots(resources, gpus)
    except PreflightError:
        return f"waiting for {needed}: no node of the cluster is large enough"
    trials = state.with_status("waiting", "running", "interrupted")
    num_running = sum(trial.has_worker for trial in trials)
    is_waiting = num_running < min(slots, len(trials))
    if not is_waiting or (free.cpus >= resources.cpus * workers and free.gpus >= gpus * workers):
        return None
    cpus, all_gpus = sum(node.cpus for node in capacity.nodes), sum(node.gpus for node in capacity.nodes)
    used = [f"{cpus - free.cpus:g} of {cpus:g} CPUs"] + (
        [f"{all_gpus - free.gpus:g} of {all_gpus:g} GPUs"] if gpus else []
    )
    return f"waiting for {needed}: {' and '.join(used)} of the cluster are in use"


class ClusterWait:
    """Thread that says what a sweep waits for, once it has waited for ``FIRST_S``.

    Args of note: ``say`` is called with the line at most every ``every_s``, and with None when the wait is over.
    """

    def __init__(
        self,
        store: EventStore,
        resources: Resources,
        say: Callable[[str | None], None],
        *,
        every_s: float = 0.0,
        cluster: Callable[[], tuple[Capacity, Node]] = cluster_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._resources, self._say, self._every_s = store, resources, say, every_s
        self._cluster, self._clock = cluster, clock
        self._since: float | None = None
        self._said: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="ravel-wait", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a cluster that does not answer delays nothing."""
        self._ended.set()
        self._thread.join(LEAVE_S)

    def look(self) -> None:
        """Look once, and say what there is to say."""
        capacity, free = self._cluster()
        with self._store.lock:
            line = waiting_line(self._store.state, self._resources, capacity, free)
        now = self._clock()
        if line is None:
            if self._said is not None:
                self._say(None)
            self._since = self._said = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= FIRST_S and (self._said is None or now - self._said >= self._every_s):
            self._said = now
            self._say(line)

    def _keep_looking(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                self.look()
            except (Exception, SystemExit):  # a cluster that is gone, or a closed pipe: the driver reports it
                logger.debug("stopped looking at the cluster", exc_info=True)
                return


def _counts(cpus: float, gpus: float) -> list[str]:
    """Return numbers with their units.

    >>> _counts(1, 0.5), _counts(2, 0)
    (['1 CPU', '0.5 GPU'], ['2 CPUs'])
    """
    named = ((cpus, "CPU"), (gpus, "GPU"))
    return [f"{count:g} {unit}{'s' if count > 1 else ''}" for count, unit in named if count]
