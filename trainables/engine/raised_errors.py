"""Errors that a worker raises: those of the trial itself, and those of the process, device or machine under it."""

import traceback

from trainables.engine.faults import fault_of, first_line
from trainables.engine.guards import release_memory
from trainables.errors import OutOfMemory, OutOfSharedMemory, TrialFailed, WorkerUnusable

__all__ = ["classified"]


def classified(error: Exception, *, shares_gpu: bool) -> TrialFailed | WorkerUnusable:
    """Return what a worker raises for an error: out of memory is the trial's own fault on a GPU of its own.

    Memory that the frames of the error hold is released.
    """
    fault, reason, text = fault_of(error), first_line(error), "".join(traceback.format_exception(error))
    if fault in {"device memory", "host memory"}:
        reason = reason if isinstance(error, OutOfMemory) else f"{reason}; lower batch_size or model.width"
        release_memory(error)
    match fault:
        case "peer":
            return WorkerUnusable(reason.partition(": ")[2], text)
        case "device":
            return WorkerUnusable(f"the device is unusable: {reason}", text)
        case "machine":
            return WorkerUnusable(f"the machine lacks something: {reason}", text)
        case "host memory":
            return OutOfSharedMemory(f"the machine is out of memory: {reason}; or run fewer trials on a machine", text)
        case "device memory" if shares_gpu:
            return OutOfSharedMemory(f"the shared GPU is out of memory: {reason}; or run fewer trials on a GPU", text)
        case _:
            return TrialFailed(reason, text)
