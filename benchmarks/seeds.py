"""Simulated sweeps with noise of seeds: one seed for each configuration against three, at equal epochs.

    python benchmarks/seeds.py --sweeps 300

A sweep has 24 configurations of 27 epochs. What a configuration reaches is 90 % give or take 1 point (standard
deviation); it learns with a time constant of 2 to 6 epochs. A seed shifts what it reaches: by 0.3 points for all
configurations alike, and by --own points for each on its own (0.6 by default). Every value has 0.2 points of noise.

The decisions are those of a real sweep: the functions of `orchestrator/decisions` on an event log in memory. The pick
of a sweep is its best complete configuration. All policies draw the same configurations.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from orchestrator.decisions.promotion import next_step
from orchestrator.decisions.rung import decide, stop_at
from orchestrator.decisions.seeds import step_event
from orchestrator.decisions.trial_views import DecisionState
from orchestrator.planning.loading import parse_spec
from orchestrator.planning.plan import SweepPlan, make_plan
from orchestrator.planning.seeds import configuration_of, seed_index_of, trial_id
from orchestrator.scheduling import racing
from orchestrator.state.events import (
    AttemptStarted,
    EpochReported,
    Event,
    RungDecided,
    SeedsDropped,
    SweepStarted,
    TrialCreated,
    TrialEnded,
)
from orchestrator.state.sweep_folder import SweepFolder
from orchestrator.state.sweep_state import SweepState
from trainables.evaluation.core.intervals import wilson

EPOCHS, POOL, WORKERS = 27, 24, 4
SPEC = """
name: seeds
trial: {{epochs: 27, optimizer.name: sgd}}
space: {{parameters: {{optimizer.lr: {{float: [1.0e-3, 1.0], log: true}}}}}}
search: {{num_trials: {trials}, seeds: {seeds}, sampler: random}}
scheduler: {{{scheduler}}}
"""


@dataclass(frozen=True)
class Policy:
    """One way to spend the epochs of a sweep."""

    name: str
    seeds: int
    scheduler: str
    races: bool = True
    trials: int = POOL


POLICIES = (
    Policy("1 seed, asha at 0.9", 1, "budget_fraction: 0.9"),
    Policy("1 seed, asha at 0.3, 72 configurations", 1, "budget_fraction: 0.3", trials=3 * POOL),
    Policy("3 seeds, asha at 0.3, no racing", 3, "budget_fraction: 0.3", races=False),
    Policy("3 seeds, asha at 0.3, racing", 3, "budget_fraction: 0.3"),
    Policy("1 seed, none", 1, "name: none"),
    Policy("3 seeds, none, no racing", 3, "name: none", races=False),
    Policy("3 seeds, none, racing", 3, "name: none"),
)


class Curves:
    """What every trial of one simulated sweep measures at every epoch.

    Args:
        seed: Seed of the sweep.
        own: Standard deviation of what a seed shifts one configuration by.
        is_paired: All configurations have the same seeds; without several, each trial has one of its own.
    """

    def __init__(self, seed: int, own: float, *, is_paired: bool) -> None:
        self._seed, self._own, self._is_paired = seed, own, is_paired

    def _gauss(self, deviation: float, *path: object) -> float:
        return random.Random("/".join(map(str, (self._seed, *path)))).gauss(0, deviation)

    def quality(self, configuration: str) -> float:
        """Return what a configuration reaches on average over seeds, in points."""
        return 90 + self._gauss(1.0, configuration)

    def value(self, trial: str, epoch: int) -> float:
        """Return what a trial measures after an epoch, in points."""
        configuration, seed = configuration_of(trial), seed_index_of(trial)
        shift = self._gauss(0.3, "all", seed if self._is_paired else trial) + self._gauss(self._own, "own", trial)
        tau = random.Random(f"{self._seed}/tau/{configuration}").uniform(2, 6)
        slow = 20 * math.exp(-epoch / tau)
        return self.quality(configuration) + shift - slow + self._gauss(0.2, "epoch", trial, epoch)


class Run:
    """One sweep in virtual time; trials go from level to level, an epoch takes one second on each of the workers."""

    def __init__(self, plan: SweepPlan, curves: Curves) -> None:
        self.plan, self.curves, self.state = plan, curves, SweepState()
        self.decisions = DecisionState(plan, self.state)
        self._running: list[tuple[float, int, str, int]] = []
        self._count = self.epochs = 0

    def run(self) -> Run:
        """Run to the end."""
        self._log(SweepStarted(time=0.0, generation=1, host="here", pid=1))
        now, idle = 0.0, WORKERS
        while True:
            while idle and (trial := self._next(now)) is not None:
                idle -= 1
                self._log(AttemptStarted(time=now, trial=trial, attempt=self.state.trials[trial].attempts + 1))
                self._push(trial, now)
            if not self._running:
                return self
            now, _, trial, level = heapq.heappop(self._running)
            if self._reach(trial, level, now):
                self._push(trial, now)
            else:
                idle += 1

    def pick(self) -> str:
        """Return the best complete configuration, or trial."""
        best = self.decisions.searched.best(self.plan.spec.objective)
        return "" if best is None else best.id

    def _log(self, event: Event) -> None:
        self.state.apply(event)
        self.decisions.apply(event)

    def _next(self, now: float) -> str | None:
        step = next_step(self.decisions, now=now)
        if step is not None:
            event = step_event(self.decisions, step, now=now)
            self._log(event)
            return self._next(now) if isinstance(event, SeedsDropped) else event.trial
        if not self.decisions.budget.unstarted(now=now):
            return None
        name = trial_id(len(self.decisions.searched.trials))
        config: dict[str, Any] = {"epochs": EPOCHS}
        self._log(TrialCreated(time=now, trial=name, origin="search", point={}, config=config))
        return name

    def _push(self, trial: str, now: float) -> None:
        at = self.state.trials[trial].epoch
        level = next(level for level in (*self.plan.rungs, EPOCHS) if level > at)
        self._count += 1
        self.epochs += level - at
        heapq.heappush(self._running, (now + level - at, self._count, trial, level))

    def _reach(self, trial: str, level: int, now: float) -> bool:
        metrics: dict[str, float | None] = {"val/accuracy": self.curves.value(trial, level)}
        head = {"time": now, "trial": trial, "attempt": self.state.trials[trial].attempts}
        self._log(EpochReported(**head, epoch=level, since_restore=level, metrics=metrics))
        if level == EPOCHS:
            self._log(TrialEnded(time=now, trial=trial, status="completed"))
            return False
        fields = stop_at(self.decisions, trial, level) or decide(self.decisions, trial, level)
        if fields is not None:
            self._log(RungDecided(time=now, **fields))
        rung = self.state.trials[trial].rejected_at
        if rung is not None:
            status = "paused" if self.plan.pauses else "stopped"
            self._log(TrialEnded(time=now, trial=trial, status=status, rung=rung))  # type: ignore[arg-type]
        return rung is None


def plan_of(policy: Policy) -> SweepPlan:
    """Return the plan of a policy's sweeps."""
    text = SPEC.format(trials=policy.trials, seeds=policy.seeds, scheduler=policy.scheduler)
    folder = SweepFolder(Path("results/seeds"))
    return make_plan(parse_spec(text), folder, slots=WORKERS, now=0.0, working_directory=Path.cwd())


