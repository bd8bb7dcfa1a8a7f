"""Guards of a training step: a loss that is not finite and exhausted memory raise errors of this package."""

import gc
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from trainables.engine.faults import is_exhaustion
from trainables.errors import Diverged, OutOfMemory, Phase

__all__ = ["LossMonitor", "memory_guard", "release_memory"]


@final
class LossMonitor:
    """Loss terms of an epoch's steps (0-d tensors); each step is checked while the next one runs.

    On a CPU a step is checked at once. On a GPU the result of its check is copied to the host asynchronously,
    and read when the following step is in the queue, so the device never waits for the host.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._terms: tuple[str, ...] = ()
        self._steps: list[Tensor] = []
        self._pending: _FiniteCheck | None = None

    def record(self, terms: Mapping[str, Tensor]) -> None:
        """Record the terms of the next step, the same in every step of an epoch.

        Raises:
            Diverged: a term of this step or of the one before is not finite.
            ValueError: other terms than in the step before.
        """
        if self._steps and tuple(terms) != self._terms:
            raise ValueError(f"terms: must be {self._terms} in every step of an epoch, got {tuple(terms)}")
        self._terms = tuple(terms)
        values_T = torch.stack([value.detach() for value in terms.values()])
        self._steps.append(values_T)
        before, self._pending = self._pending, _FiniteCheck(values_T)
        if before is not None:
            self._check(before, len(self._steps) - 1)
        if values_T.device.type == "cpu":
            self._check(self._pending, len(self._steps))

    def means(self) -> dict[str, float]:
        """Return the mean of each term over the recorded steps.

        Raises:
            Diverged: a term of the last step is not finite.
        """
        if self._pending is not None:
            self._check(self._pending, len(self._steps))
        values_ST = torch.stack(self._steps).cpu()
        return dict(zip(self._terms, values_ST.double().mean(0).tolist(), strict=True))

    def _check(self, check: "_FiniteCheck", step: int) -> None:
        if not check.finite():
            finite_T = self._steps[step - 1].isfinite().tolist()
            raise Diverged(self._epoch, step, self._terms[finite_T.index(False)])


class _FiniteCheck:
    """Check that all values are finite, with its result on the way to the host."""

    def __init__(self, values_T: Tensor) -> None:
        finite = values_T.isfinite().all()
        self._event = None
        if finite.device.type == "cuda":
            self._finite = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(finite, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(finite.device))
        else:
            self._finite = finite

    def finite(self) -> bool:
        """Wait for the result, and return it."""
        if self._event is not None:
            self._event.synchronize()
        return bool(self._finite)


@contextmanager
def memory_guard(phase: Phase, batch_size: int | None, *, device: torch.device) -> Iterator[None]:
    """Raise an error that names the batch if an allocation inside the block fails; without a batch, change nothing.

    Raises:
        OutOfMemory: the device's memory, or the host's, was exhausted.

    >>> with memory_guard("training", 512, device=torch.device("cpu")):
    ...     torch.empty(2**62, dtype=torch.uint8)
    Traceback (most recent call last):
    trainables.errors.OutOfMemory: batch_size: 512 images do not fit into the memory of cpu; lower batch_size or \
model.width
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if batch_size is None or not is_exhaustion(error):
            raise
        raise OutOfMemory(phase, batch_size, str(device)) from error


def release_memory(error: BaseException) -> None:
    """Release what the frames of an error hold, and the cache of the GPU, so that other processes can use it."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
