"""Choice of ``resources.batch: auto``: time epochs of sampled trials, by themselves and batched, in a worker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.execution.processes.pool import Lost
from orchestrator.planning.batching import SIZES, chosen, largest, measure, none_batched, sampled
from orchestrator.planning.folders import located
from orchestrator.planning.provenance import uses_own_code
from orchestrator.planning.validation import configured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.execution.processes.pool import Worker, WorkerPool
    from orchestrator.execution.processes.slots import Slot
    from orchestrator.planning.batch_choice import BatchChoice
    from orchestrator.spec.model import SweepSpec

logger = logging.getLogger(__name__)
WAIT_S = 1.0


def measured_choice(spec: SweepSpec, pool: WorkerPool, slots: Sequence[Slot]) -> BatchChoice:
    """Choose the trials of each slot's worker: measure sampled trials of the sweep in the first one.

    Nothing is batched where none of them can be, or where they cannot be measured: trials report their errors
    themselves.

    Raises:
        PreflightError: workers cannot be started on this machine.
    """
    if (choice := none_batched(config for _, config in configured(spec))) is not None:
        return choice
    most = largest(spec, len(slots))
    device = {"device": "cpu"} if slots[0].gpu is None else {}
    folder = {"ravel.working_directory": str(Path.cwd())} if uses_own_code(spec) else {}
    configs = [{**located(point, Path.cwd()), **device, **folder} for point in sampled(spec)]
    worker = pool.start(slots[0])
    try:
        sizes = [size for size in SIZES if size <= most]
        measured = measure(lambda numbers: _epoch_s(pool, worker, [configs[number] for number in numbers]), sizes)
    finally:
        pool.discard(worker)
    return chosen(measured)


def _epoch_s(pool: WorkerPool, worker: Worker, configs: list[dict[str, Any]]) -> float | None:
    """Return the seconds of an epoch of trials in a worker; None if it failed or ended."""
    worker.send({"measure": configs})
    while True:
        for sender, message in pool.messages(timeout_s=WAIT_S):
            if sender is not worker:
                continue
            if isinstance(message, Lost) or "error" in message:
                reason = message.error.reason if isinstance(message, Lost) else message["error"]["reason"]
                logger.warning("resources.batch: %d trials could not be measured (%s)", len(configs), reason)
                return None
            return float(message["measured"])
