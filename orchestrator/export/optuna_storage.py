"""Sweep as an Optuna study in a SQLite file, which ``optuna.load_study`` and optuna-dashboard open.

A trial is COMPLETE, with a value, only where values may be compared: after its full budget, or with ``--epoch N`` if it
measured epoch N. So ``study.best_trial`` never compares a trial at epoch 3 with one at epoch 27. A trial that was
stopped or is paused at a rung is PRUNED without a value; what it measured are its intermediate values, by epoch.
Diverged and failed trials are FAIL, those that run or were interrupted RUNNING, and those without a worker WAITING.

In a sweep with several seeds a trial of the study is a configuration, and its values are means over its seeds.

The number of a trial is its place in the log. Its params are those that Optuna's samplers see (see
``search_spaces.adapters.optuna``): ``<name>.gate`` of a parameter that may be off, a signed-log coordinate, the index
of an ordered choice. The values as the trial had them are user attributes.
"""

from __future__ import annotations

import json
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.export.history import ConfigurationHistory
from orchestrator.export.libraries import library
from orchestrator.export.tables import EPOCH_S, GPU_S
from search_spaces import SearchSpace, SpaceError
from search_spaces.adapters.optuna import to_optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from orchestrator.export.history import SweepHistory, TrialHistory

DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}
STATES = {
    "completed": "COMPLETE",
    "stopped": "PRUNED",
    "paused": "PRUNED",
    "diverged": "FAIL",
    "failed": "FAIL",
    "running": "RUNNING",
    "interrupted": "RUNNING",
    "waiting": "WAITING",
}
"""State of a trial in Optuna, by its status, where trials are compared at their last epoch."""


def study_file(history: SweepHistory) -> bytes:
    """Return the content of a SQLite file with the study, whose name is the sweep's id.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    optuna = library("optuna", extra="optuna")
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # names of metrics
            return _database(history)
    finally:
        optuna.logging.set_verbosity(verbosity)


def frozen_trials(history: SweepHistory) -> list[FrozenTrial]:
    """Return the trials of the study in the order of the log; with several seeds, the configurations."""
    return [_frozen(entry, history) for entry in history.configurations]


def state_of(entry: TrialHistory, history: SweepHistory) -> str:
    """Return the name of a trial's state in Optuna.

    With ``--epoch`` a trial that measured all objectives there is COMPLETE, however it ended; a full run that measured
    them not at all is FAIL.
    """
    state = STATES[entry.trial.status]
    if _values(entry, history) is None:
        return ("FAIL" if history.epoch is None else "PRUNED") if state == "COMPLETE" else state
    return state if history.epoch is None else "COMPLETE"


def _database(history: SweepHistory) -> bytes:
    """Return the database of the study, which is built in memory: a file would be flushed for each trial."""
    import optuna  # noqa: PLC0415  an optional library

    objective = history.plan.spec.objective
    storage = optuna.storages.RDBStorage("sqlite:///:memory:")
    try:
        study = optuna.create_study(
            study_name=history.plan.sweep, storage=storage, directions=[DIRECTIONS[mode] for mode in objective.modes]
        )
        study.set_metric_names(list(objective.metrics))
        for name, value in _study_attributes(history).items():
            study.set_user_attr(name, value)
        study.add_trials(frozen_trials(history))
        storage.remove_session()
        connection: Any = storage.engine.raw_connection().driver_connection  # of the module sqlite3
        content: bytes = connection.serialize()
    finally:
        storage.remove_session()
        storage.engine.dispose()
    return content


def _study_attributes(history: SweepHistory) -> dict[str, Any]:
    plan = history.plan
    return {
        "sweep": plan.sweep,
        "spec_fingerprint": plan.fingerprint,
        "objective": [f"{item.metric} {item.mode}" for item in plan.spec.objective.all],
        "compared_at": "the last epoch of a full run" if history.epoch is None else f"epoch {history.epoch}",
    }


def _frozen(entry: TrialHistory, history: SweepHistory) -> FrozenTrial:
    import optuna  # noqa: PLC0415

    objective, state = history.plan.spec.objective, state_of(entry, history)
    params, distributions, outside = _params(entry.trial.point, history.plan.spec.space)
    frozen = optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        values=_values(entry, history) if state == "COMPLETE" else None,
        params=params,
        distributions=distributions,
        intermediate_values=None if objective.others else entry.trial.values(objective.metric),
        user_attrs=_attributes(entry, history, outside=outside),
    )
    if state != "WAITING":
        frozen.datetime_start = _local(entry.started_at or entry.created_at)
    if frozen.state.is_finished():
        # A trial that is paused at a rung ends with its sweep, long after it left its worker.
        times = (entry.ended_at, entry.reported_at) if state != "PRUNED" else (entry.reported_at, entry.ended_at)
        frozen.datetime_complete = _local(times[0] or times[1] or entry.created_at)
    return frozen


def _values(entry: TrialHistory, history: SweepHistory) -> list[float] | None:
    """Return every objective at the epoch of the comparison; None where one is missing."""
    scores = [entry.score(item, history.epoch) for item in history.plan.spec.objective.all]
    values = [score for score in scores if score is not None]
    return values if len(values) == len(scores) else None


def _params(point: dict[str, Any], space: SearchSpace) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return params and distributions of a point, and the parameters that are outside what was searched.

    A baseline may be outside, where a method is never off; then each parameter that is inside is converted alone.
    """
    searched = {name: value for name, value in point.items() if name in space.parameters}
    beyond = sorted(point.keys() - searched.keys())
    try:
        return *to_optuna(space, searched), beyond
    except SpaceError:
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        for name, value in searched.items():
            domain = space.parameters[name]
            if domain.contains(value):
                of_one, distribution = to_optuna(SearchSpace({name: domain}), {name: value})
                params |= of_one
                distributions |= distribution
            else:
                beyond.append(name)
        return params, distributions, beyond


def _attributes(entry: TrialHistory, history: SweepHistory, *, outside: list[str]) -> dict[str, Any]:
    """Return user attributes of a trial: all that Optuna has no place for, without what is not known."""
    trial, objective = entry.trial, history.plan.spec.objective
    attributes = {
        "trial": trial.id,
        "status": trial.status,
        "origin": trial.origin,
        "point": json.dumps(trial.point, ensure_ascii=False),
        "outside_the_space": ", ".join(outside) or None,
        **_seeds(entry),
        "epoch": trial.epoch,
        "objective_epoch": entry.epoch_of(objective, history.epoch),
        "rung": trial.stopping_rung,
        "attempts": trial.attempts,
        "training_s": entry.total(EPOCH_S),
        "gpu_s": entry.total(GPU_S),
        "cause": entry.cause,
        "reason": entry.reason,
        **{f"metrics.{name}": value for name, value in entry.metrics(history.epoch).items()},
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _local(seconds: float) -> datetime:
    """Return a time as Optuna has it: local, without its zone."""
    return datetime.fromtimestamp(seconds)  # noqa: DTZ006  as datetime.now() of Optuna


def _seeds(entry: TrialHistory) -> dict[str, Any]:
    if not isinstance(entry, ConfigurationHistory):
        return {"seed": entry.trial.config.get("seed")}
    return {"trials": [seed.trial.id for seed in entry.seeds]}
