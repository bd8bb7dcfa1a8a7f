"""Cost of an epoch of the trials that a spec leads to, in passes: gradient evaluations for each image."""

from __future__ import annotations

from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.spec.model import SweepSpec
from trainables.errors import ConfigError
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from orchestrator.spec.model import Point

SAMPLES, CORNERS = 64, 256
"""Points of a spec that was not validated in this process; its validation tries more."""
NUM_SAMPLED, SAMPLED_SEED = 1024, 274528185
"""Random points, of whose passes the mean is taken: a budget of gradient evaluations follows from it."""


class Passes(NamedTuple):
    """Fewest and most passes of an epoch."""

    least: int
    most: int


def passes_of(spec: SweepSpec) -> Passes:
    """Return the fewest and the most passes of an epoch, over the points that the validation of a spec tried.

    These are its first points, the corners of its space and samples of it. A spec that was not validated has some.

    >>> from search_spaces import Choice, SearchSpace
    >>> trial = {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd"}
    >>> space = SearchSpace({"adversarial.steps": Choice([1, 7])})
    >>> passes_of(SweepSpec(name="a", trial=trial, space=space))
    Passes(least=2, most=8)
    """
    checked = spec.checked
    if checked is None:
        return _of_samples(_of_any_seed(spec).canonical())
    task = task_of(spec.trial)
    costs = [task.passes(config) for _, config in checked.trials]
    return Passes(min(costs, default=1), max(costs, default=1))


@lru_cache(maxsize=64)
def _of_samples(canonical: str) -> Passes:
    spec = SweepSpec.model_validate_json(canonical)
    points = [*spec.search.points, *spec.space.corners()[:CORNERS], *spec.space.sample_many(SAMPLES, seed=0)]
    costs = []
    for point in points:
        try:
            costs.append(_cost(spec, point))
        except ConfigError:  # reported when the spec is validated
            continue
    return Passes(min(costs, default=1), max(costs, default=1))


def mean_passes_of(spec: SweepSpec) -> float:
    """Return the mean passes of an epoch over random points of a space: what a point costs that nothing has chosen.

    >>> from search_spaces import Choice, SearchSpace
    >>> trial = {"adversarial.epsilon": 0.1, "adversarial.attack": "pgd"}
    >>> space = SearchSpace({"adversarial.steps": Choice([1, 3])})
    >>> round(mean_passes_of(SweepSpec(name="a", trial=trial, space=space)))
    3
    """
    return _mean_of_samples(_of_any_seed(spec).canonical())


@lru_cache(maxsize=64)
def _mean_of_samples(canonical: str) -> float:
    spec = SweepSpec.model_validate_json(canonical)
    return fmean(passes_of_point(spec, point) for point in spec.space.sample_many(NUM_SAMPLED, seed=SAMPLED_SEED))


def _of_any_seed(spec: SweepSpec) -> SweepSpec:
    """Return a spec that is the same for all seeds of a search, on which no cost depends."""
    return spec.model_copy(update={"search": spec.search.model_copy(update={"seed": 0})})


def passes_of_point(spec: SweepSpec, point: Point) -> int:
    """Return the passes of an epoch of a point; 1 for one that is no configuration of the task.

    >>> trial = {"adversarial.attack": "pgd", "adversarial.steps": 7}
    >>> passes_of_point(SweepSpec(name="a", trial=trial), {"adversarial.epsilon": 0.1})
    8
    """
    try:
        return _cost(spec, point)
    except ConfigError:
        return 1


def _cost(spec: SweepSpec, point: Point) -> int:
    return task_of(spec.trial).passes_per_epoch({**spec.trial, **point})
