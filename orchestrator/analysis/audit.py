"""Audit: estimate the cost of early stopping from rejected trials, sampled blind, that ran to their end."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.decisions.trial_views import values_at
from trainables.evaluation.core import intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.plan import SweepPlan
    from orchestrator.state.sweep_state import SweepState, Trial

RESAMPLES = 1_000
LEAST_PAIRS = 3
Pair: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN if too little was measured."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format the value and its interval.

        >>> str(Estimate(0.1, 0.02, 0.35))
        '0.1 (95 %: 0.02 to 0.35)'
        """
        return f"{self.value:.3g} (95 %: {self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True)
class Audit:
    """Errors of early stopping, measured by the first objective.

    ``false_stop_rate``: share of the rejected trials that would have beaten the best trial that was not rejected.
    ``regret``: margin by which the best of all rejected trials would have beaten it, in the objective's unit.
    ``rank_correlation``: for each rung, Spearman's, of the values at the rung with the final ones, over all trials.
    """

    rejected: int
    audited: int
    false_stops: int
    false_stop_rate: Estimate
    regret: Estimate
    rank_correlation: dict[int, Estimate]

    def lines(self) -> list[str]:
        """Format the audit for people, as lines."""
        if not self.audited:
            return [f"audit: none of {self.rejected} rejected trials has run to its end"]
        return [
            f"audit: {self.audited} of {self.rejected} rejected trials ran on, {self.false_stops} beat the best kept",
            f"  false stops: {self.false_stop_rate}",
            f"  regret: {self.regret}",
            *(f"  rank correlation of rung {rung} with the end: {r}" for rung, r in self.rank_correlation.items()),
        ]


def audit(plan: SweepPlan, state: SweepState) -> Audit:
    """Audit a sweep; a function of its log.

    Intervals: Wilson's for the rate. For the regret, gains of the rejected trials that did not run on are sampled from
    those that did. For the correlations both the kept and the audited trials are resampled, the audited ones as often
    as there were rejected ones.
    """
    finals = {trial.id: _final(trial, plan) for trial in state.trials.values() if trial.status == "completed"}
    rejected = [trial for trial in state.trials.values() if _was_rejected(trial)]
    audited = [trial for trial in rejected if trial.id in finals]
    kept = [trial for trial in state.trials.values() if trial.id in finals and trial.blind_from is None]
    best = max((finals[trial.id] for trial in kept), default=-math.inf)
    gains = [max(0.0, finals[trial.id] - best) for trial in audited] if kept else []
    false_stops = sum(gain > 0 for gain in gains)
    rng = random.Random(plan.spec.search.seed)  # noqa: S311  an estimate, not a secret
    return Audit(
        rejected=len(rejected),
        audited=len(audited),
        false_stops=false_stops,
        false_stop_rate=wilson(false_stops, len(audited)),
        regret=_regret(gains, unknown=len(rejected) - len(audited), rng=rng),
        rank_correlation={
            rung: _rank_correlation(
                _pairs(kept, rung, plan), _pairs(audited, rung, plan), rejected=len(rejected), rng=rng
            )
            for rung in (plan.rungs if plan.spec.scheduler.rung_unit == "epochs" else ())
        },
    )


def _was_rejected(trial: Trial) -> bool:
    """Return True if early stopping rejected the trial: one that a user stopped says nothing about it."""
    return trial.blind_from is not None or (trial.status == "stopped" and not trial.stopped_by_order)


def wilson(hits: int, trials: int) -> Estimate:
    """Return a rate with its 95 % score interval (Wilson 1927).

    >>> wilson(1, 10)
    Estimate(value=0.1, low=0.017..., high=0.404...)
    """
    return Estimate(hits / trials if trials else math.nan, *intervals.wilson(hits, trials))


def _final(trial: Trial, plan: SweepPlan) -> float:
    return values_at(trial, trial.epoch, plan.spec)[0]


def _regret(gains: Sequence[float], *, unknown: int, rng: random.Random) -> Estimate:
    """Estimate the largest gain of all rejected trials; unknown gains are sampled from the known ones."""
    if not gains:
        return Estimate(math.nan, math.nan, math.nan)
    return _estimate([max(0.0, *gains, *rng.choices(gains, k=unknown)) for _ in range(RESAMPLES)])


def _pairs(trials: Sequence[Trial], rung: int, plan: SweepPlan) -> list[Pair]:
    """Return each trial's value at a rung with its final value."""
    return [(values_at(trial, rung, plan.spec)[0], _final(trial, plan)) for trial in trials if rung in trial.epochs]


def _rank_correlation(kept: Sequence[Pair], audited: Sequence[Pair], *, rejected: int, rng: random.Random) -> Estimate:
    if len(kept) + len(audited) < LEAST_PAIRS or (rejected and not audited):
        return Estimate(math.nan, -1.0, 1.0)
    resampled = [
        spearman([*rng.choices(kept, k=len(kept)), *(rng.choices(audited, k=rejected) if audited else [])])
        for _ in range(RESAMPLES)
    ]
    return _estimate([value for value in resampled if math.isfinite(value)])


def spearman(pairs: Sequence[Pair]) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank; NaN if one side is constant.

    >>> spearman([(1.0, 3.0), (2.0, 5.0), (3.0, 4.0)])
    0.5
    """
    first, second = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    mean = fmean(first)
    products = sum((a - mean) * (b - mean) for a, b in zip(first, second, strict=True))
    spread = math.sqrt(sum((a - mean) ** 2 for a in first) * sum((b - mean) ** 2 for b in second))
    return products / spread if spread else math.nan


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) - 1) / 2 for value in values]


def _estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and the middle 95 % of resampled values."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    ordered = sorted(values)
    return Estimate(fmean(values), ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))])
