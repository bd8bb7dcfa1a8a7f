"""Effect of each method: trials that use it alone against the baseline, at the epoch of comparison."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.spec.baseline import strengths_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial

RESAMPLES = 2_000
NONE_ON = "no method"


@dataclass(frozen=True)
class Effect:
    """Trials with the same methods on: ``differences`` to the baseline by trial, their mean, its 95 % interval.

    ``interval`` is None for fewer than two trials.
    """

    methods: str
    differences: dict[str, float]
    mean: float
    interval: tuple[float, float] | None


def methods_on(trial: Trial, strengths: Sequence[str]) -> str:
    """Return the methods of a trial that are on, by the names of their strengths."""
    on = [name for name in strengths if trial.config.get(name)]
    return " + ".join(on) or NONE_ON


def effects(plan: SweepPlan, state: SweepState, comparison: Comparison) -> list[Effect]:
    """Return the effects of every set of methods that some trials have on: no method, one alone, then several.

    Empty if the baseline has no value at the epoch of comparison.
    """
    baseline = comparison.values.get(comparison.baseline or "")
    if baseline is None:
        return []
    strengths = [name for name in strengths_of(plan.spec) if _varies(name, state)]
    groups: dict[str, dict[str, float]] = {}
    for name, value in sorted(comparison.values.items()):
        if name != comparison.baseline:
            on = methods_on(state.trials[name], strengths)
            groups.setdefault(on, {})[name] = value - baseline
    order = sorted(groups, key=lambda on: (on != NONE_ON, on.count("+"), on))
    return [
        Effect(on, groups[on], fmean(groups[on].values()), bootstrap_mean(groups[on], seed=plan.spec.search.seed))
        for on in order
    ]


def bootstrap_mean(values: Mapping[str, float], *, seed: int) -> tuple[float, float] | None:
    """Return the middle 95 % of the means of resampled trials, None for fewer than two trials.

    >>> bootstrap_mean({"a": 1.0}, seed=0), bootstrap_mean({"a": 1.0, "b": 1.0}, seed=0)
    (None, (1.0, 1.0))
    """
    some = list(values.values())
    if len(some) < 2:
        return None
    rng = random.Random(seed)  # noqa: S311  an estimate, not a secret
    means = sorted(fmean(rng.choices(some, k=len(some))) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]


def _varies(name: str, state: SweepState) -> bool:
    return any(trial.config.get(name) for trial in state.trials.values())
