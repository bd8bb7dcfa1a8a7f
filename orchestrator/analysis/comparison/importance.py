"""Importance of searched parameters at one epoch, by fANOVA and PED-ANOVA of Optuna, with bootstrap intervals.

fANOVA (Hutter et al. 2014) is the share of the objective's variance, PED-ANOVA (Watanabe et al. 2023) the share in
what sets the best tenth of the trials apart. A parameter that may be off is two: a switch, and its strength, which
trials with the switch off have in the middle, as fANOVA's authors do with inactive parameters.
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import OrchestratorError
from search_spaces import Choice, ZeroOr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import optuna

    from orchestrator.analysis.comparison.comparison import Comparison
    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState
    from search_spaces import SearchSpace

LEAST_TRIALS = 8
TREES = 32
RESAMPLED_TREES = 8
"""Trees of fANOVA over resampled trials: fewer cost a fourth, and make intervals a little wider."""
RESAMPLES = 20
MIDDLE = 0.5
"""Quantile that stands for a parameter that a trial does not have."""

Row: TypeAlias = "dict[str, float | str]"
Shares: TypeAlias = "Callable[[optuna.Study, list[str]], dict[str, float]]"


@dataclass(frozen=True)
class Importance:
    """Share of each feature, by its name in words, with the middle 95 % over resampled trials; the largest first."""

    method: str
    shares: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def features_of(space: SearchSpace, point: dict[str, Any]) -> Row:
    """Return the coordinates of a point: quantiles, labels of unordered choices, and switches as 'off' and 'on'.

    >>> from search_spaces import catalog
    >>> features_of(catalog.mixup(), {"mixup.alpha": 0.0})["mixup.alpha: off or on"]
    'off'
    """
    row: Row = {}
    for name, domain in space.parameters.items():
        value, inner = point.get(name), domain
        if isinstance(domain, ZeroOr):
            row[f"{name}: off or on"] = "on" if value else "off"
            inner = domain.domain
        label = f"{name}: strength" if isinstance(domain, ZeroOr) else name
        if isinstance(inner, Choice) and not inner.ordered:
            row[label] = str(value) if name in point else "not set"
        else:
            row[label] = inner.to_unit(value) if name in point and inner.contains(value) else MIDDLE
    return row


def importances(plan: SweepPlan, state: SweepState, comparison: Comparison) -> list[Importance]:
    """Return the importances by both methods over the compared trials.

    Raises:
        OrchestratorError: fewer than 8 trials, or all with one value, or no parameter with two values.
    """
    rows = [features_of(plan.spec.space, state.trials[name].point) for name in comparison.values]
    values = list(comparison.values.values())
    names = [name for name in rows[0] if len({row[name] for row in rows}) > 1]
    if len(rows) < LEAST_TRIALS or len(set(values)) < 2 or not names:
        raise OrchestratorError(
            f"{plan.sweep}: importance needs {LEAST_TRIALS} trials at epoch {comparison.epoch} with different values "
            f"and points, got {len(rows)} trials with {len(set(values))} values; choose an earlier one with --epoch"
        )
    rng = random.Random(plan.spec.search.seed)  # noqa: S311  an estimate, not a secret
    methods: dict[str, tuple[Shares, Shares]] = {
        "fANOVA": (partial(_fanova, trees=TREES), partial(_fanova, trees=RESAMPLED_TREES)),
        "PED-ANOVA": (_ped_anova, _ped_anova),
    }
    return [
        _with_intervals(method, evaluate, rows, values, names, mode=comparison.mode, rng=rng)
        for method, evaluate in methods.items()
    ]


def _with_intervals(
    method: str,
    evaluate: tuple[Shares, Shares],
    rows: Sequence[Row],
    values: Sequence[float],
    names: list[str],
    *,
    mode: str,
    rng: random.Random,
) -> Importance:
    shares = _shares(evaluate[0], rows, values, names, mode=mode)
    resampled = []
    for _ in range(RESAMPLES):
        chosen = rng.choices(range(len(rows)), k=len(rows))
        if len({values[index] for index in chosen}) > 1:
            some = [rows[index] for index in chosen], [values[index] for index in chosen]
            resampled.append(_shares(evaluate[1], *some, names, mode=mode))
    order = sorted(shares, key=lambda name: (-shares[name], name))
    return Importance(
        method,
        {name: shares[name] for name in order},
        {name: _middle([one[name] for one in resampled] or [shares[name]]) for name in order},
    )


def _middle(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))]


def _shares(
    evaluate: Shares,
    rows: Sequence[Row],
    values: Sequence[float],
    names: list[str],
    *,
    mode: str,
) -> dict[str, float]:
    """Return shares that sum to 1; a feature with one value has none."""
    varied = [name for name in names if len({row[name] for row in rows}) > 1]
    raw = evaluate(_study(rows, values, varied, mode=mode), varied) if varied else {}
    total = float(sum(raw.values()))
    return {name: float(raw.get(name, 0.0)) / total if total > 0 else 0.0 for name in names}


def _study(rows: Sequence[Row], values: Sequence[float], names: list[str], *, mode: str) -> optuna.Study:
    import optuna  # noqa: PLC0415  costs a second

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = optuna.distributions
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: known.FloatDistribution(0.0, 1.0)
        if isinstance(rows[0][name], float)
        else known.CategoricalDistribution(sorted({str(row[name]) for row in rows}))
        for name in names
    }
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    for row, value in zip(rows, values, strict=True):
        params = {name: row[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def _fanova(study: optuna.Study, names: list[str], *, trees: int) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator  # noqa: PLC0415

    return FanovaImportanceEvaluator(n_trees=trees, seed=0).evaluate(study, names)


def _ped_anova(study: optuna.Study, names: list[str]) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few trials: the intervals show that
        return PedAnovaImportanceEvaluator().evaluate(study, names)
