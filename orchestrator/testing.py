"""Checks for authors of samplers and schedulers, for their own tests.

Each check raises an AssertionError that names the rule, or the error that a sweep would end with.

    from ravel.testing import check_sampler, check_scheduler

    def test_the_sampler_keeps_the_rules_of_a_sweep():
        check_sampler("mine:Sampler", space={"lr": {"float": [0.001, 1.0], "log": True}})
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.propose import Proposer, propose
from orchestrator.scheduling.registry import pauses as promotes
from orchestrator.scheduling.registry import scheduler_of
from orchestrator.scheduling.simulator import simulate
from orchestrator.scheduling.trial_views import TrialView, TrialViews
from orchestrator.simulation.imagined_sweep import curves, events_of
from orchestrator.spec.model import SweepSpec
from orchestrator.state.sweep_state import SweepState
from search_spaces import SearchSpace
from trainables.import_paths import find_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.scheduling.simulator import Outcome
    from orchestrator.state.events import Event

__all__ = ["check_sampler", "check_scheduler"]

RESTARTS = 3
"""Trials from one restart of a sampler to the next."""
SIZES = (1, 2, 7, 40)
"""Numbers of trials of the sweeps on which a scheduler is tried."""


def check_sampler(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    space: SearchSpace | Mapping[str, Any],
    num_trials: int = 25,
    seed: int = 0,
    objective: Any = "val/accuracy max",
) -> list[dict[str, Any]]:
    """Check a sampler, and return the points that it proposed.

    Its arguments fit its signature; every point is in the space and satisfies its constraints; two sweeps of one seed
    have the same points, also if something else draws from Python's and numpy's generators in between; a sampler that
    is restarted from the log after any trial proposes the same next point; and it takes trials that failed, diverged,
    were stopped, are paused or still run.

    Args:
        name: its import path, `module:attribute`, or any other name that `search.sampler` takes.
        arguments: values of its own arguments, by name.
        space: a search space, or the mapping under `space.parameters` of a spec.
        num_trials: the number of trials, the baseline included.
        seed: of the sweep.
        objective: as in a spec; several make a list.

    Raises:
        SpecError, OwnCodeFailed: it cannot be imported or made, raises, or proposes a wrong point.
        AssertionError: it breaks one of the other rules.
    """
    find_in(Path.cwd())
    parameters = space if isinstance(space, SearchSpace) else SearchSpace.from_dict({"parameters": dict(space)})
    search = {"sampler": name, "args": dict(arguments or {}), "num_trials": num_trials, "seed": seed}
    spec = SweepSpec(name="check", space=parameters, search=search, objective=objective)
    points, log = _proposed(spec, noise=1)
    again, _ = _proposed(spec, noise=2)
    if points != again:
        at = next(index for index, pair in enumerate(zip(points, again, strict=True)) if pair[0] != pair[1])
        rule = "draw every number from `seed`, and remember nothing outside the arguments"
        raise AssertionError(
            f"{name}: two sweeps of seed {seed} differ at trial {at}: {points[at]}, {again[at]}; {rule}"
        )
    for index in range(num_trials - 1, 0, -RESTARTS):  # backwards: what is remembered from later trials shows
        restarted = propose(SweepState(log[: _start_of(log, index)]), spec)[1]
        if restarted != points[index]:
            rule = "propose from the arguments alone; what an object or a module remembers is not in the log"
            raise AssertionError(
                f"{name}: restarted before trial {index} it proposes {restarted}, not {points[index]}; {rule}"
            )
    wrong = [problem for point in points[1:] for problem in parameters.problems(point)]
    if wrong:
        raise AssertionError(f"{name}: proposed points outside the space: {'; '.join(wrong[:3])}")
    return points


def _proposed(spec: SweepSpec, *, noise: int) -> tuple[list[dict[str, Any]], list[Event]]:
    """Return the points of an imagined sweep, and its log; global generators are disturbed before each proposal."""
    state, points, log = SweepState(), [], []
    proposer = Proposer(spec, state)
    for index in range(spec.search.num_trials):
        _disturb(f"{noise}/{index}")
        origin, point = proposer.propose()
        points.append(point)
        for event in events_of(spec, index, origin, point, epochs=9, seed=spec.search.seed):
            state.apply(event)
            log.append(event)
    return points, log


def _disturb(seed: str) -> None:
    """Set Python's and numpy's global generators, as any other code of the driver may."""
    import numpy as np  # noqa: PLC0415  for these checks alone

    random.seed(seed)
    np.random.seed(random.getrandbits(31))  # noqa: NPY002  the global one, on purpose


def _start_of(log: Sequence[Event], index: int) -> int:
    created = [number for number, event in enumerate(log) if event.kind == "trial_created"]
    return created[index]


def check_scheduler(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    max_epochs: int = 27,
    objectives: int = 1,
    kind: str = "auto",
    seed: int = 0,
) -> None:
    """Check a scheduler on simulated sweeps of 1 to 40 trials, on 1, 2 and 8 workers.

    Its arguments fit its signature; each simulated sweep ends, and each of its trials is completed, stopped, diverged
    or paused; a trial that is over is never promoted, and the baseline is never stopped; every answer is the same when
    it is asked once more, in reverse order, by a scheduler that was rebuilt, and with the values at its own rungs
    alone, which is all that a live sweep shows it; and it changes no view.

    Args:
        name: its import path, `module:attribute`, or any other name that `scheduler.name` takes.
        arguments: values of its own arguments, by name.
        max_epochs: epochs of a full run.
        objectives: the number of objectives that trials measure.
        kind: as `scheduler.kind`; with `auto` a scheduler that takes `pauses` is checked both ways.
        seed: of the learning curves.

    Raises:
        SpecError, OwnCodeFailed: it cannot be imported or made, raises, or gives an answer that is no decision.
        AssertionError: it breaks one of the other rules.
    """
    find_in(Path.cwd())
    spec = SweepSpec(name="check", scheduler={"name": name, "args": dict(arguments or {}), "kind": kind})
    for pauses in _kinds(spec):
        for num_trials in SIZES:
            for workers in (1, 2, 8):
                sized = spec.model_copy(update={"search": spec.search.model_copy(update={"num_trials": num_trials})})
                asked = _Asked(scheduler_of(sized, pauses=pauses, max_epochs=max_epochs))
                sampled = curves(num_trials, epochs=max_epochs, seed=seed, objectives=objectives)
                outcome = simulate(sampled, asked, workers=workers)
                _check_end(outcome, list(sampled), name, pauses=pauses)
                another = scheduler_of(sized, pauses=pauses, max_epochs=max_epochs)
                _check_repeated(asked, another, name)


def _kinds(spec: SweepSpec) -> Iterator[bool]:
    yield from sorted({promotes(spec, slots=slots) for slots in (1, 64)})


def _check_end(outcome: Outcome, trials: list[str], name: str, *, pauses: bool) -> None:
    if list(outcome.views) != trials:
        raise AssertionError(f"{name}: {len(outcome.views)} of {len(trials)} trials were started")
    running = [view.trial for view in outcome.views.values() if view.state == "running"]
    paused = [view.trial for view in outcome.views.values() if view.state == "paused" and not pauses]
    if running or paused:
        raise AssertionError(f"{name}: the sweep ended, and {', '.join(running + paused)} did not")
    if trials[0] not in outcome.completed_at:
        raise AssertionError(f"{name}: the baseline was stopped at level {outcome.views[trials[0]].level}")


@dataclass
class _Question:
    """One question with a copy of the views; ``level`` is None where a worker was free."""

    views: dict[str, TrialView]
    trial: str
    level: int | None
    unstarted: int
    answer: object

    def ask(self, scheduler: Scheduler, *, rungs: tuple[int, ...] | None) -> object:
        views = TrialViews(_at(view, rungs) for view in self.views.values())
        if self.level is None:
            return scheduler.promote(views, unstarted=self.unstarted)
        return scheduler.decide(views, self.trial, self.level)

    @property
    def about(self) -> str:
        return f"promote one of {len(self.views)}" if self.level is None else f"decide {self.trial} at {self.level}"


def _at(view: TrialView, rungs: tuple[int, ...] | None) -> TrialView:
    """Return a view with the values at rungs alone, as a live sweep shows it."""
    return view if rungs is None else replace(view, values={at: view.values[at] for at in view.values if at in rungs})


@dataclass
class _Asked:
    """A scheduler that keeps its questions and its answers."""

    scheduler: Scheduler
    questions: list[_Question] = field(default_factory=list)

    @property
    def pauses(self) -> bool:
        return self.scheduler.pauses

    @property
    def rungs(self) -> tuple[int, ...] | None:
        return self.scheduler.rungs

    def decide(self, views: TrialViews, trial: str, level: int) -> Any:
        before = dict(views)
        answer = self.scheduler.decide(views, trial, level)
        self._keep(_Question(before, trial, level, 0, answer), views)
        return answer

    def promote(self, views: TrialViews, *, unstarted: int) -> str | None:
        before = dict(views)
        answer = self.scheduler.promote(views, unstarted=unstarted)
        self._keep(_Question(before, "", None, unstarted, answer), views)
        return answer

    def _keep(self, question: _Question, views: TrialViews) -> None:
        if dict(views) != question.views:
            raise AssertionError(f"asked to {question.about}, it changed the views; views are for reading alone")
        self.questions.append(question)


def _check_repeated(asked: _Asked, another: Scheduler, name: str) -> None:
    for question in reversed(asked.questions):
        for scheduler, rungs, how in (
            (asked.scheduler, None, "asked once more"),
            (another, None, "rebuilt"),
            (another, asked.rungs, "shown the values at its rungs alone"),
        ):
            if question.level is not None and rungs is not None and question.level not in rungs:
                continue
            _disturb(question.about)
            if (answer := question.ask(scheduler, rungs=rungs)) != question.answer:
                what = f"asked to {question.about}, it answered {question.answer}; {how}, {answer}"
                raise AssertionError(f"{name}: {what}; decide from the views alone")
