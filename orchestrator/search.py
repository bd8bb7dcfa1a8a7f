"""Who proposes points: stateless. Each ask rebuilds an in-memory Optuna study from the history.

A trial stopped early is told as PRUNED with every value it reported, a diverged or failed one as FAIL, one still
running as RUNNING: TPE's constant liar keeps it from being proposed twice. A proposal that breaks a constraint of the
space is never launched: the sampler is told so and asked again.
"""

from __future__ import annotations

import time
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ray.tune.search import Searcher

from orchestrator.events import TrialCreated
from orchestrator.plan import derive_seed, first_points, is_spent, trial_config, trial_id
from search_spaces.optuna_adapter import suggest, to_optuna

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import optuna

    from orchestrator.events import Origin
    from orchestrator.history import SweepHistory, Trial
    from orchestrator.journal import Journal
    from orchestrator.plan import SweepPlan
    from orchestrator.spec import Point, SweepSpec
    from search_spaces import SearchSpace

# How often the sampler is asked before a point is drawn without it. TPE that is told what breaks a constraint keeps
# most constraints at the first few asks; this many cost it a tenth of a second.
MOST_ASKS = 20

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = MappingProxyType({"max": "maximize", "min": "minimize"})


def study_of(history: SweepHistory, spec: SweepSpec, *, seed: int) -> optuna.Study:
    """The Optuna study that a history amounts to; trials outside the space (a baseline may be) are left out."""
    import optuna  # noqa: PLC0415  costs a second: only a driver pays it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler: optuna.samplers.BaseSampler
    if spec.search.sampler == "random":
        sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
        sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler, direction=DIRECTIONS[spec.objective.mode])
    study.add_trials([_told(trial, spec) for trial in history.trials.values() if spec.space.contains(trial.point)])
    return study


def _told(trial: Trial, spec: SweepSpec) -> optuna.trial.FrozenTrial:
    import optuna  # noqa: PLC0415

    states = optuna.trial.TrialState
    state = {
        "completed": states.COMPLETE,
        "stopped": states.PRUNED,
        "diverged": states.FAIL,
        "failed": states.FAIL,
    }.get(trial.status, states.RUNNING)
    score = trial.score(spec.objective)
    if state == states.COMPLETE and score is None:  # a full run that never measured the objective
        state = states.FAIL
    params, distributions = to_optuna(spec.space, trial.point)
    return optuna.trial.create_trial(
        state=state,
        value=score if state == states.COMPLETE else None,
        params=params,
        distributions=distributions,
        intermediate_values=trial.values(spec.objective.metric),
        user_attrs={"trial": trial.id},
    )


def propose(history: SweepHistory, spec: SweepSpec) -> tuple[Origin, Point]:
    """The next point: the baseline and the given points first, then what the sampler asks for.

    A function of the spec and the history alone. Where the sampler finds no point that keeps the constraints, one is
    drawn from the space.

    Raises:
        InfeasibleError: drawing found none either.
    """
    index = len(history.trials)
    first = first_points(spec)
    if index < len(first):
        return first[index]
    seed = derive_seed(spec.search.seed, "ask", trial_id(index))
    return "search", _asked(study_of(history, spec, seed=seed), spec.space) or spec.space.sample(seed)


def _asked(study: optuna.Study, space: SearchSpace) -> Point | None:
    """What the sampler proposes; none where all that it proposes breaks a constraint."""
    import optuna  # noqa: PLC0415

    for _ in range(MOST_ASKS if space.constraints else 1):
        trial = study.ask()
        try:
            return suggest(trial, space)
        except optuna.TrialPruned:
            # PRUNED without a value ranks last, so that TPE models what to keep away from; it takes no note of FAIL.
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return None


class LogSearcher(Searcher):
    """Tune's door to ``propose``: hands out interrupted trials first, then new ones, at most ``limit`` at a time.

    Args of note: ``device`` overrides the trials' own where it is not null (a trial without a GPU must not take one).
    """

    def __init__(
        self,
        plan: SweepPlan,
        journal: Journal,
        *,
        limit: int,
        device: str | None,
        checkpoint_of: Callable[[Trial], str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._plan, self._journal, self._clock = plan, journal, clock
        self._limit, self._device = limit, device
        self._checkpoint_of = checkpoint_of
        self._unfinished = deque(trial.id for trial in journal.history.with_status("running", "interrupted", "waiting"))
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # noqa: ARG002  Tune's id; ours is in the config
        """The whole configuration of the next trial, ``FINISHED``, or None while every slot is taken."""
        if len(self._live) >= self._limit:
            return None
        trial = self._next()
        if trial is None:  # a live trial may still break off and be tried again
            return None if self._live else str(Searcher.FINISHED)
        self._live.add(trial.id)
        return {
            **trial.config,
            **({} if self._device is None else {"device": self._device}),
            "ravel.trial": trial.id,
            "ravel.attempt": trial.attempts + 1,
            "ravel.checkpoint": self._checkpoint_of(trial),
            "ravel.checkpoint_epochs": list(self._plan.rungs),
            "ravel.objectives": [self._plan.spec.objective.metric],
        }

    def over(self, trial: str, *, again: bool = False) -> None:
        """A trial has left its slot; ``again`` puts it back at the head of the queue."""
        self._live.discard(trial)
        if again:
            self._unfinished.appendleft(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002  Tune's signature
        """Nothing to learn here: the history is told by the recorder."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the event log is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the event log is the state."""

    def _next(self) -> Trial | None:
        history = self._journal.history
        if self._journal.pending:  # what is measured now could not be kept
            return None
        if self._unfinished:
            return history.trials[self._unfinished.popleft()]
        if len(history.trials) >= self._plan.spec.search.num_trials or is_spent(self._plan, history, now=self._clock()):
            return None
        origin, point = propose(history, self._plan.spec)
        name = trial_id(len(history.trials))
        config = trial_config(self._plan, name, point)
        self._journal.append(TrialCreated(time=self._clock(), trial=name, origin=origin, point=point, config=config))
        return history.trials[name]
