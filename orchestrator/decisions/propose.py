"""Propose the next point: a function of the spec and the sweep state alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.decisions.optuna_study import ask
from orchestrator.planning.points import first_points, grid_points
from orchestrator.planning.seeds import derive_seed, trial_id

if TYPE_CHECKING:
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin
    from orchestrator.state.sweep_state import SweepState
    from search_spaces import SearchSpace


MOST_DRAWS = 100
"""Points of a sequence that are tried for each that keeps the constraints."""


def propose(state: SweepState, spec: SweepSpec) -> tuple[Origin, Point]:
    """The next point: the baseline and the given points first, then what the sampler asks for.

    A function of the spec and the state alone. Where the sampler finds no point that keeps the constraints, one is
    drawn from the space.

    Raises:
        InfeasibleError: drawing found none either.
        MissingExtraError: the sampler needs a library that is not installed.
    """
    index = len(state.trials)
    first = first_points(spec)
    if index < len(first):
        return first[index]
    if spec.search.sampler == "grid":
        return "search", grid_points(spec)[index - len(first)]
    if spec.search.sampler == "qmc":
        return "search", low_discrepancy_point(spec.space, index - len(first), seed=spec.search.seed)
    seed = derive_seed(spec.search.seed, "ask", trial_id(index))
    return "search", ask(state, spec, seed=seed) or spec.space.sample(seed)


def low_discrepancy_point(space: SearchSpace, index: int, *, seed: int) -> Point:
    """The ``index``-th point of a scrambled Sobol sequence (Owen 1998) over the space, a coordinate for each parameter.

    Points that break a constraint are passed over, so that the sequence is the same whoever asks, and when.

    Raises:
        InfeasibleError: none of the points that were tried keeps the constraints, and drawing found none either.
    """
    from scipy.stats import qmc  # type: ignore[import-untyped]  # noqa: PLC0415  with this sampler alone

    sequence, found = qmc.Sobol(len(space.names), scramble=True, rng=seed), -1
    for _ in range((index + 1) * MOST_DRAWS):
        point: Point = {}
        for name, unit in zip(space.names, sequence.random(1)[0], strict=True):
            if name in space.active(point):
                point[name] = space.parameters[name].from_unit(float(unit))
        found += all(law.holds(point) for law in space.constraints)
        if found == index:
            return point
    return space.sample(seed)
