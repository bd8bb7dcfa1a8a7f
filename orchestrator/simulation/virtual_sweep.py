"""Sweep in virtual time: the decisions of a live one, made by the same functions of the same events, without Ray.

A driver's part is done here and nothing else: hand out a free worker, report an epoch, end a trial. What to propose,
stop, pause, promote and when to end is asked of ``decisions``, and every answer is an event that is applied to a sweep
state, as in a live sweep.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Protocol

from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.propose import Proposer
from orchestrator.decisions.rung import decide, stop_at
from orchestrator.decisions.seeds import step_event
from orchestrator.decisions.trial_views import DecisionState, levels_after
from orchestrator.planning.trial_configs import trial_config
from orchestrator.state.events import (
    AttemptStarted,
    EpochReported,
    RungDecided,
    SeedsDropped,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_state import SweepState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.spec.model import Point
    from orchestrator.state.events import Event, Origin, TrialStatus
    from orchestrator.state.sweep_state import Trial


class Run(Protocol):
    """Training of one trial, known beforehand: seconds and gradient evaluations of an epoch, and what it measures."""

    @property
    def seconds(self) -> float:
        """Seconds of an epoch."""

    @property
    def passes(self) -> int:
        """Gradient evaluations of each training example in an epoch."""

    def metrics(self, epoch: int) -> Mapping[str, float | None] | None:
        """Return the metrics of an epoch; None where the trial diverges in it."""


class Runs(Protocol):
    """Source of runs."""

    def run_of(self, trial: Trial) -> Run:
        """Return the run of a trial, a function of its id and its configuration alone."""


class PointProposer(Protocol):
    """Next points of a sweep, as `Proposer` has them."""

    def propose(self) -> tuple[Origin, Point]:
        """Return the origin and the point of the next trial."""

    def next_id(self) -> str:
        """Return the id of the next trial."""


class VirtualSweep:
    """A sweep of ``plan`` on so many workers.

    With ``leaps`` a trial moves to the next epoch at which something may be decided at once, and reports those between
    in the same instant: the same decisions, but for what a sampler sees of trials that are between two rungs.

    ``limit`` is the number of gradient evaluations (of each training example) that may be spent: an epoch, or a leap,
    that it does not pay for is not begun, and the sweep ends when nothing runs any more. ``proposer`` takes the place
    of the sampler of the plan.
    """

    def __init__(
        self,
        plan: SweepPlan,
        runs: Runs,
        *,
        workers: int,
        leaps: bool = True,
        limit: float = float("inf"),
        proposer: Callable[[SweepState], PointProposer] | None = None,
    ) -> None:
        self.state = SweepState()
        self.decisions = DecisionState(plan, self.state)
        self.now = 0.0
        self.epochs_spent = 0
        self.passes_spent = 0
        self.completed: list[tuple[float, int, str]] = []
        """Virtual time, gradient evaluations spent so far, and trial, for each that was trained to its end."""
        searched = self.decisions.searched
        self._proposer = Proposer(plan.spec, searched) if proposer is None else proposer(searched)
        self._runs, self._limit, self._leaps = runs, limit, leaps and _may_leap(plan)
        self._idle, self._count = workers, 0
        self._running: list[tuple[float, int, str, int]] = []
        self._started: dict[str, tuple[object, Run]] = {}
        self._is_spent = False

    @property
    def plan(self) -> SweepPlan:
        """Plan in force."""
        return self.decisions.plan

    def run(self) -> VirtualSweep:
        """Run to the end."""
        self.apply(SweepStarted(time=0.0, generation=1, host="simulated", pid=0))
        self._fill()
        while self._running:
            self.now, _, name, last = heapq.heappop(self._running)
            if not (self._train(self.state.trials[name], last) and self._push(name)):
                self._idle += 1
                self._fill()
        for trial in self.state.with_status("paused"):
            self.apply(TrialEnded(time=self.now, trial=trial.id, status="stopped", rung=trial.stopping_rung))
        return self

    def apply(self, event: Event, *, is_passed: bool = False) -> None:
        """Take one event in, as the store of a live sweep does; of an epoch that a leap passes no view is made."""
        self.state.apply(event)
        if is_passed:
            self.decisions.budget.apply(event)
        else:
            self.decisions.apply(event)

    def _fill(self) -> None:
        """Give each idle worker a trial."""
        while self._idle and not self._is_spent and (name := self._next()) is not None:
            attempt = self.state.trials[name].attempts + 1
            self.apply(AttemptStarted(time=self.now, trial=name, attempt=attempt))
            self._idle -= self._push(name)

    def _next(self) -> str | None:
        """Return the trial that a free worker takes: one that a decision names, else a new one."""
        step = next_step(self.decisions, now=self.now)
        if step is not None:
            event = step_event(self.decisions, step, now=self.now)
            self.apply(event)
            return self._next() if isinstance(event, SeedsDropped) else event.trial
        if not self.decisions.budget.unstarted(now=self.now):
            return None
        origin, point = self._proposer.propose()
        name = self._proposer.next_id()
        config = trial_config(self.plan, name, point)
        self.apply(TrialCreated(time=self.now, trial=name, origin=origin, point=point, config=config))
        return name

    def _push(self, name: str) -> bool:
        """Have a trial train to the next epoch that may decide something; return False if that costs too much."""
        trial, run = self.state.trials[name], self._run_of(name)
        epochs = self._next_epoch(trial, run) - trial.epoch
        if self.passes_spent + epochs * run.passes > self._limit:
            self._is_spent = True
            self.apply(TrialEnded(time=self.now, trial=name, status="interrupted", reason="the limit is spent"))
            return False
        self.epochs_spent += epochs
        self.passes_spent += epochs * run.passes
        self._count += 1
        heapq.heappush(self._running, (self.now + epochs * run.seconds, self._count, name, trial.epoch + epochs))
        return True

    def _run_of(self, name: str) -> Run:
        """Return the run of a trial; another one if its configuration was changed."""
        config = self.state.trials[name].config
        if name not in self._started or self._started[name][0] is not config:
            self._started[name] = (config, self._runs.run_of(self.state.trials[name]))
        return self._started[name][1]

    def _next_epoch(self, trial: Trial, run: Run) -> int:
        """Return the next epoch of a trial; when leaping, the next that diverges, ends the trial, or is compared."""
        if not self._leaps:
            return trial.epoch + 1
        per_epoch = run.passes if self.plan.spec.scheduler.rung_unit == "gradient_evaluations" else 1
        at_rungs = (-(-rung // per_epoch) for rung in self.plan.scheduler.rungs or ())
        last = next((epoch for epoch in at_rungs if epoch > trial.epoch), trial.budget)
        between = range(trial.epoch + 1, min(last, trial.budget))
        return next((epoch for epoch in between if run.metrics(epoch) is None), min(last, trial.budget))

    def _train(self, trial: Trial, last: int) -> bool:
        """Report the epochs of a trial up to one, then decide; return True if the trial continues."""
        run = self._run_of(trial.id)
        for epoch in range(trial.epoch + 1, last + 1):
            metrics = run.metrics(epoch)
            if metrics is None:
                return self._end(trial, "diverged")
            event = EpochReported(
                time=self.now, trial=trial.id, attempt=trial.attempts, epoch=epoch, since_restore=epoch,
                metrics=dict(metrics),
            )  # fmt: skip
            self.apply(event, is_passed=epoch < last)
        if last == trial.budget:
            self.completed.append((self.now, self.passes_spent, trial.id))
            return self._end(trial, "completed")
        return self._continues(trial, last)

    def _continues(self, trial: Trial, epoch: int) -> bool:
        """Decide about a trial after an epoch; return True if it continues."""
        for decided in self._decided(trial, epoch):
            self.apply(RungDecided(time=self.now, **decided))
            if trial.rejected_at is not None:
                return self._end(trial, "paused" if self.plan.pauses else "stopped", rung=trial.rejected_at)
        return True

    def _decided(self, trial: Trial, epoch: int) -> Iterator[dict[str, object]]:
        """Yield the fields of each decision after an epoch, as the scheduler of a live sweep makes them."""
        if (stop := stop_at(self.decisions, trial.id, epoch)) is not None:
            yield stop
            return
        rungs = self.plan.scheduler.rungs
        for level in levels_after(trial, epoch, self.plan):
            if trial.blind_from is not None or (rungs is not None and level not in rungs) or level in trial.rungs:
                continue
            if (fields := decide(self.decisions, trial.id, level)) is not None:
                yield fields

    def _end(self, trial: Trial, status: TrialStatus, *, rung: int | None = None) -> bool:
        self.apply(TrialEnded(time=self.now, trial=trial.id, status=status, rung=rung))
        return False


def _may_leap(plan: SweepPlan) -> bool:
    """Return True if nothing can be decided between two rungs whose epochs are known beforehand."""
    return (
        plan.scheduler.rungs is not None
        and plan.spec.search.seeds == 1
        and plan.spec.scheduler.rung_unit != "gpu_seconds"
    )
