"""Comparison of search policies on one table: each combination of sampler, scheduler, budget and number of workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from orchestrator.errors import SpecError, quoted
from orchestrator.planning.loading import override
from orchestrator.simulation.surrogate import Surrogate
from orchestrator.simulation.whole_search import given_points, search
from search_spaces import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.simulation.objective_value import Value
    from orchestrator.simulation.tables import Table
    from orchestrator.simulation.whole_search import Outcome
    from orchestrator.spec.model import SweepSpec

FIELD = re.compile(r"[a-z_.]+=.*")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy; ``sampler`` is None where points are given, ``budget`` where the scheduler has none."""

    sampler: str | None
    scheduler: str
    budget: float | None
    workers: int

    def __str__(self) -> str:
        """Return the policy in words."""
        parts = [self.sampler, self.scheduler, None if self.budget is None else f"budget {self.budget:g}"]
        words = ", ".join(part for part in parts if part is not None)
        return f"{words}, {self.workers} worker{'s' if self.workers > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of paired sweeps, and half of the width of its 95 % interval; infinite for one sweep."""

    value: float
    margin: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Return the mean of values, with Student's interval.

        >>> mean = Mean.of([1.0, 2.0, 3.0])
        >>> mean.value, round(mean.margin, 3)
        (2.0, 2.484)
        """
        if len(values) < 2:
            return cls(fmean(values), float("inf"))
        from scipy.stats import t  # type: ignore[import-untyped]  # noqa: PLC0415  the simulator alone needs it

        width = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
        return cls(fmean(values), width)


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of a policy over sweeps that are paired by seed; ``against_first`` is its regret less the first policy's.

    ``epochs`` and ``passes`` are the shares of all epochs, and of all gradient evaluations, that a sweep spent.
    """

    policy: Policy
    regrets: tuple[float, ...]
    regret: Mean
    against_first: Mean
    epochs: float
    passes: float
    hours: float


def policies(
    spec: SweepSpec,
    *,
    samplers: Sequence[str | None],
    schedulers: Sequence[str],
    budgets: Sequence[float],
    workers: Sequence[int],
) -> list[tuple[Policy, SweepSpec]]:
    """Return each combination, with its spec. A scheduler is ``NAME`` or ``NAME,FIELD=VALUE,...``.

    Budgets vary those schedulers alone that have one.

    Raises:
        SpecError: every setting that is wrong, in the words of a spec.
    """
    problems: list[Problem] = []
    combinations: list[tuple[Policy, SweepSpec]] = []
    for sampler in samplers:
        for scheduler in schedulers:
            try:
                combinations += _of(spec, sampler, scheduler, budgets, workers)
            except SpecError as error:
                problems += error.problems
    if problems:
        raise SpecError(dict.fromkeys(problems))
    return combinations


def _of(
    spec: SweepSpec, sampler: str | None, scheduler: str, budgets: Sequence[float], workers: Sequence[int]
) -> Iterator[tuple[Policy, SweepSpec]]:
    name, *fields = scheduler.split(",")
    if wrong := [field for field in fields if not FIELD.fullmatch(field)]:
        requirement = "must be NAME or NAME,FIELD=VALUE,..., such as asha,grace_period=3"
        raise SpecError([Problem(f"--schedulers {scheduler}", f"{requirement}; got {quoted(wrong[0])}")])
    if name == "pbt":
        reason = "no recorded curve tells how a trial goes on whose values change in the middle of training"
        raise SpecError([Problem(f"--schedulers {scheduler}", f"cannot be simulated: {reason}; launch it")])
    settings = [f"scheduler.name={name}", *(f"scheduler.{field}" for field in fields)]
    if sampler is not None:
        settings.append(f"search.sampler={sampler}")
    plain = override(spec, settings)
    has_budget = plain.scheduler.is_budgeted and not any(field.startswith("budget_fraction=") for field in fields)
    for budget in budgets if has_budget else [None]:
        at = plain if budget is None else override(plain, [f"scheduler.budget_fraction={budget}"])
        for count in workers:
            yield Policy(sampler, scheduler, budget, count), at


def compare(
    chosen: Sequence[tuple[Policy, SweepSpec]],
    truth: Surrogate | Table,
    value: Value,
    *,
    sweeps: int,
    progress: Callable[[Policy], None] = lambda _: None,
) -> list[Score]:
    """Run so many sweeps of each policy, paired by seed: whole searches on a surrogate, or given points of a table."""
    scores: list[Score] = []
    for policy, spec in chosen:
        progress(policy)
        outcomes = [_outcome(policy, spec, truth, value, seed) for seed in range(sweeps)]
        regrets = tuple(outcome.regret for outcome in outcomes)
        first = scores[0].regrets if scores else regrets
        scores.append(
            Score(
                policy,
                regrets,
                regret=Mean.of(regrets),
                against_first=Mean.of([regret - other for regret, other in zip(regrets, first, strict=True)]),
                epochs=fmean(outcome.epochs / outcome.full_epochs for outcome in outcomes),
                passes=fmean(outcome.share for outcome in outcomes),
                hours=fmean(outcome.ended_at_s for outcome in outcomes) / 3600,
            )
        )
    return scores


def _outcome(policy: Policy, spec: SweepSpec, truth: Surrogate | Table, value: Value, seed: int) -> Outcome:
    if isinstance(truth, Surrogate):
        return search(spec, truth, objective=str(value), workers=policy.workers, seed=seed)
    return given_points(spec, truth, value, workers=policy.workers, seed=seed)
