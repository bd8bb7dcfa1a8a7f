"""Points that run before the sampler proposes any: the baseline and the given points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin
    from search_spaces import SearchSpace
    from trainables.tasks.registry import Task


def first_points(spec: SweepSpec) -> list[tuple[Origin, Point]]:
    """Return the points that run before the sampler proposes any: the baseline, then those of ``search.points``."""
    space, task = spec.space, task_of(spec.trial)
    off = {name: 0.0 for name in task.strengths if name not in spec.trial}  # a value that all trials share stays
    baseline: Point = {**complete(space, {name: 0.0 for name in off if name in space.names}, task=task), **off}
    points: list[tuple[Origin, Point]] = [("point", complete(space, point, task=task)) for point in spec.search.points]
    return [("baseline", baseline), *points]


def complete(space: SearchSpace, values: Mapping[str, Any], *, task: Task) -> Point:
    """Return a whole point: a missing value is the default of the trial, or the middle of its domain."""
    return space.complete(values, task.defaults)


def max_epochs_of(spec: SweepSpec) -> int:
    """Return the epochs of a full run: the most that any trial may have."""
    if "epochs" in spec.space.names:
        domain = spec.space.parameters["epochs"]
        return max(int(str(value)) for value in (*getattr(domain, "options", ()), domain.from_unit(1.0)))
    return int(spec.trial.get("epochs", task_of(spec.trial).defaults["epochs"]))
