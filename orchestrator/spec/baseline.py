"""Baseline of a sweep: the point at which everything that is searched for its own sake is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.spec.model import Point, SweepSpec
    from search_spaces import SearchSpace
    from trainables.tasks.registry import Task


def baseline_of(spec: SweepSpec) -> Point:
    """Return the baseline's point: each strength is 0, unless all trials share another value of it."""
    space = spec.space
    off = {name: 0.0 for name in strengths_of(spec) if name not in spec.trial}  # a value that all trials share stays
    values = {**spec.search.baseline, **{name: 0.0 for name in off if name in space.names}}
    return {**complete(space, values, task=task_of(spec.trial)), **off}


def complete(space: SearchSpace, values: Mapping[str, Any], *, task: Task) -> Point:
    """Return a whole point: a missing value is the default of the trial, or the middle of its domain."""
    return space.complete(values, {**dict.fromkeys(task.strengths_of(space.names), 0.0), **task.defaults})


def strengths_of(spec: SweepSpec) -> tuple[str, ...]:
    """Return the parameters that are 0 in the baseline: those of the task, and those of the spec's regularizers."""
    return task_of(spec.trial).strengths_of({**spec.trial, **dict.fromkeys(spec.space.names)})
