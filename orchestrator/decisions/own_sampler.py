"""A user's own sampler: a function or class that proposes points, or a sampler of Optuna's; each point is checked.

Three forms, recognized by what the code takes:

    def propose(space, trials, index, seed, *, spread: float = 0.1): ...       a function of what it takes of these
    class Sampler:                                                             rebuilt for each point
        def __init__(self, spread: float = 0.1): ...
        def propose(self, space, trials, index, seed): ...
    def sampler(seed, sigma0: float): return optuna.samplers.CmaEsSampler(...)  or a class of Optuna's, by its path

A point is a function of the plan and the log: a sampler gets the trials so far and a seed of its own for each point,
and what an object would remember from one point to the next is gone.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, final

from orchestrator.decisions.optuna_study import OwnSampler, SweepStudy
from orchestrator.decisions.trial_views import values_at
from orchestrator.errors import cut, quoted
from orchestrator.planning.seeds import derive_seed, trial_id
from trainables.import_paths import accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.spec.own_code import OwnCode
    from orchestrator.state.events import Origin
    from orchestrator.state.ranking import Measured
    from orchestrator.state.sweep_state import SweepState, Trial
    from search_spaces import SearchSpace

ASKED = ("space", "trials", "index", "seed")
"""Arguments of a proposal; it gets those that its signature has."""
PLAIN = (bool, int, float, str, type(None))
MAX_PROBLEMS_LENGTH = 220
PastState: TypeAlias = Literal["running", "paused", "completed", "stopped", "diverged", "failed"]
_RUNNING = frozenset({"waiting", "running", "interrupted"})


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A trial of the sweep as a sampler sees it.

    ``point`` holds its searched parameters; a baseline or a given point may be outside the space. ``values`` holds
    every objective by epoch, in order, signed so that higher is better; -inf marks one that is not finite.
    """

    trial: str
    origin: Origin
    point: Mapping[str, Any]
    state: PastState
    values: Mapping[int, Measured]

    @property
    def last(self) -> Measured | None:
        """The objectives at the last epoch, or None before the first.

        >>> PastTrial("t001", "search", {"lr": 0.1}, "paused", {1: (0.5,), 3: (0.7,)}).last
        (0.7,)
        """
        return self.values[max(self.values)] if self.values else None


def own_points(spec: SweepSpec, state: SweepState, code: OwnCode, *, first: int) -> Callable[[int], Point]:
    """Return the function from the index of a trial to the point that a user's sampler proposes.

    Raises:
        SpecError: the sampler cannot be imported, takes no such arguments, or is none.
    """
    ask = _asking(spec, state, code)

    def point(index: int) -> Point:
        name = trial_id(index)
        seed = derive_seed(spec.search.seed, "ask", name)
        with code.running(f"to propose the point of trial {name}"):
            proposed = ask(index - first, seed)
        if problems := _problems(proposed, spec.space):
            listed = cut("; ".join(problems), MAX_PROBLEMS_LENGTH)
            raise code.broken(f"proposed a wrong point for trial {name}: {listed}")
        return dict(cast("Mapping[str, Any]", proposed))

    return point


def _asking(spec: SweepSpec, state: SweepState, code: OwnCode) -> Callable[[int, int], object]:
    """Return the function from an index and a seed to what the user's sampler proposes."""
    target = code.load()
    if hasattr(target, "propose"):
        make, past = code.make({}), PastTrials(spec, state)
        return lambda index, seed: _proposed(make().propose, spec.space, past, index=index, seed=seed)
    if not inspect.isclass(target) and accepted(target, ASKED[:-1]):
        propose, past = code.make({}, later=ASKED), PastTrials(spec, state)
        return lambda index, seed: _proposed(propose, spec.space, past, index=index, seed=seed)
    if not code.takes("seed"):
        forms = "a proposal function takes space, trials or index, a class has a method propose"
        raise code.wrong(f"must take `seed`, from which a sampler of Optuna draws every number; {forms}")
    study = SweepStudy(spec, state, own=OwnSampler(code, code.make({}, later=("seed",))))

    def ask(_: int, seed: int) -> Point:
        return study.ask(seed) or spec.space.sample(seed)

    return ask


def _proposed(propose: Callable[..., object], space: SearchSpace, past: PastTrials, *, index: int, seed: int) -> object:
    available: dict[str, Callable[[], object]] = {
        "space": lambda: space,
        "trials": past.read,
        "index": lambda: index,
        "seed": lambda: seed,
    }
    return propose(**{name: available[name]() for name in accepted(propose, ASKED)})


def _problems(point: object, space: SearchSpace) -> list[str]:
    """Return what is wrong with a proposed point."""
    if not isinstance(point, dict):
        return [f"must be a dict of the active parameters, got {quoted(point)}"]
    unplain = [
        f"{name}: must be a plain number, text or bool, got {type(value).__name__} ({quoted(value)})"
        for name, value in point.items()
        if type(value) not in PLAIN
    ]
    return unplain or space.problems(point)


@final
class PastTrials:
    """Trials of a sweep as its sampler sees them; what changed since the last reading is brought up to date."""

    def __init__(self, spec: SweepSpec, state: SweepState) -> None:
        self._spec, self._state = spec, state
        self._trials: dict[str, PastTrial] = {}
        self._num_read = 0

    def read(self) -> tuple[PastTrial, ...]:
        """Return every trial, in the order they were created."""
        changed = dict.fromkeys(self._state.changes[self._num_read :])
        self._num_read = len(self._state.changes)
        self._trials |= {name: _past(self._state.trials[name], self._spec) for name in changed}
        return tuple(self._trials.values())


def _past(trial: Trial, spec: SweepSpec) -> PastTrial:
    point = {name: value for name, value in trial.point.items() if name in spec.space.parameters}
    values = {epoch: values_at(trial, epoch, spec) for epoch in sorted(trial.epochs)}
    state = "running" if trial.status in _RUNNING else trial.status
    return PastTrial(
        trial.id, trial.origin, MappingProxyType(point), cast("PastState", state), MappingProxyType(values)
    )
