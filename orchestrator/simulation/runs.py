"""Runs of simulated trials: those of a surrogate, and those that a table recorded."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.planning.seeds import next_trial_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.simulation.objective_value import Value
    from orchestrator.simulation.surrogate import Surrogate
    from orchestrator.simulation.tables import Recorded, Table
    from orchestrator.spec.model import Point, SweepSpec
    from orchestrator.state.events import Origin
    from orchestrator.state.sweep_state import SweepState, Trial

SHARE_OF_POINTS = 0.75
"""Share of the recorded points that one sweep over given points samples."""


@dataclass(frozen=True, slots=True)
class KnownRun:
    """Run of a trial whose metrics are known; it diverges after the last epoch of ``reported`` or of ``epochs``."""

    reported: Mapping[str, Sequence[float]]
    epochs: int
    seconds: float
    passes: int

    def metrics(self, epoch: int) -> dict[str, float | None] | None:
        """Return the metrics of an epoch; None where the trial diverges in it."""
        if epoch > self.epochs:
            return None
        return {name: values[epoch - 1] for name, values in self.reported.items()}


class Truth(Protocol):
    """Source of runs that also knows how good a trial really is."""

    value: Value

    def run_of(self, trial: Trial) -> KnownRun:
        """Return the run of a trial, a function of its id and its configuration alone."""

    def true_final(self, trial: Trial) -> float:
        """Return the final value of a trial without noise, as if it were trained to its end."""

    @property
    def optimum(self) -> float:
        """Best such value of all points."""

    def full_passes(self, trials: int) -> float:
        """Return the gradient evaluations of so many trials that are trained to their ends, on average."""


class SurrogateRuns:
    """Runs of a surrogate; the spec's further objectives are reported as they are."""

    def __init__(self, surrogate: Surrogate, spec: SweepSpec, value: Value) -> None:
        self.value, self._surrogate, self._further = value, surrogate, spec.objective.metrics[1:]

    def run_of(self, trial: Trial) -> KnownRun:
        """Return the run of a trial: noise is a function of its training seed."""
        curve = self._surrogate.curve(trial.config, int(trial.config["seed"]))
        further = {name: curve.measured[name] for name in self._further}
        reported = {self.value.metric: self.value.curve(curve.measured), **further}
        return KnownRun(reported, curve.epochs, curve.seconds, curve.passes)

    def true_final(self, trial: Trial) -> float:
        """Return the noise-free final value of a trial, also of one that diverges."""
        return self.value.final(self._surrogate.true_final(trial.config))

    @property
    def optimum(self) -> float:
        """Best noise-free final value of many points."""
        return self._surrogate.optimum(self.value)

    def full_passes(self, trials: int) -> float:
        """Return the gradient evaluations of so many random points."""
        return trials * self._surrogate.table.epochs * self._surrogate.mean_passes


def num_sampled(table: Table) -> int:
    """Return the number of points of a table that one sweep over given points samples."""
    return max(1, round(SHARE_OF_POINTS * len(table.by_point)))


class RecordedRuns:
    """Three quarters of the points of a table in a random order, each under a random one of its training seeds."""

    def __init__(self, table: Table, value: Value, *, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  no secret
        points = chance.sample(table.by_point, num_sampled(table))
        self.value, self._table = value, table
        self.trials: list[Recorded] = [chance.choice(trials) for trials in points]
        self._recorded: dict[str, Recorded] = {}

    def run_of(self, trial: Trial) -> KnownRun:
        """Return the recorded run of a trial."""
        recorded = self.trials[_number(trial.id)]
        curve = self.value.curve(recorded.curves)
        passes = self._table.passes(recorded.point)
        return KnownRun({self.value.metric: curve}, len(curve), self._table.pass_s * passes, passes)

    def true_final(self, trial: Trial) -> float:
        """Return the recorded final value of a trial; of one that diverged, its last."""
        return self.value.curve(self.trials[_number(trial.id)].curves)[-1]

    @property
    def optimum(self) -> float:
        """Best recorded final value of the sampled points."""
        whole = [trial for trial in self.trials if not trial.diverged]
        return max((self.value.curve(trial.curves)[-1] for trial in whole), key=lambda final: self.value.sign * final)

    def full_passes(self, trials: int) -> float:
        """Return the gradient evaluations of the first so many points, trained to their ends."""
        return sum(self._table.passes(trial.point) for trial in self.trials[:trials]) * self._table.epochs


class GivenPoints:
    """Proposer of recorded points, in order; takes the place of the live one."""

    def __init__(self, trials: Sequence[Recorded], state: SweepState) -> None:
        self._trials, self._state = trials, state

    def propose(self) -> tuple[Origin, Point]:
        """Return the next point."""
        return "search", dict(self._trials[len(self._state.trials)].point)

    def next_id(self) -> str:
        """Return the id of the next trial."""
        count = len(self._state.trials)
        return next_trial_id(self._state.trials, count=count, num_trials=len(self._trials))


def _number(trial: str) -> int:
    return int(trial.removeprefix("t"))
