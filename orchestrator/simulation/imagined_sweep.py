"""An imagined sweep, on which a user's own sampler and scheduler are tried out before Ray starts.

Its trials end in every way that a trial may end; their values are random, from a seed.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from orchestrator.decisions.propose import Proposer
from orchestrator.errors import OwnCodeFailed, SpecError
from orchestrator.planning.points import first_points, max_epochs_of
from orchestrator.planning.seeds import trial_id
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.scheduling.registry import scheduler_of
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.state.events import AttemptStarted, EpochReported, TrialCreated, TrialEnded
from orchestrator.state.sweep_state import SweepState
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Event, Origin, TrialStatus

ENDS: tuple[TrialStatus | None, ...] = ("completed", "paused", None, "stopped", "failed", "diverged")
"""Ends of imagined trials, in rotation; None for one that still runs."""
TRIED = 8
"""Trials of an imagined sweep in which a user's code is tried out."""
MAX_EPOCHS = 81
"""Epochs of them at most, so that a check takes no time."""


def events_of(spec: SweepSpec, index: int, origin: Origin, point: Point, *, epochs: int, seed: int) -> Iterator[Event]:
    """Yield the events of one imagined trial: it is created, and has run and ended in the next of the ways."""
    name, rng = trial_id(index), random.Random(f"{seed}/{index}")  # noqa: S311  no secret
    end = ENDS[index % len(ENDS)]
    last = epochs if end == "completed" else 0 if end == "failed" else rng.randint(1, max(1, epochs - 1))
    config = {**point, "epochs": epochs}
    yield TrialCreated(time=0.0, trial=name, origin=origin, point=dict(point), config=config)
    yield AttemptStarted(time=0.0, trial=name, attempt=1)
    for epoch in range(1, last + 1):
        metrics = {metric: rng.random() for metric in spec.objective.metrics}
        yield EpochReported(time=0.0, trial=name, attempt=1, epoch=epoch, since_restore=epoch, metrics=metrics)
    if end is not None:
        yield TrialEnded(time=0.0, trial=name, status=end, rung=last if end in {"paused", "stopped"} else None)


def curves(num_trials: int, *, epochs: int, seed: int, objectives: int = 1) -> dict[str, LearningCurve]:
    """Return random learning curves, the first of a baseline; in larger sweeps some diverge, others tie."""
    rng = random.Random(seed)  # noqa: S311  no secret
    curves_of = {}
    for index in range(num_trials):
        values = [tuple(round(rng.random(), 1 + index % 3) for _ in range(objectives)) for _ in range(epochs)]
        if index % 5 == 4:
            values = [*values[: epochs // 2], (-math.inf,) * objectives]
        seconds = [10 ** rng.uniform(-1, 1)] * epochs
        curves_of[trial_id(index)] = LearningCurve(values, seconds, epochs, exempt=index == 0)
    return curves_of


def decider_problems(spec: SweepSpec) -> list[Problem]:
    """Return what is wrong with a user's own sampler and scheduler, tried out on an imagined sweep."""
    problems: list[Problem] = []
    for code, try_out in ((spec.search.own, _try_sampler), (spec.scheduler.own, _try_scheduler)):
        if code is None:
            continue
        try:
            try_out(spec)
        except SpecError as error:
            problems += error.problems
        except OwnCodeFailed as error:
            problems.append(Problem(error.place, f"{error.message}, in a sweep imagined to check it; mend it"))
    return problems


def _try_sampler(spec: SweepSpec) -> None:
    first, state = first_points(spec), SweepState()
    proposer = Proposer(spec, state)
    for index in range(min(len(first) + TRIED, max(spec.search.num_trials, len(first) + 1))):
        origin, point = first[index] if index < len(first) else proposer.propose()
        for event in events_of(spec, index, origin, point, epochs=min(MAX_EPOCHS, max_epochs_of(spec)), seed=0):
            state.apply(event)


def _try_scheduler(spec: SweepSpec) -> None:
    epochs = max_epochs_of(spec)
    for pauses in {promotes(spec, slots=slots) for slots in (1, 64)}:
        scheduler = scheduler_of(spec, pauses=pauses, max_epochs=epochs)
        sampled = curves(min(TRIED, spec.search.num_trials), epochs=epochs, seed=0, objectives=len(spec.objective.all))
        simulate(sampled, scheduler, workers=2, leaps=True)
