"""CPU time of a driver's decisions by the size of the sweep: at a rung, on a promotion, on the next point.

    python benchmarks/decisions.py                                      two minutes: up to 2,400 trials
    python benchmarks/decisions.py --trials 50 800 2400 20000           ten minutes

Each row is measured on the last events of a recorded sweep of so many trials. ``driver`` adds up, for one new trial,
what the driver itself costs: one decision at a rung, one promotion, one proposal without the time the sampler of Optuna
takes for itself, and the events between them. ``rebuilt`` is the same with all views rebuilt and all of them read at
each decision, as it was before the fold. At last, the cost of one trial of a simulated sweep.

Prediction, written before the first run: the driver's own part at 20,000 trials is at most 3 times that at 50, as a
decision reads a place in a sorted list; rebuilt, it grows in proportion, 400 times. Result on two busy cores: 1.1 to
1.6 times (0.4 to 1.7 ms at 20,000, of TPE without its own 270 ms); rebuilt, 70 to 260 ms at 2,400 already, 160 to 370
times as much. A simulated trial costs 0.05 to 0.14 ms, 1.2 to 1.3 times as much among 20,000 as among 1,000.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import runpy
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from orchestrator.decisions import propose as proposals
from orchestrator.decisions.promotion import next_promotion
from orchestrator.decisions.rung import decide
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import make_plan
from orchestrator.planning.seeds import trial_id
from orchestrator.planning.trial_configs import trial_config
from orchestrator.scheduling.asha import Asha
from orchestrator.scheduling.budgeted.rung_schedule import RungSchedule
from orchestrator.scheduling.budgeted.scheduler import BudgetedAsha
from orchestrator.scheduling.simulator import LearningCurve, simulate
from orchestrator.state.events import (
    AttemptStarted,
    EpochReported,
    RungDecided,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialPromoted,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.scheduling.protocol import Scheduler
    from orchestrator.state.events import Event
    from orchestrator.state.sweep_state import Trial

SPEC = """
name: decisions
trial: {epochs: 27, optimizer.name: sgd}
space:
  use: [mixup]
  parameters: {optimizer.lr: {float: [1.0e-3, 1.0], log: true}}
search: {num_trials: 8, sampler: SAMPLER}
scheduler: {grace_period: 1, kind: KIND}
"""
WORKERS, EPOCHS, RUNGS, FACTOR = 8, 27, (1, 3, 9), 3
TRIALS = (50, 800, 2_400)
SIMULATED = (1_000, 20_000)
FIRST_TRIALS, LAST_TRIALS = 8, 32
"""Trials at the end of each sweep: some that are not measured, so that all is built that is built once, then some that
are, or fewer if that takes longer than ``MOST_S``."""
MOST_S = 5.0
CASES = (("random", "promotion"), ("random", "stopping"), ("tpe", "promotion"), ("tpe", "stopping"))
SAMPLER_METHODS = (
    "infer_relative_search_space",
    "sample_relative",
    "sample_independent",
    "before_trial",
    "after_trial",
)
NAIVE = Path(__file__).parents[1] / "tests" / "orchestrator" / "naive_schedulers.py"


class Fold:
    """The driver as it is: a fold that each event keeps in step."""

    def __init__(self, plan: SweepPlan, state: SweepState) -> None:
        self.decisions = DecisionState(plan, state)
        self._propose = _proposer(plan, state)

    def apply(self, event: Event) -> None:
        """Take one event in."""
        self.decisions.state.apply(event)
        self.decisions.apply(event)

    def decide(self, trial: str, rung: int) -> object:
        """Decide at a rung."""
        return decide(self.decisions, trial, rung)

    def promote(self, now: float) -> object:
        """Choose the trial to promote."""
        return next_promotion(self.decisions, now=now)

    def propose(self) -> object:
        """Propose the next point."""
        return self._propose()


class Rebuilt:
    """The driver as it was: all views rebuilt at each decision, by schedulers that read all of them."""

    def __init__(self, plan: SweepPlan, state: SweepState) -> None:
        self._plan, self._state = plan, state
        self._naive = SimpleNamespace(**runpy.run_path(str(NAIVE)))

    def apply(self, event: Event) -> None:
        """Take one event in."""
        self._state.apply(event)

    def decide(self, trial: str, rung: int) -> object:
        """Decide at a rung."""
        views = dict(DecisionState(self._plan, self._state).views)
        return self._naive.decide(self._plan.scheduler, views, trial, rung)

    def promote(self, now: float) -> object:
        """Choose the trial to promote."""
        if not self._plan.pauses:
            return None
        decisions = DecisionState(self._plan, self._state)
        unstarted = decisions.budget.unstarted(now=now)
        return self._naive.promote(self._plan.scheduler, dict(decisions.views), unstarted=unstarted)

    def propose(self) -> object:
        """Propose the next point."""
        return proposals.propose(self._state, self._plan.spec)


def _proposer(plan: SweepPlan, state: SweepState) -> Callable[[], object]:
    """Return the driver's proposals: those of one object for the whole sweep, where this version has that."""
    if hasattr(proposals, "Proposer"):
        proposer: Callable[[], object] = proposals.Proposer(plan.spec, state).propose
        return proposer
    return lambda: proposals.propose(state, plan.spec)


