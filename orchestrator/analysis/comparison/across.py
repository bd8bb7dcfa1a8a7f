"""Trials of several sweeps at one epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.analysis.comparison.comparison import Comparison, compare
from orchestrator.analysis.comparison.epochs import comparable_epochs
from orchestrator.errors import OrchestratorError
from trainables.config.sections import DataConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState

OF_IMAGES = ("data.name", "data.image_size")
"""Settings that select the validation images, with a user's own ``data.args``."""


def compare_across(sweeps: Sequence[tuple[SweepPlan, SweepState]], *, epoch: int | None = None) -> Comparison:
    """Compare the trials of several sweeps at one epoch; they are named SWEEP/TRIAL, and none is the baseline of all.

    Args:
        sweeps: Plan and state of each sweep.
        epoch: Epoch at which trials are compared; by default the highest that enough trials of every sweep measured.

    Raises:
        OrchestratorError: the objectives differ, or a sweep has no value at that epoch.
    """
    objectives = {(plan.spec.objective.metric, plan.spec.objective.mode) for plan, _ in sweeps}
    if len(objectives) > 1:
        listed = ", ".join(f"{metric} ({mode})" for metric, mode in sorted(objectives))
        raise OrchestratorError(f"objective: must be the same in all sweeps to compare their trials, got {listed}")
    chosen = common_epoch(sweeps) if epoch is None else epoch
    parts = {plan.sweep: compare(plan, state, epoch=chosen) for plan, state in sweeps}
    values = {f"{sweep}/{trial}": value for sweep, part in parts.items() for trial, value in part.values.items()}
    ((metric, mode),) = objectives
    sign = -1.0 if mode == "max" else 1.0
    images = {part.images for part in parts.values()}
    is_same_data = len(_data(sweeps)) == 1
    return Comparison(
        metric=metric,
        mode=mode,
        epoch=chosen,
        values={name: values[name] for name in sorted(values, key=lambda name: (sign * values[name], name))},
        greyed=tuple(f"{sweep}/{trial}" for sweep, part in parts.items() for trial in part.greyed),
        baseline=None,
        images=images.pop() if len(images) == 1 and is_same_data else None,
        no_images="" if is_same_data else "the sweeps have different validation images",
    )


def common_epoch(sweeps: Sequence[tuple[SweepPlan, SweepState]]) -> int:
    """Return the highest epoch that enough trials of every sweep measured, see ``comparable_epochs``.

    Raises:
        OrchestratorError: no epoch is common to all.
    """
    sets = {plan.sweep: set(comparable_epochs(plan, state)) for plan, state in sweeps}
    common = set.intersection(*sets.values())
    if not common:
        most = ", ".join(f"{sweep} to epoch {max(epochs)}" for sweep, epochs in sets.items())
        raise OrchestratorError(f"no epoch was measured by enough trials of every sweep ({most}); choose --epoch")
    return max(common)


def differences(sweeps: Sequence[tuple[SweepPlan, SweepState]]) -> list[str]:
    """Return, a line each, how sweeps differ in what makes values comparable: their data, and their full budgets."""
    lines = []
    if len(_data(sweeps)) > 1:
        lines.append("the sweeps have different validation images: their values differ for that reason, too")
    budgets = {plan.sweep: plan.max_epochs for plan, _ in sweeps}
    if len(set(budgets.values())) > 1:
        listed = ", ".join(f"{sweep} {epochs}" for sweep, epochs in budgets.items())
        lines.append(f"full budgets differ ({listed} epochs), so a schedule of the learning rate is at another step")
    return lines


def _data(sweeps: Sequence[tuple[SweepPlan, SweepState]]) -> set[str]:
    """Return the different settings that select validation images, as text; a setting that is absent is the default."""
    defaults = {"data.name": DataConfig().name}
    return {
        repr(sorted((name, value) for name, value in {**defaults, **trial.config}.items() if _selects_images(name)))
        for _, state in sweeps
        for trial in state.trials.values()
    }


def _selects_images(name: str) -> bool:
    return name in OF_IMAGES or name.startswith("data.args.")
