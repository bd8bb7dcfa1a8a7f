"""Session of a driver with Ray: connected, the nodes checked, and left even if Ray does not answer."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator import timeouts
from orchestrator.execution import preflight, ray_cluster, ray_watch
from orchestrator.execution.cluster import node_checks
from orchestrator.execution.cluster.own_modules import own_modules
from orchestrator.execution.progress import notify
from orchestrator.planning.batch_choice import BatchChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.execution.signals import StopSignals
    from orchestrator.orders.acts import Workers
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder

logger = logging.getLogger(__name__)
DISCONNECT_S = 20.0


@dataclass(frozen=True)
class RaySession:
    """Connection to Ray: what the cluster has, and the servers without which the driver cannot continue."""

    capacity: Capacity
    servers: tuple[ray_watch.Server, ...]

    def batch_choice(self, spec: SweepSpec) -> BatchChoice | None:
        """Choose one trial for each worker: an actor of Ray has no other."""
        if spec.resources.batch != "auto":
            return None
        return BatchChoice(size=1, reason="auto: 1, as trials are batched with --address processes alone")

    def run_trials(
        self,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        *,
        before_step: Callable[[], None],
        orders: Callable[[Workers], None],
    ) -> None:
        """Run Tune until it is done, or raise what ``before_step`` raises."""
        from orchestrator.execution.tune import run  # noqa: PLC0415  imports Ray and torch, for drivers with work

        run.fit(decisions, store, folder, self.capacity, before_step=before_step, orders=orders)

    def watching(self, on_lost: Callable[[str], None]) -> AbstractContextManager[None]:
        """Watch the servers during the work."""
        return ray_watch.watching(self.servers, on_lost=on_lost)

    def loss(self) -> str | None:
        """Return the reason if a server refuses connections now."""
        return ray_watch.refusing(self.servers)

    def abandon(self) -> None:
        """Give up a thread that does not end; its next call must not start another Ray, as Ray's calls do."""
        ray_cluster.forbid_auto_connect()


@contextmanager
def connected(
    address: str, spec: SweepSpec, code_in: Path, callback: ProgressCallback, *, stop: StopSignals
) -> Iterator[RaySession]:
    """Connect to Ray, and check the nodes of a cluster that was joined.

    Raises:
        PreflightError: no cluster is there, or it cannot run the spec.
        KeyboardInterrupt: a signal came while Ray started.
    """
    code = preflight.files_to_send(spec, code_in, address=address)
    notify(callback.on_connect, address)
    with ray_watch.settings():
        connection = ray_cluster.connect(address, code=code)
        with ExitStack() as stack:
            with stop.held():
                capacity = connection.__enter__()
                stack.callback(_disconnect, connection)
            servers = ray_watch.servers(private=address == "local")
            if address != "local":
                notify(callback.on_joined, servers[0].address, capacity)
                gpus = capacity.gpus_per_trial(spec.resources)
                node_checks.check_nodes(own_modules(spec), cpus=spec.resources.cpus, gpus=gpus)
            yield RaySession(capacity, servers)


def _disconnect(connection: AbstractContextManager[Capacity]) -> None:
    """Leave Ray in a thread, since that does not return while Ray's GCS is stopped."""
    leaving = threading.Thread(target=connection.__exit__, args=(None, None, None), name="ravel-ray", daemon=True)
    leaving.start()
    if not timeouts.ends(leaving, DISCONNECT_S):
        logger.warning("Ray did not stop within %.0f s; what is left of it ends with this process", DISCONNECT_S)