@dataclass
class Stopwatch:
    """CPU seconds by what they were spent on."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def time(self, name: str, call: Callable[..., object], *arguments: Any) -> Any:
        """Call, and count the time."""
        started = time.process_time()
        try:
            return call(*arguments)
        finally:
            self.seconds[name] += time.process_time() - started
            self.counts[name] += 1

    def mean(self, name: str) -> float:
        """Return the mean of all calls, in seconds."""
        return self.seconds[name] / max(1, self.counts[name])


@dataclass(frozen=True)
class Row:
    """Mean CPU seconds on one sweep; ``events`` are those of one new trial."""

    events: float
    rung: float
    promotion: float
    proposal: float
    sampler: float

    @property
    def driver(self) -> float:
        """All but the sampler."""
        return self.events + self.rung + self.promotion + self.proposal - self.sampler


def plan_of(sampler: str, kind: str, trials: int) -> SweepPlan:
    """Make the plan of a sweep of so many trials."""
    spec = parse_spec(SPEC.replace("SAMPLER", sampler).replace("KIND", kind))
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"num_trials": trials})})
    folder = SweepFolder(Path("results") / "decisions")
    return make_plan(spec, folder, slots=WORKERS, now=0.0, working_directory=Path())


def record(plan: SweepPlan) -> list[Event]:
    """Return the events of a sweep up to the creation of its last trial, on random curves and points."""
    return list(_events(plan))


def _events(plan: SweepPlan) -> Iterator[Event]:
    chance, state = random.Random(0), SweepState()
    decisions = DecisionState(plan, state)
    running: list[tuple[float, str]] = []

    def take(event: Event) -> Event:
        state.apply(event)
        decisions.apply(event)
        return event

    def next_trial(now: float) -> TrialCreated | TrialPromoted:
        promotion = next_promotion(decisions, now=now)
        if promotion is not None:
            return TrialPromoted(time=now, trial=promotion.trial, rung=promotion.rung)
        name, point = trial_id(len(state.trials)), plan.spec.space.sample(len(state.trials))
        config = trial_config(plan, name, point)
        return TrialCreated(time=now, trial=name, origin="search", point=point, config=config)

    yield take(SweepStarted(time=0.0, generation=1, host="here", pid=1))
    now = 0.0
    while len(state.trials) < plan.spec.search.num_trials:
        if len(running) < WORKERS:
            chosen = next_trial(now)
            yield take(chosen)
            yield take(AttemptStarted(time=now, trial=chosen.trial, attempt=state.trials[chosen.trial].attempts + 1))
            heapq.heappush(running, (now + chance.random(), chosen.trial))
            continue
        now, name = heapq.heappop(running)
        yield take(_epoch(state.trials[name], now, chance))
        for event in _end_of(decisions, state.trials[name], now):
            yield take(event)
        if state.trials[name].end is None:
            heapq.heappush(running, (now + chance.random(), name))


def _epoch(trial: Trial, now: float, chance: random.Random) -> EpochReported:
    epoch = trial.epoch + 1
    accuracy = (1 - math.exp(-epoch / 9)) * (1 - abs(math.log10(trial.point["optimizer.lr"] / 0.03)) / 2)
    metrics: dict[str, float | None] = {"val/accuracy": accuracy + chance.gauss(0, 0.02), "time/epoch_s": 1.0}
    return EpochReported(
        time=now, trial=trial.id, attempt=trial.attempts, epoch=epoch, since_restore=epoch, metrics=metrics
    )


def _end_of(decisions: DecisionState, trial: Trial, now: float) -> Iterator[Event]:
    """Yield the decision after an epoch, and the end of the trial where it has one."""
    if trial.epoch == EPOCHS:
        yield TrialEnded(time=now, trial=trial.id, status="completed")
    elif trial.epoch in decisions.plan.rungs and (decided := decide(decisions, trial.id, trial.epoch)) is not None:
        yield RungDecided(time=now, **decided)
        if trial.rejected_at is not None:
            status = "paused" if decisions.plan.pauses else "stopped"
            yield TrialEnded(time=now, trial=trial.id, status=status, rung=trial.rejected_at)  # type: ignore[arg-type]


def measure(plan: SweepPlan, events: list[Event], driver: type[Fold | Rebuilt]) -> Row:
    """Return the mean costs on the last trials of a recorded sweep."""
    created = [index for index, event in enumerate(events) if isinstance(event, TrialCreated)]
    first, start = created[-FIRST_TRIALS - LAST_TRIALS], created[-LAST_TRIALS]
    made, watch = driver(plan, SweepState(events[:first])), Stopwatch()
    for event in events[first:start]:
        if isinstance(made, Fold):
            _decide(made, event, Stopwatch())
        made.apply(event)
    with_sampler = _timed_sampler(plan, watch)
    until, last = time.process_time() + MOST_S, 0
    for event in events[start:]:
        if time.process_time() > until and watch.counts["proposal"] and watch.counts["rung"]:
            break
        _decide(made, event, watch)
        watch.time("event", made.apply, event)
        last += isinstance(event, TrialCreated)
    with_sampler()
    return Row(
        events=watch.seconds["event"] / max(1, last),
        rung=watch.mean("rung"),
        promotion=watch.mean("promotion"),
        proposal=watch.mean("proposal"),
        sampler=watch.seconds["sampler"] / max(1, watch.counts["proposal"]),
    )


def _decide(made: Fold | Rebuilt, event: Event, watch: Stopwatch) -> None:
    match event:
        case RungDecided():
            watch.time("rung", made.decide, event.trial, event.rung)
        case TrialPromoted():
            watch.time("promotion", made.promote, event.time)
        case TrialCreated():
            watch.time("promotion", made.promote, event.time)
            watch.time("proposal", made.propose)
        case _:
            pass


def _timed_sampler(plan: SweepPlan, watch: Stopwatch) -> Callable[[], None]:
    """Count the time in the methods of Optuna's sampler; returns a function that undoes that."""
    import optuna  # noqa: PLC0415  costs a second

    samplers: dict[str, Any] = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    sampler = samplers[plan.spec.search.sampler]
    before = {name: getattr(sampler, name) for name in SAMPLER_METHODS}

    def timed(method: Callable[..., object]) -> Callable[..., object]:
        return lambda *arguments: watch.time("sampler", method, *arguments)

    for name, method in before.items():
        setattr(sampler, name, timed(method))

    def undo() -> None:
        for name, method in before.items():
            setattr(sampler, name, method)

    return undo


