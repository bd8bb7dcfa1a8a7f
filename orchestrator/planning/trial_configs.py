"""Flat configuration of one trial: fixed parameters, its point, its seed, and the epochs to measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.planning.folders import located
from orchestrator.planning.seeds import trial_seed
from orchestrator.spec.baseline import strengths_of
from trainables.tasks.registry import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.spec.model import Point, SweepSpec


def trial_config(plan: SweepPlan, trial: str, point: Mapping[str, Any]) -> Point:
    """Return the whole flat configuration of a trial: fixed parameters, point, seed, and epochs to measure."""
    spec, task = plan.spec, task_of(plan.spec.trial)
    config: Point = {
        "seed": trial_seed(spec.search.seed, trial, seeds=spec.search.seeds),
        **attack_of(spec),
        **spec.trial,
        **dict.fromkeys(strengths_of(spec), 0.0),
        **{name: spec.trial[name] for name in strengths_of(spec) if name in spec.trial},
        **point,
    }
    for name, value in {"epochs": plan.max_epochs, **attack_of(spec)}.items():
        if config.get(name) is None:  # blank in the spec, or not in it
            config[name] = value
    if "evaluation.epochs" in task.parameter_names:  # a task without it measures everything after each epoch
        measured = compared_epochs(plan, config["epochs"])
        config["evaluation.epochs"] = sorted({*measured, *(config.get("evaluation.epochs") or ())})
    return located(config, Path(plan.working_directory))


def attack_of(spec: SweepSpec) -> Point:
    """Return the strength of the attack that every trial is measured under, if its task has attacks."""
    name = "evaluation.robust_epsilon"
    return {name: spec.evaluation.robust_epsilon} if name in task_of(spec.trial).parameter_names else {}


def compared_epochs(plan: SweepPlan, epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a trial may be compared, and so must have measured its objectives."""
    if plan.spec.scheduler.rung_unit == "epochs" and plan.scheduler.rungs is not None:
        return plan.rungs
    return tuple(range(1, epochs + 1))
