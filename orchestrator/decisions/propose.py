"""Propose the next point of a sweep: a function of its spec and its state alone."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, final

from orchestrator.decisions.optuna_study import SweepStudy, random_point
from orchestrator.decisions.own_sampler import own_points
from orchestrator.decisions.screened_search.sampler import ScreenedSearch
from orchestrator.decisions.sequences import GridPoints, SobolPoints
from orchestrator.planning.points import first_points
from orchestrator.planning.seeds import derive_seed, next_trial_id, trial_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin
    from orchestrator.state.sweep_state import SweepState


def propose(state: SweepState, spec: SweepSpec) -> tuple[Origin, Point]:
    """Return the next point of a sweep, computed from zero; a driver keeps a `Proposer`, which returns the same.

    Raises:
        InfeasibleError: no point satisfies the constraints, of all that were tried.
        MissingExtraError: the sampler needs a library that is not installed.
        SpecError: a user's own sampler cannot be imported, or is none.
        OwnCodeFailed: it raises, or proposes a wrong point.
    """
    return Proposer(spec, state).propose()


@final
class Proposer:
    """Next points of one running sweep: the baseline and the given points first, then those of the sampler.

    A point is a function of the spec and the state alone. What this object keeps from one proposal to the next (the
    first points, a place in the grid or the sequence, Optuna's view of the trials) saves time and decides nothing.
    Where the sampler proposes no point that satisfies the constraints, one is sampled from the space.
    """

    def __init__(self, spec: SweepSpec, state: SweepState) -> None:
        self._spec, self._state, self._first = spec, state, first_points(spec)
        self._point_of = _sampler(spec, state, first=len(self._first))

    def propose(self) -> tuple[Origin, Point]:
        """Return the origin and the point of the trial to be created next; see `propose` for the errors."""
        index, first = len(self._state.trials), self._state.num_given
        origin, point = self._first[first] if first < len(self._first) else ("search", self._point_of(index))
        return origin, dict(point)  # the caller's own: a point may be returned twice

    def next_id(self) -> str:
        """Return the id of the trial to be created next."""
        trials = self._state.trials
        return next_trial_id(trials, count=len(trials), num_trials=self._spec.search.num_trials)

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune pickles its searcher into a file that is never read; the event log has it all."""
        return {}


def _sampler(spec: SweepSpec, state: SweepState, *, first: int) -> Callable[[int], Point]:
    """Return the function from the index of a trial to its point; ``first`` points come before the sampler's."""
    search, space = spec.search, spec.space
    if search.own is not None:
        return own_points(spec, state, search.own, first=first)
    match search.sampler:
        case "auto":
            return _seeded(spec, ScreenedSearch(spec, state).ask)
        case "grid":
            grid = GridPoints(space, search.resolution)
            return lru_cache(maxsize=1)(lambda index: grid.point(index - first))
        case "qmc":
            sequence = SobolPoints(space, seed=search.seed)
            return lru_cache(maxsize=1)(lambda index: sequence.point(index - first))
        case "random":
            return _seeded(spec, partial(random_point, space))
        case _:
            return _seeded(spec, SweepStudy(spec, state).ask)


def _seeded(spec: SweepSpec, ask: Callable[[int], Point | None]) -> Callable[[int], Point]:
    """Return the same for a sampler that is asked with a seed, each trial with its own."""

    def point(index: int) -> Point:
        seed = derive_seed(spec.search.seed, "ask", trial_id(index))
        return ask(seed) or spec.space.sample(seed)

    return point
