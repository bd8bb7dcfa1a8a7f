"""Whole search on a surrogate: points are proposed, trials trained, stopped and promoted, as a live sweep would."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.planning.plan import make_plan
from orchestrator.planning.provenance import Provenance
from orchestrator.simulation.virtual_sweep import VirtualSweep
from orchestrator.spec.model import SweepSpec
from orchestrator.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.simulation.surrogate import Surrogate, TrialCurve
    from orchestrator.simulation.tables import Table
    from orchestrator.state.sweep_state import SweepState, Trial

MEAN = "+"
"""An objective ``a+b`` is the mean of two metrics; trials report it under the name of the first."""
NO_PROVENANCE = Provenance(git_commit=None, git_dirty=False, python="", libraries={})


@dataclass(frozen=True, slots=True)
class Completed:
    """One trial that was trained to its end: when, after how many gradient evaluations, measured and true value."""

    at_s: float
    passes: int
    trial: str
    measured: float
    true: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole simulated search.

    ``regret`` is by how much the noise-free final value of the trial that the sweep reports as its best falls short of
    the optimum, both of the surrogate. ``epochs`` and ``passes`` (gradient evaluations of each training example) are
    what all trials cost, and ``full_passes`` what as many trials trained to their ends cost on average.
    """

    best: str
    measured: float
    true: float
    optimum: float
    regret: float
    found_at_s: float
    """Virtual time at which the best trial was trained to its end; infinite if it never was."""
    ended_at_s: float
    epochs: int
    passes: int
    full_epochs: int
    full_passes: float
    completed: tuple[Completed, ...]
    state: SweepState = field(compare=False, repr=False)

    @property
    def share(self) -> float:
        """Gradient evaluations spent, as a share of training as many trials to their ends."""
        return self.passes / self.full_passes


def search(
    spec: SweepSpec,
    surrogate: Surrogate,
    *,
    objective: str | None = None,
    workers: int = 8,
    seed: int | None = None,
    limit: float = math.inf,
    leaps: bool = True,
) -> Outcome:
    """Run one search of a spec on a surrogate.

    Args:
        spec: a sweep of the table's space; see `spec_for`.
        surrogate: the truth, and the noise.
        objective: the metric that trials report under the name of the spec's objective; ``a+b`` is a mean.
        workers: trials that run at a time.
        seed: of the search, instead of the spec's.
        limit: gradient evaluations (of each training example) that may be spent; the search ends there.
        leaps: see `VirtualSweep`.
    """
    if seed is not None:
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"seed": seed})})
    plan = make_plan(
        spec, SweepFolder(Path("simulated")), slots=workers, now=0.0, working_directory=Path.cwd(),
        provenance=NO_PROVENANCE,
    )  # fmt: skip
    runs = SurrogateRuns(surrogate, spec, objective or spec.objective.metric)
    sweep = VirtualSweep(plan, runs, workers=workers, leaps=leaps, limit=limit).run()
    return _outcome(sweep, runs, surrogate)


def spec_for(table: Table, objective: str, **sections: Mapping[str, object]) -> SweepSpec:
    """Return the spec of a sweep of a table's space; ``sections`` as in YAML: ``search``, ``scheduler`` and so on."""
    fixed = {name: value for name, value in table.fixed.items() if name != "evaluation.epochs"}
    trial = {**fixed, "epochs": table.epochs}
    return SweepSpec(
        name="simulated", trial=trial, space=table.space, objective=objective.partition(MEAN)[0], **sections
    )


@dataclass(frozen=True, slots=True)
class SurrogateRun:
    """Run of a trial whose curve is a surrogate's."""

    curve: TrialCurve
    reported: Mapping[str, Sequence[float]]

    @property
    def seconds(self) -> float:
        """Seconds of an epoch."""
        return self.curve.seconds

    @property
    def passes(self) -> int:
        """Gradient evaluations of each training example in an epoch."""
        return self.curve.passes

    def metrics(self, epoch: int) -> dict[str, float | None] | None:
        """Return the metrics of an epoch; None where the trial diverges in it."""
        if epoch > self.curve.epochs:
            return None
        return {name: values[epoch - 1] for name, values in self.reported.items()}


class SurrogateRuns:
    """Runs of a surrogate, for a spec that may report a mean of metrics."""

    def __init__(self, surrogate: Surrogate, spec: SweepSpec, objective: str) -> None:
        self._surrogate, self._parts = surrogate, objective.split(MEAN)
        self._first, self._all = spec.objective.metric, spec.objective.metrics
        self.sign = 1.0 if spec.objective.mode == "max" else -1.0

    def run_of(self, trial: Trial) -> SurrogateRun:
        """Return the run of a trial: noise is a function of its training seed."""
        curve = self._surrogate.curve(trial.config, int(trial.config["seed"]))
        mean = [
            sum(values) / len(values) for values in zip(*(curve.measured[part] for part in self._parts), strict=True)
        ]
        return SurrogateRun(curve, {**{name: curve.measured[name] for name in self._all}, self._first: mean})

    def true_final(self, trial: Trial) -> float:
        """Return the noise-free final value of a trial's objective, that of a trial which diverges included."""
        true = self._surrogate.curve(trial.config, int(trial.config["seed"])).true
        return sum(true[part][-1] for part in self._parts) / len(self._parts)

    @property
    def optimum(self) -> float:
        """Best noise-free final value of the surrogate."""
        values = (sum(candidate[part] for part in self._parts) for candidate in self._surrogate.candidates)
        return self.sign * max(self.sign * value for value in values) / len(self._parts)


def _outcome(sweep: VirtualSweep, runs: SurrogateRuns, surrogate: Surrogate) -> Outcome:
    state, objective = sweep.state, sweep.plan.spec.objective
    best = state.best(objective)
    true = -runs.sign * math.inf if best is None else runs.true_final(best)
    completed = tuple(
        Completed(at, passes, name, state.trials[name].score(objective) or 0.0, runs.true_final(state.trials[name]))
        for at, passes, name in sweep.completed
    )
    full_epochs = len(state.trials) * surrogate.table.epochs
    return Outcome(
        best="" if best is None else best.id,
        measured=math.nan if best is None else best.score(objective) or 0.0,
        true=true,
        optimum=runs.optimum,
        regret=runs.sign * (runs.optimum - true),
        found_at_s=next((each.at_s for each in completed if best is not None and each.trial == best.id), math.inf),
        ended_at_s=sweep.now,
        epochs=sweep.epochs_spent,
        passes=sweep.passes_spent,
        full_epochs=full_epochs,
        full_passes=full_epochs * surrogate.mean_passes,
        completed=completed,
        state=state,
    )
