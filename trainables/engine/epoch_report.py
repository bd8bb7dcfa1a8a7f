"""Report of one epoch, as every task makes it."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["EpochReport"]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Metrics of one epoch, under the names of `trainables.metrics`; epochs count from 1."""

    epoch: int
    metrics: Mapping[str, float]
