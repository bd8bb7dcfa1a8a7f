"""Wait for a cluster that others use too: what a sweep waits for, when no worker is free."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.execution.tune.cluster import ClusterView
    from orchestrator.spec.model import Resources
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import SweepState

logger = logging.getLogger(__name__)
FIRST_S = 15.0
POLL_S = 3.0
LEAVE_S = 1.0


def waiting_line(state: SweepState, resources: Resources, view: ClusterView, *, gpus: float) -> str | None:
    """Return what the sweep waits for and how much of it is in use; None if it has its places, or room for one.

    A worker that starts has its place already. Args of note: ``gpus`` are those of one worker.
    """
    workers = {"CPU": resources.cpus, "GPU": gpus, **resources.custom}
    demand = {name: amount * resources.workers for name, amount in workers.items()}
    needed = " and ".join(_count(amount, name) for name, amount in demand.items() if amount)
    trials, fits = state.with_status("waiting", "running", "interrupted"), view.capacity.fits(resources, gpus)
    if trials and not fits:
        return f"waiting for {needed}: no node of the cluster is large enough"
    placed = max(view.held, sum(trial.has_worker for trial in trials))
    is_waiting = placed < min(fits, resources.max_concurrent or fits, len(trials))
    if not is_waiting or view.free.fits(resources, gpus):
        return None
    totals = {name: (_total(view.capacity, name), _total(view.free, name)) for name in demand if demand[name]}
    used = " and ".join(f"{total - free:g} of {_count(total, name)}" for name, (total, free) in totals.items())
    return f"waiting for {needed}: {used} of the cluster are in use"


class ClusterWait:
    """Thread that says what a sweep waits for, once it has waited for ``FIRST_S``.

    Args of note: ``say`` is called with the line at most every ``every_s``, and with None when the wait is over;
    ``cluster`` returns the cluster now.
    """

    def __init__(
        self,
        store: EventStore,
        resources: Resources,
        say: Callable[[str | None], None],
        *,
        cluster: Callable[[], ClusterView],
        every_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._resources, self._say, self._every_s = store, resources, say, every_s
        self._cluster, self._clock = cluster, clock
        self._gpus = 0.0
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
        view = self._cluster()
        self._gpus = max(self._gpus, view.capacity.gpus_per_trial(self._resources))  # their last node may be lost
        with self._store.lock:
            line = waiting_line(self._store.state, self._resources, view, gpus=self._gpus)
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


def _total(capacity: Capacity, name: str) -> float:
    return sum({"CPU": node.cpus, "GPU": node.gpus, **node.custom}.get(name, 0.0) for node in capacity.nodes)


def _count(amount: float, name: str) -> str:
    """Return a number with its unit.

    >>> _count(1, "CPU"), _count(2, "CPU"), _count(0.5, "GPU"), _count(2, "license")
    ('1 CPU', '2 CPUs', '0.5 GPU', '2 license')
    """
    return f"{amount:g} {name}{'s' if amount > 1 and name in {'CPU', 'GPU'} else ''}"
