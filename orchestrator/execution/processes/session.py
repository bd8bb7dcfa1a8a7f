"""Session of a driver with worker processes of its machine, without Ray."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.execution.processes.batch_choice import measured_choice
from orchestrator.execution.processes.limits import ADDRESS, check_limits
from orchestrator.execution.processes.pool import WorkerPool
from orchestrator.execution.processes.slots import capacity_here, devices_here, slots_of
from orchestrator.execution.progress import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.execution.cluster.capacity import Capacity
    from orchestrator.execution.processes.slots import Slot
    from orchestrator.execution.progress import ProgressCallback
    from orchestrator.execution.signals import StopSignals
    from orchestrator.orders.acts import Workers
    from orchestrator.planning.batch_choice import BatchChoice
    from orchestrator.spec.model import SweepSpec
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_folder import SweepFolder


@dataclass(frozen=True)
class ProcessSession:
    """Worker processes of this machine."""

    capacity: Capacity
    pool: WorkerPool
    callback: ProgressCallback

    def batch_choice(self, spec: SweepSpec) -> BatchChoice | None:
        """Choose the trials of a worker: measure sampled trials one after another and batched, in a worker."""
        if spec.resources.batch != "auto":
            return None
        notify(self.callback.on_measure)
        return measured_choice(spec, self.pool, self._slots(spec))

    def run_trials(
        self,
        decisions: DecisionState,
        store: EventStore,
        folder: SweepFolder,
        *,
        before_step: Callable[[], None],
        orders: Callable[[Workers], None],
    ) -> None:
        """Run every trial that is not over, or raise what ``before_step`` raises."""
        from orchestrator.execution.processes.loop import ProcessLoop  # noqa: PLC0415  imports torch

        plan = decisions.plan
        loop = ProcessLoop(decisions, store, folder, pool=self.pool, slots=self._slots(plan.spec), batch=plan.batch)
        loop.run(before_step=before_step, orders=orders)

    def _slots(self, spec: SweepSpec) -> tuple[Slot, ...]:
        gpus = self.capacity.gpus_per_trial(spec.resources)
        devices = devices_here(int(self.capacity.nodes[0].gpus))
        return slots_of(self.capacity.fits(spec.resources, gpus), gpus=gpus, devices=devices)

    def watching(self, on_lost: Callable[[str], None]) -> AbstractContextManager[None]:  # noqa: ARG002  the protocol's
        """Watch nothing: the loop itself starts another server in the place of one that was killed."""
        return nullcontext()

    def loss(self) -> str | None:
        """Return None: nothing but the driver must live."""
        return None

    def abandon(self) -> None:
        """Do nothing: the workers end with the session."""


def pool_for(spec: SweepSpec) -> WorkerPool:
    """Start the server of a sweep's workers, which imports torch while the driver goes on.

    Raises:
        PreflightError: lists what worker processes cannot do, each with its remedy.
    """
    check_limits(spec.resources)
    return WorkerPool(cpus=spec.resources.cpus, environ=os.environ)


@contextmanager
def connected(
    pool: WorkerPool,
    spec: SweepSpec,
    code_in: Path,  # noqa: ARG001  a worker finds users' modules where the driver does
    callback: ProgressCallback,
    *,
    stop: StopSignals,  # noqa: ARG001  nothing here must not be interrupted
) -> Iterator[ProcessSession]:
    """Wait until workers can be started, for the length of a sweep.

    Raises:
        PreflightError: workers cannot be started on this machine, or no trial fits on it.
    """
    notify(callback.on_connect, ADDRESS)
    capacity = capacity_here()
    capacity.slots(spec.resources, capacity.gpus_per_trial(spec.resources))
    pool.wait_ready()
    yield ProcessSession(capacity, pool, callback)
