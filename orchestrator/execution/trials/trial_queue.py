"""Queue of a running sweep: propose points and hand trials out, from the plan and the event log alone."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchestrator.decisions.population import may_begin
from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.propose import Proposer
from orchestrator.decisions.retries import is_paused
from orchestrator.decisions.seeds import step_event
from orchestrator.decisions.steps import Descendant, Promotion
from orchestrator.planning.provenance import uses_own_code
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.events import SeedsDropped, TrialCreated
from orchestrator.state.sweep_state import replaced_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.decisions.steps import Step
    from orchestrator.decisions.trial_views import DecisionState
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.event_store import EventStore
    from orchestrator.state.sweep_state import Trial

EXCLUDED_NODES = "ravel.excluded_nodes"


class TrialQueue:
    """Queue of trials: hand out at most ``limit()`` at a time.

    Trials whose attempt broke off come first, unless they pause before their retry, then promoted ones, then new ones.
    While events wait for a full disk, none is handed out.

    Args of note: ``limit`` follows the room for trials; ``device`` overrides the trials' own where it is not null
    (a trial without a GPU must not take one); ``excluded_nodes`` returns Ray's ids of the nodes that a trial must not
    run on; ``storage`` tells workers how to reach S3 if the sweep is kept in it.
    """

    def __init__(
        self,
        decisions: DecisionState,
        store: EventStore,
        *,
        limit: Callable[[], int],
        device: str | None,
        checkpoint_of: Callable[[Trial], str | list[str] | None],
        parent_of: Callable[[Trial], dict[str, Any] | None] = lambda _: None,
        excluded_nodes: Callable[[str], list[str]] = lambda _: [],
        storage: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decisions, self._store, self._clock = decisions, store, clock
        self._proposes_for, self._proposer = self._plan, Proposer(self._plan.spec, decisions.searched)
        self._limit, self._device = limit, device
        self._uses_own_code = uses_own_code(self._plan.spec)
        self._checkpoint_of, self._excluded_nodes, self._storage = checkpoint_of, excluded_nodes, storage
        self._parent_of = parent_of
        self._unfinished = deque(trial.id for trial in store.state.with_status("running", "interrupted", "waiting"))
        self._live: set[str] = set()
        self._nothing_at: int | None = None
        self.is_finished = False
        """True if nothing was left to hand out when it was last asked, and nothing ran."""

    @property
    def num_live(self) -> int:
        """Number of trials that were handed out and are not over."""
        return len(self._live)

    def next_config(self) -> dict[str, Any] | None:
        """Return the whole configuration of the next trial; None while none is to be handed out, or none is left."""
        self.is_finished = False
        if self._store.pending:  # results could not be kept
            self._store.retry()
        if self._store.pending:
            return None
        if len(self._live) >= self._limit():
            return None
        is_unchanged = self._live and self._nothing_at == self._store.state.num_events
        if is_unchanged and not self._unfinished:  # it is asked ten times a second
            return None
        trial = self._next()
        self._nothing_at = self._store.state.num_events if trial is None else None
        # a live trial may still break off, or make room for a paused one
        self.is_finished = trial is None and not self._live and not self._unfinished
        if trial is None:
            return None
        self._live.add(trial.id)
        return {
            **trial.config,
            **({} if self._device is None else {"device": self._device}),
            "ravel.trial": trial.id,
            **({"ravel.working_directory": self._plan.working_directory} if self._uses_own_code else {}),
            "ravel.attempt": trial.attempts + 1,
            "ravel.generation": self._store.state.generation,
            "ravel.checkpoint": self._checkpoint_of(trial),
            **({} if (parent := self._parent_of(trial)) is None else {"ravel.parent": parent}),
            "ravel.checkpoint_epochs": list(self._plan.rungs),
            EXCLUDED_NODES: self._excluded_nodes(trial.id),
            **({} if self._storage is None else {"ravel.storage": self._storage}),
            **({"ravel.system_metrics": True} if self._plan.spec.tracking.system_metrics else {}),
            "ravel.objectives": list(self._plan.spec.objective.metrics),
        }

    def enqueue(self, trial: str) -> None:
        """Put a trial that an order reopened at the end of the queue."""
        if trial not in self._unfinished:
            self._unfinished.append(trial)

    def dequeue(self, trial: str) -> None:
        """Remove a trial from the queue, if it waits there."""
        with suppress(ValueError):
            self._unfinished.remove(trial)

    def over(self, trial: str, *, retry: bool = False) -> None:
        """Free the slot of a trial; ``retry`` puts it back at the head of the queue."""
        self._live.discard(trial)
        if retry:
            self._unfinished.appendleft(trial)

    @property
    def _plan(self) -> SweepPlan:
        """Plan in force: an order may have extended it."""
        return self._decisions.plan

    def _next(self) -> Trial | None:
        state = self._store.state
        now = self._clock()
        ready = next((name for name in self._unfinished if not is_paused(state.trials[name], now=now)), None)
        if ready is not None:
            self._unfinished.remove(ready)
            return state.trials[ready]
        step = next_step(self._decisions, now=now)
        if step is not None:
            return self._take(step, now=now)
        if not self._decisions.budget.unstarted(now=now):
            return None
        if self._proposes_for is not self._plan:
            self._proposes_for, self._proposer = self._plan, Proposer(self._plan.spec, self._decisions.searched)
        origin, point = self._proposer.propose()
        name = self._proposer.next_id()
        config = trial_config(self._plan, name, point)
        self._store.append(TrialCreated(time=now, trial=name, origin=origin, point=point, config=config))
        return state.trials[name]

    def _take(self, step: Step, *, now: float) -> Trial | None:
        """Record a step, and return its trial. One is promoted once it has left its worker: none takes its place."""
        trials = self._store.state.trials
        if isinstance(step, Promotion) and trials[step.trial].status != "paused":
            return None
        if isinstance(step, Descendant) and not may_begin(self._decisions, step):
            return None
        event = step_event(self._decisions, step, now=now)
        self._store.append(event)
        if isinstance(step, Descendant):
            self._store.append(replaced_end(trials[step.descent.replaces], trials[step.trial], now=now))
        return self._next() if isinstance(event, SeedsDropped) else trials[event.trial]
