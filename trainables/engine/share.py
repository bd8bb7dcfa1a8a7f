"""Share of a batch that one process of a trial trains: rank r of N has the r-th of N equal, contiguous parts."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["WHOLE", "Share"]


@dataclass(frozen=True, slots=True)
class Share:
    """Rank of a process among those that train one trial, `world_size` of them.

    Raises:
        ValueError: no process, or a rank beyond them.

    >>> import torch
    >>> Share(1, 2).rows(torch.arange(6))
    tensor([3, 4, 5])
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank: must be >= 0 and < world_size ({self.world_size}), got {self.rank}")

    def rows(self, x_B: Tensor) -> Tensor:
        """Return this process's part of a batch (B, ...), a view; all of it where the process is the only one."""
        if self.world_size == 1:
            return x_B
        size = len(x_B) // self.world_size
        return x_B[self.rank * size : (self.rank + 1) * size]


WHOLE = Share()
"""Share of a process that trains alone."""
