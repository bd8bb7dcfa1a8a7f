"""Trials of a worker: how many train as one program, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from orchestrator.spec.model import Resources


class BatchChoice(BaseModel):
    """Trials of a worker that ``resources.batch: auto`` chose at the launch, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    reason: str


def batch_line(resources: Resources, choice: BatchChoice | None) -> str | None:
    """Return how many trials of a worker train as one program, in words; None if each trains by itself, as usual.

    >>> from orchestrator.spec.model import Resources
    >>> batch_line(Resources(batch=8), None), batch_line(Resources(), None)
    ('up to 8 trials of a worker train as one program', None)
    """
    if choice is not None:
        return choice.reason
    size = batch_of(resources, choice)
    return f"up to {size} trials of a worker train as one program" if size > 1 else None


def batch_of(resources: Resources, choice: BatchChoice | None) -> int:
    """Return the trials of a worker: those that the spec names, or that ``auto`` chose."""
    if choice is not None:
        return choice.size
    return 1 if resources.batch == "auto" else resources.batch


def trials_at_once(workers: int, batch: int, resources: Resources) -> int:
    """Return the trials at a time of so many workers."""
    return min(workers * batch, resources.max_concurrent or workers * batch)
