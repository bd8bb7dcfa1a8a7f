"""Table of learning curves from the log of a finished sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import SpecError
from orchestrator.planning.trial_configs import attack_of
from orchestrator.simulation.tables import LEAST_POINTS, SECONDS, Recorded, Table
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial


def sweep_table(plan: SweepPlan, state: SweepState, metrics: Iterable[str]) -> Table:
    """Return the trials of a sweep that measured ``metrics`` at every epoch to their end, or diverged, as a table.

    Trials that were stopped early have no whole curve, and are left out: those that early stopping rejected are missing
    unless the sweep had none, or was audited.

    Raises:
        SpecError: too few trials have whole curves, or the sweep has trials of several numbers of epochs.
    """
    spec, names = plan.spec, tuple(dict.fromkeys(metrics))
    if "epochs" in spec.space.names:
        remedy = "must be fixed to simulate a sweep, as curves of different lengths cannot predict each other"
        raise SpecError([Problem("space.parameters.epochs", remedy)])
    ended = [trial for trial in state.trials.values() if trial.status == "completed" and trial.epoch == plan.max_epochs]
    whole = [trial for trial in ended if _measured(trial, names) == plan.max_epochs]
    points = {tuple(sorted(trial.point.items(), key=str)) for trial in whole}
    if len(points) < LEAST_POINTS:
        says = _too_few(names, ended=len(ended), whole=len(points), of=len(state.trials))
        raise SpecError([Problem(plan.sweep, says)])
    diverged = [trial for trial in state.trials.values() if trial.status == "diverged" and _measured(trial, names)]
    recorded = (_recorded(trial, names, diverged=trial.status == "diverged") for trial in (*whole, *diverged))
    fixed = {**attack_of(spec), **spec.trial}
    return Table(plan.sweep, spec.space, fixed, tuple(recorded), plan.max_epochs)


def _measured(trial: Trial, metrics: tuple[str, ...]) -> int:
    """Return the number of epochs from the first on in which a trial measured all metrics."""
    count = 0
    while all(trial.epochs.get(count + 1, {}).get(metric) is not None for metric in metrics):
        count += 1
    return count


def _recorded(trial: Trial, metrics: tuple[str, ...], *, diverged: bool) -> Recorded:
    epochs = range(1, _measured(trial, metrics) + 1)
    curves = {metric: tuple(float(trial.epochs[epoch][metric] or 0.0) for epoch in epochs) for metric in metrics}
    curves[SECONDS] = tuple(float(trial.epochs[epoch].get(SECONDS) or 0.0) for epoch in epochs)
    return Recorded(trial.point, int(trial.config["seed"]), curves, diverged=diverged)


def _too_few(metrics: tuple[str, ...], *, ended: int, whole: int, of: int) -> str:
    names = ", ".join(metrics)
    if ended >= LEAST_POINTS:
        remedy = f"list every epoch in trial.evaluation.epochs, so that {names} is measured after each"
    else:
        remedy = "launch one with scheduler.name: none, or with scheduler.audit: 1, which trains rejected trials on"
    return (
        f"must have at least {LEAST_POINTS} points with a whole curve of {names}, got {whole} ({ended} of its {of} "
        f"trials were trained to their end); {remedy}"
    )
