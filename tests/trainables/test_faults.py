"""Whose fault an exception is: the trial's own, or that of the process, device or machine under it."""

import errno
import pickle

import pytest
import torch

from trainables.engine.faults import fault_of, first_line
from trainables.errors import AttackOverfitted, ConfigError, Diverged, OutOfMemory, Problem, TrialFailed, WorkerUnusable


def accelerator_error(text, code):
    error = torch.AcceleratorError(text)
    error.error_code = code
    return error


def allocation_error():
    """torch's own error of an allocation that no host can make."""
    try:
        torch.empty(2**62, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    return None


KINDS = {
    "trial": [
        ValueError("boom"),
        RuntimeError("shape '[2, 2]' is invalid for input of size 3"),
        ConfigError([Problem("epochs", "must be >= 1, got 0")]),
        Diverged(1, 1, "ce"),
        AttackOverfitted(7, 0.45, 0.02),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nTraceback ..."),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. You may have passed in a non-contiguous input."),
        ValueError("a note about a CUDA error"),
    ],
    "device memory": [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        accelerator_error("CUDA error: out of memory", 2),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    "host memory": [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), allocation_error()],
    "device": [
        accelerator_error("CUDA error: device-side assert triggered", 710),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("HIP error: unspecified launch failure"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("No CUDA GPUs are available"),
        torch.cuda.DeferredCudaCallError("CUDA call failed lazily at initialization"),
        torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error"),
    ],
    "machine": [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        RuntimeError("unable to write to file </torch_1234_5>: No space left on device (28)"),
        RuntimeError("DataLoader worker (pid 77) is killed by signal: Bus error."),
        RuntimeError("DataLoader worker (pid(s) 77, 78) exited unexpectedly"),
        RuntimeError("can't start new thread"),
    ],
}
CASES = [pytest.param(error, fault, id=first_line(error)[:60]) for fault, kind in KINDS.items() for error in kind]


@pytest.mark.parametrize(("error", "fault"), CASES)
def test_an_error_is_the_fault_of_what_failed(error, fault):
    assert fault_of(error) == fault


@pytest.mark.parametrize(("error", "fault"), CASES)
def test_an_error_in_the_handling_of_another_is_the_fault_of_the_worse(error, fault):
    hidden, shown = KeyError("loss"), KeyError("loss")
    hidden.__context__ = shown.__context__ = error  # as Python sets it in an except block
    hidden.__suppress_context__ = True  # as it does for `from None`
    assert (fault_of(shown), fault_of(hidden)) == (fault, "trial")
    chained = ValueError("in the step")
    chained.__cause__ = shown
    assert fault_of(chained) == fault
    assert fault_of(ExceptionGroup("several", [ValueError("own"), error])) == fault


def test_errors_that_cause_each_other_are_each_read_once():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert fault_of(first) == "trial"


def test_a_failed_allocation_that_was_named_is_still_one_of_the_device_or_the_host():
    for cause, fault in (
        (torch.OutOfMemoryError("CUDA out of memory."), "device memory"),
        (MemoryError(), "host memory"),
    ):
        named = OutOfMemory("training", 512, "cuda:0")
        named.__cause__ = cause
        assert fault_of(named) == fault


@pytest.mark.parametrize("kind", [TrialFailed, WorkerUnusable])
def test_what_a_worker_raises_survives_the_way_to_the_driver(kind):
    sent = pickle.loads(pickle.dumps(kind("ValueError: boom", "Traceback ...")))  # noqa: S301
    assert (type(sent), str(sent), sent.traceback) == (kind, "ValueError: boom", "Traceback ...")
