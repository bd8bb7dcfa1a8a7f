"""Faults: whose error an exception is, the trial's own or that of the process, device or machine under it."""

import errno
from collections.abc import Iterator
from typing import Literal

import torch
import torch.distributed

from trainables.errors import PeerLost

__all__ = ["Fault", "fault_of", "first_line", "is_exhaustion"]

Fault = Literal["trial", "device memory", "host memory", "device", "machine", "peer"]
"""`trial`: its own error. `device memory`, `host memory`: an allocation failed. `device`: the process can no longer use
its device. `machine`: it lacks something else that training needs (disk, shared memory, file descriptors, threads).
`peer`: another process that trains the same trial is lost."""

_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
_DEVICE_TYPES: tuple[type[BaseException], ...] = (
    torch.AcceleratorError,
    torch.cuda.CudaError,
    torch.cuda.DeferredCudaCallError,
    *((torch.distributed.DistBackendError,) if torch.distributed.is_available() else ()),
)
# Errors without a type of their own, by what torch writes.
_HOST_MEMORY = ("not enough memory", "can't allocate memory")
_DEVICE_MEMORY = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_ARGUMENT = (
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_BAD_PARAM",
    "CUBLAS_STATUS_INVALID_VALUE",
    "CUBLAS_STATUS_NOT_SUPPORTED",
)
_DEVICE = (
    "CUDA error",
    "CUDA driver error",
    "CUDA unknown error",
    "CUDA driver initialization failed",
    "No CUDA GPUs are available",
    "NVML",
    "cuDNN error",
    "CUDNN_STATUS_",
    "CUBLAS_STATUS_",
    "CUSOLVER_STATUS_",
    "CUFFT_",
    "NCCL error",
    "NCCL Error",
    "HIP error",
)
_MACHINE = (
    "No space left on device",
    "Too many open files",
    "unable to open shared memory object",
    "unable to write to file </torch",
    "unable to allocate shared memory",
    "unable to mmap",
    "DataLoader worker (pid",
    "can't start new thread",
)
_MACHINE_ERRNO = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EIO, errno.ESTALE, errno.EROFS)
)


def fault_of(error: BaseException) -> Fault:
    """Return whose fault an exception is: the worst of it and of the exceptions that led to it.

    A device that fails is often noticed by code that then fails otherwise, so causes count as the error does.

    >>> fault_of(ValueError("labels: must be >= 0")), fault_of(MemoryError())
    ('trial', 'host memory')
    >>> fault_of(RuntimeError("CUDA error: an illegal memory access was encountered"))
    'device'
    >>> fault_of(OSError(errno.ENOSPC, "No space left on device"))
    'machine'
    """
    faults = {_fault_of_one(cause) for cause in _chain(error)}
    order: tuple[Fault, ...] = ("peer", "device", "machine", "host memory", "device memory")
    return next((fault for fault in order if fault in faults), "trial")


def is_exhaustion(error: BaseException) -> bool:
    """Return True if an allocation failed, on the device or on the host."""
    return _fault_of_one(error) in {"device memory", "host memory"}


def first_line(error: BaseException) -> str:
    r"""Return the type and the first line of an error's message.

    >>> first_line(RuntimeError("CUDA error: unknown error\nCompile with `TORCH_USE_CUDA_DSA`"))
    'RuntimeError: CUDA error: unknown error'
    """
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _fault_of_one(error: BaseException) -> Fault:
    match error:
        case PeerLost():
            return "peer"
        case MemoryError():
            return "host memory"
        case torch.OutOfMemoryError():
            return "device memory"
        case torch.AcceleratorError() if getattr(error, "error_code", None) == _CUDA_OUT_OF_MEMORY:
            return "device memory"
        case OSError():
            return _fault_of_system(error)
        case RuntimeError():
            return _fault_of_text(error)
        case _:
            return "device" if isinstance(error, _DEVICE_TYPES) else "trial"


def _fault_of_system(error: OSError) -> Fault:
    if error.errno == errno.ENOMEM:
        return "host memory"
    return "machine" if error.errno in _MACHINE_ERRNO else "trial"


def _fault_of_text(error: RuntimeError) -> Fault:
    """Return the fault of an error that torch raises as a RuntimeError, or as a subclass of it."""
    text = str(error)
    kinds: tuple[tuple[tuple[str, ...], Fault], ...] = (
        (_DEVICE_MEMORY, "device memory"),
        (_HOST_MEMORY, "host memory"),
        (_ARGUMENT, "trial"),
        (_DEVICE, "device"),
        (_MACHINE, "machine"),
    )
    for signs, fault in kinds:
        if any(sign in text for sign in signs):
            return fault
    return "device" if isinstance(error, _DEVICE_TYPES) else "trial"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused it, what it was raised in the handling of, and the members of a group, each once."""
    waiting: list[BaseException] = [error]
    seen = set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        context = None if current.__suppress_context__ else current.__context__
        members = current.exceptions if isinstance(current, BaseExceptionGroup) else ()
        waiting += [cause for cause in (current.__cause__, context, *members) if cause is not None]
