"""Share of a batch that one process of a trial trains: rank r of N has the r-th of N equal, contiguous parts.

The loss of a step is the mean of the losses of the processes, and its gradient the mean of theirs. So what a process
computes from the whole batch (`Share.whole`) counts once, and what it computes from its own rows counts as part of a
mean over the batch. The gradient of `whole` is the sum of the gradients of all processes, of which each gets its rows.

Shapes: B images of a batch, S of one share.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainables.engine.process_group import communicating

__all__ = ["WHOLE", "Share"]


@dataclass(frozen=True, slots=True)
class Share:
    """Rank of a process among those that train one trial, `world_size` of them.

    All processes call `whole`, `means` and `copy_from_first` in the same order; they communicate by the process group
    of `trainables.engine.process_group`. A process that is alone needs none, and gets back what it gives.

    Raises:
        ValueError: no process, or a rank beyond them.

    >>> Share(1, 2).rows(torch.arange(6))
    tensor([3, 4, 5])
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank: must be >= 0 and < world_size ({self.world_size}), got {self.rank}")

    @property
    def numbers(self) -> tuple[int, int]:
        """Rank and number of processes."""
        return self.rank, self.world_size

    @property
    def is_whole(self) -> bool:
        """True if the process trains alone."""
        return self.world_size == 1

    def rows(self, x_B: Tensor) -> Tensor:
        """Return this process's part of a batch (B, ...): a view (S, ...); all of it where the process is alone."""
        if self.is_whole:
            return x_B
        size = len(x_B) // self.world_size
        return x_B[self.rank * size : (self.rank + 1) * size]

    def whole(self, x_S: Tensor) -> Tensor:
        """Return the batch (B, ...) of which each process has its part (S, ...); differentiable, any number of times.

        Raises:
            PeerLost: another process does not answer.
        """
        return x_S if self.is_whole else _Whole.apply(x_S, self)  # type: ignore[no-untyped-call]

    def means(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean of each tensor over the processes, in one message; the shapes are those of all processes.

        Raises:
            PeerLost: another process does not answer.
        """
        if self.is_whole:
            return list(tensors)
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with communicating():
            dist.all_reduce(flat)
        parts = flat.div_(self.world_size).split([tensor.numel() for tensor in tensors])  # type: ignore[no-untyped-call]
        return [part.view(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]

    @torch.no_grad()
    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace the values of the tensors by those of rank 0.

        Raises:
            PeerLost: another process does not answer.
        """
        if self.is_whole:
            return
        for tensor in tensors:
            values = tensor.detach().contiguous()
            with communicating():
                dist.broadcast(values, src=0)
            tensor.copy_(values)


class _Whole(torch.autograd.Function):
    """Rows of all processes; the gradient is that of `_Rows`."""

    @staticmethod
    def forward(ctx: Any, x_S: Tensor, share: Share) -> Tensor:
        ctx.share, x_S = share, x_S.contiguous()
        parts = [torch.empty_like(x_S) for _ in range(share.world_size)]
        with communicating():
            dist.all_gather(parts, x_S)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        (slope_B,) = slopes
        return _Rows.apply(slope_B, ctx.share), None  # type: ignore[no-untyped-call]


class _Rows(torch.autograd.Function):
    """Sum over the processes, of which each gets its rows; the gradient is that of `_Whole`."""

    @staticmethod
    def forward(ctx: Any, x_B: Tensor, share: Share) -> Tensor:
        ctx.share = share
        total_B = x_B.clone(memory_format=torch.contiguous_format)
        with communicating():
            dist.all_reduce(total_B)
        return share.rows(total_B).clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        (slope_S,) = slopes
        return _Whole.apply(slope_S, ctx.share), None  # type: ignore[no-untyped-call]


WHOLE = Share()
"""Share of a process that trains alone."""
