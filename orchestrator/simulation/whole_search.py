"""Simulated sweeps and their outcomes: whole searches on a surrogate, and given points of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.planning.plan import make_plan
from orchestrator.planning.provenance import Provenance
from orchestrator.simulation.objective_value import Value
from orchestrator.simulation.runs import GivenPoints, RecordedRuns, SurrogateRuns
from orchestrator.simulation.virtual_sweep import VirtualSweep
from orchestrator.spec.model import SweepSpec
from orchestrator.state.sweep_folder import SweepFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.simulation.runs import Truth
    from orchestrator.simulation.surrogate import Surrogate
    from orchestrator.simulation.tables import Table
    from orchestrator.state.sweep_state import SweepState

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
    """A simulated sweep.

    ``regret`` is by how much the true final value of the trial that the sweep reports as its best, chosen by what it
    measured, falls short of the optimum. ``epochs`` and ``passes`` (gradient evaluations of each training example) are
    what all trials cost, ``full_epochs`` and ``full_passes`` what as many trials cost if all are trained to their ends.
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
    """Run one whole search of a spec on a surrogate.

    Args:
        spec: a sweep of the table's space; see `spec_for`.
        surrogate: the truth, and the noise.
        objective: the value that trials report as the spec's objective; ``a+b`` is the mean of two metrics.
        workers: trials that run at a time.
        seed: of the search, instead of the spec's.
        limit: gradient evaluations (of each training example) that the search may spend.
        leaps: see `VirtualSweep`.

    Raises:
        SpecError: a user's own sampler or scheduler cannot be imported, or is none.
        OwnCodeFailed: it raises, or gives an answer that breaks a rule.
    """
    spec = spec if seed is None else with_seed(spec, seed)
    value = Value((spec.objective.metric,), spec.objective.mode) if objective is None else Value.of(objective)
    runs = SurrogateRuns(surrogate, spec, value)
    sweep = VirtualSweep(imagined_plan(spec, workers=workers), runs, workers=workers, leaps=leaps, limit=limit).run()
    return outcome_of(sweep, runs)


def given_points(spec: SweepSpec, table: Table, value: Value, *, workers: int, seed: int) -> Outcome:
    """Run the recorded points of a table in a random order: only the scheduler of a spec is tested."""
    runs = RecordedRuns(table, value, seed=seed)
    chosen = spec.search.model_copy(update={"num_trials": len(runs.trials), "seed": seed})
    plan = imagined_plan(spec.model_copy(update={"search": chosen}), workers=workers)
    sweep = VirtualSweep(plan, runs, workers=workers, proposer=lambda state: GivenPoints(runs.trials, state)).run()
    return outcome_of(sweep, runs)


def spec_for(table: Table, objective: str, **sections: Mapping[str, object]) -> SweepSpec:
    """Return the spec of a sweep of a table's space; ``sections`` as in YAML: ``search``, ``scheduler`` and so on."""
    value = Value.of(objective)
    fixed = {name: setting for name, setting in table.fixed.items() if name != "evaluation.epochs"}
    trial, reported = {**fixed, "epochs": table.epochs}, f"{value.metric} {value.mode}"
    return SweepSpec(name="simulated", trial=trial, space=table.space, objective=reported, **sections)


def with_seed(spec: SweepSpec, seed: int) -> SweepSpec:
    """Return the spec with another seed of the search."""
    return spec.model_copy(update={"search": spec.search.model_copy(update={"seed": seed})})


def imagined_plan(spec: SweepSpec, *, workers: int) -> SweepPlan:
    """Return the plan of a sweep that is never launched."""
    folder, here = SweepFolder(Path("simulated")), Path.cwd()
    return make_plan(spec, folder, slots=workers, now=0.0, working_directory=here, provenance=NO_PROVENANCE)


def outcome_of(sweep: VirtualSweep, runs: Truth) -> Outcome:
    """Return the outcome of a simulated sweep."""
    state, objective, sign = sweep.state, sweep.plan.spec.objective, runs.value.sign
    best = state.best(objective)
    true = -sign * math.inf if best is None else runs.true_final(best)
    completed = tuple(
        Completed(at, passes, name, state.trials[name].score(objective) or 0.0, runs.true_final(state.trials[name]))
        for at, passes, name in sweep.completed
    )
    count = len(sweep.decisions.searched.trials)
    return Outcome(
        best="" if best is None else best.id,
        measured=math.nan if best is None else best.score(objective) or 0.0,
        true=true,
        optimum=runs.optimum,
        regret=sign * (runs.optimum - true),
        found_at_s=next((at for at, _, name in sweep.completed if best is not None and name == best.id), math.inf),
        ended_at_s=sweep.now,
        epochs=sweep.epochs_spent,
        passes=sweep.passes_spent,
        full_epochs=count * sweep.plan.max_epochs,
        full_passes=runs.full_passes(count),
        completed=completed,
        state=state,
    )