def simulated(kind: str, trials: int) -> float:
    """Return the CPU seconds of each trial of a simulated sweep."""
    chance = random.Random(0)
    curves = {
        f"t{index:05}": LearningCurve(
            [(chance.random(),) for _ in range(EPOCHS)], [chance.random() for _ in range(EPOCHS)]
        )
        for index in range(trials)
    }
    schedulers: dict[str, Callable[[], Scheduler]] = {
        "stopping": lambda: Asha((RUNGS,), FACTOR),
        "promotion": lambda: Asha((RUNGS,), FACTOR, pauses=True),
        "budgeted": lambda: BudgetedAsha(RungSchedule.within(0.3, num_trials=trials, maximum=EPOCHS)),
    }
    scheduler = schedulers[kind]()
    started = time.process_time()
    simulate(curves, scheduler, workers=WORKERS)
    return (time.process_time() - started) / trials


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS)
    parser.add_argument("--simulated", type=int, nargs="+", default=SIMULATED)
    parser.add_argument("--rebuilt", type=int, default=TRIALS[-1], help="largest sweep measured rebuilt as well")
    arguments = parser.parse_args()
    print("CPU time in ms          trials |  events    rung  promotion  proposal | sampler  driver | rebuilt   ratio")
    for sampler, kind in CASES:
        drivers = [_print_row(sampler, kind, trials, arguments.rebuilt) for trials in arguments.trials]
        print(f"  {sampler}, {kind}: driver at {arguments.trials[-1]:,} / at {arguments.trials[0]:,}:"
              f" {drivers[-1] / drivers[0]:.2f}")  # fmt: skip
    print("\nsimulated, CPU time of a trial in ms")
    for kind in ("stopping", "promotion", "budgeted"):
        costs = [simulated(kind, trials) for trials in arguments.simulated]
        cells = ", ".join(f"{n:,}: {1e3 * cost:.3f}" for n, cost in zip(arguments.simulated, costs, strict=True))
        print(f"  {kind:10} {cells}, ratio {costs[-1] / costs[0]:.2f}")


def _print_row(sampler: str, kind: str, trials: int, most_rebuilt: int) -> float:
    plan = plan_of(sampler, kind, trials)
    events = record(plan)
    now = measure(plan, events, Fold)
    cells = (now.events, now.rung, now.promotion, now.proposal, now.sampler, now.driver)
    shown = [f"{1e3 * cell:8.3f}" for cell in cells]
    line = f"{sampler:6} {kind:10} {trials:12,} |{shown[0]}{shown[1]}   {shown[2]}  {shown[3]} |{shown[4]}{shown[5]}"
    if trials <= most_rebuilt:
        before = measure(plan, events, Rebuilt)
        line += f" |{1e3 * before.driver:8.1f}{before.driver / now.driver:7.0f}x"
    print(line, flush=True)
    return now.driver


if __name__ == "__main__":
    main()