def measure(policy: Policy, *, sweeps: int, own: float) -> str:
    """Return a row of the table: epochs, how often the pick is the best of the first 24, and its shortfall."""
    plan, epochs, hits, short = plan_of(policy), list[int](), 0, list[float]()
    racing.CHANCE = 0.05 if policy.races else 0.0
    for seed in range(sweeps):
        curves = Curves(seed, own, is_paired=policy.seeds > 1)
        run = Run(plan, curves).run()
        best = max(map(trial_id, range(POOL)), key=curves.quality)
        pick = configuration_of(run.pick())
        epochs.append(run.epochs)
        hits += pick == best
        short.append(curves.quality(best) - curves.quality(pick))
    low, high = wilson(hits, sweeps)
    half = 1.96 * stdev(short) / math.sqrt(sweeps)
    share = f"{hits / sweeps:.1%} ({low:.1%} to {high:.1%})" if policy.trials == POOL else "-"
    return f"| {policy.name} | {fmean(epochs):.0f} | {share} | {fmean(short):.2f} ± {half:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=300)
    parser.add_argument("--own", type=float, default=0.6)
    arguments = parser.parse_args()
    print(f"{arguments.sweeps} sweeps, a seed shifts a configuration by {arguments.own} points of its own\n")
    print("| policy | epochs | picks the best of 24 | short of it, points |\n|---|---|---|---|")
    for policy in POLICIES:
        print(measure(policy, sweeps=arguments.sweeps, own=arguments.own), flush=True)


if __name__ == "__main__":
    main()
