"""Points that run before the sampler proposes any: the baseline and the given points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.spec.baseline import baseline_of, complete
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin


def first_points(spec: SweepSpec) -> list[tuple[Origin, Point]]:
    """Return the points that run before the sampler proposes any: the baseline, then those of ``search.points``."""
    space, task = spec.space, task_of(spec.trial)
    points: list[tuple[Origin, Point]] = [("point", complete(space, point, task=task)) for point in spec.search.points]
    return [("baseline", baseline_of(spec)), *points]


def max_epochs_of(spec: SweepSpec) -> int:
    """Return the epochs of a full run: the most that any trial may have."""
    return max(int(str(value)) for value in epochs_of(spec))


def epochs_of(spec: SweepSpec) -> list[Any]:
    """Return the epochs that trials may have at most, valid or not; a value of null is the default."""
    default = task_of(spec.trial).defaults["epochs"]
    domain = spec.space.parameters.get("epochs")
    values = [spec.trial.get("epochs")]
    if domain is not None:
        values = [*getattr(domain, "options", ()), domain.from_unit(1.0)]
    return [default if value is None else value for value in values]


def num_trials(spec: SweepSpec) -> str:
    """Return the number of trials of a sweep in words.

    >>> from orchestrator.spec.model import SweepSpec
    >>> num_trials(SweepSpec(name="a")), num_trials(SweepSpec(name="a", search={"num_trials": 24, "seeds": 3}))
    ('32 trials', '24 configurations of up to 3 seeds')
    """
    search = spec.search
    if search.seeds == 1:
        return f"{search.num_trials} trials"
    return f"{search.num_trials} configurations of up to {search.seeds} seeds"
